"""RetinaFace checkpoints of biubug6 -> ours, for `import-weights`.

The state dict is that of a module with `backbone` (our MobileNetV1, SlimNet, or any ResNet by
`to_host`) and `core` (RetinaFace). No number changes.

biubug6 published two sets of weights: Pytorch_Retinaface ("retinaface") and
Face-Detector-1MB-with-landmark ("retinaface_1mb"). Their mobilenet0.25_Final.pth have the same
name, the same entries and the same shapes, but the second was trained with ReLU and smaller
anchors: which it is has to be said.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from metaheads.messages import list_some
from metaheads.weights.convert import Coverage, Rule, rename_keys
from metaheads.weights.importers import Importer, register_importer

_MODULE = r"(?:module\.)?"
_STAGE = "core.stages.0"
_HEADS = {"scores": ("ClassHead", "conf"), "boxes": ("BboxHead", "loc")}
_HEADS["keypoints"] = ("LandmarkHead", "landm")
_RULES: tuple[Rule, ...] = (
    (rf"{_MODULE}body\.(.+)", r"backbone.\1"),
    *(
        rule
        for level in (1, 2, 3)
        for rule in (
            (rf"{_MODULE}fpn\.output{level}\.(.+)", rf"core.fpn.laterals.{level - 1}.\1"),
            (rf"{_MODULE}fpn\.merge{level}\.(.+)", rf"core.fpn.merges.{level - 1}.\1"),
            (rf"{_MODULE}ssh{level}\.(.+)", rf"{_STAGE}.contexts.{level - 1}.\1"),
        )
    ),
    *(
        rule
        for name, (theirs, in_slim) in _HEADS.items()
        for rule in (
            (rf"{_MODULE}{theirs}\.(\d)\.conv1x1\.(\w+)", rf"{_STAGE}.heads.{name}.\1.\2"),
            (rf"{_MODULE}{in_slim}\.(\d)\.((?:\d\.)?\w+)", rf"{_STAGE}.heads.{name}.\1.\2"),
        )
    ),
    # The slim and RFB networks, and the ImageNet-trained MobileNet, have no "body".
    (rf"{_MODULE}(conv\d+\..+)", r"backbone.\1"),
    (rf"{_MODULE}(stage\d\..+)", r"backbone.\1"),
    (rf"{_MODULE}fc\.\w+", None),
)
_NEEDED = ("scores", "boxes", "keypoints")
_LARGE, _SMALL = ((16, 32), (64, 128), (256, 512)), ((10, 20), (32, 64), (128, 256))
# (origin, kind) -> what no entry of a file tells; slopes of core and backbone.
_NETWORKS: dict[tuple[str, str], dict[str, Any]] = {
    ("retinaface", "mobilenet"): {"anchor_sizes": _LARGE, "leaky_slope": (0.1, 0.1)},
    ("retinaface", "resnet"): {"anchor_sizes": _LARGE, "leaky_slope": (0, 0)},
    ("retinaface_1mb", "mobilenet"): {"anchor_sizes": _SMALL, "leaky_slope": (0, 0)},
    ("retinaface_1mb", "slim"): {
        "anchor_sizes": ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
    },
}


def convert(
    state_dict: Mapping[str, Tensor], *, complete: bool = True
) -> tuple[dict[str, Tensor], Coverage]:
    """Renames a checkpoint of biubug6.

    Args:
        state_dict: the authors' names, with or without "module." in front.
        complete: all heads must be there; False for a part, such as mobilenetV1X0.25_pretrain.tar.

    Raises:
        KeyError: entries that RetinaFace does not have, or missing heads.
    """
    converted, coverage = rename_keys(state_dict, _RULES, "a checkpoint of biubug6's RetinaFace")
    heads = {name: f"{_STAGE}.heads.{name}." for name in _NEEDED}
    missing = [n for n, head in heads.items() if not any(k.startswith(head) for k in converted)]
    if missing and complete:
        raise KeyError(
            f"the RetinaFace checkpoint lacks heads for {list_some(missing)}: the file is not "
            "complete, or of a backbone alone (--allow-partial takes it)"
        )
    return converted, coverage


def check_network(origin: str, module: nn.Module) -> None:
    """Whether the model of a config is the network that the weights were trained in.

    Raises:
        ValueError: it has other anchors or activations, which no entry of the file tells.
    """
    core: Any = getattr(module, "core", None)
    if not hasattr(core, "anchor_sizes"):
        return  # of another architecture: loading says so
    body: Any = module.backbone
    found = {"anchor_sizes": core.anchor_sizes}
    if core.fpn is None:
        kind = "slim"
    else:
        kind = "mobilenet" if hasattr(body, "leaky_slope") else "resnet"
        found["leaky_slope"] = (core.leaky_slope, getattr(body, "leaky_slope", core.leaky_slope))
    wanted = _NETWORKS.get((origin, kind), found)
    if unequal := [name for name in wanted if wanted[name] != found[name]]:
        raise ValueError(
            f"the {kind} network of {origin} was trained with {_spell(wanted, unequal)}, but the "
            f"config has {_spell(found, unequal)}: give the config of these weights, or the other "
            "--from (retinaface: biubug6/Pytorch_Retinaface, retinaface_1mb: "
            "biubug6/Face-Detector-1MB-with-landmark)"
        )


def _spell(options: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {options[name]}" for name in names)


register_importer(
    Importer(
        name="retinaface",
        signature=rf"{_MODULE}ClassHead\.0\.conv1x1\.weight",
        convert=convert,
        check=partial(check_network, "retinaface"),
        source="https://github.com/biubug6/Pytorch_Retinaface",
        licence="MIT",
    )
)
register_importer(
    Importer(
        name="retinaface_1mb",
        signature=rf"{_MODULE}(body\.stage1\.0\.0|landm\.0\.0)\.weight",
        convert=convert,
        check=partial(check_network, "retinaface_1mb"),
        source="https://github.com/biubug6/Face-Detector-1MB-with-landmark",
        licence="MIT",
    )
)
