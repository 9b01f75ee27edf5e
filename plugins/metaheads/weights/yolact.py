"""The authors' YOLACT and YOLACT++ checkpoints (dbolya/yolact) -> ours, for `import-weights`.

The state dict is that of a module with `backbone` (our DeformableResNet, Darknet53, or any ResNet
by `to_host`) and `core` (Yolact). No number changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from metaheads.messages import list_some
from metaheads.weights.convert import Coverage, Rule, rename_keys
from metaheads.weights.importers import Importer, register_importer

_CORE: tuple[Rule, ...] = (
    (r"fpn\.(lat_layers|pred_layers)\.([012])\.(\w+)", r"core.fpn.\1.\2.\3"),
    (r"fpn\.downsample_layers\.([01])\.(\w+)", r"core.fpn.downsample_layers.\1.\2"),
    (r"proto_net\.(.+)", r"core.proto_net.\1"),
    (r"prediction_layers\.0\.upfeature\.0\.(\w+)", r"core.head.upfeature.\1"),
    (r"prediction_layers\.0\.(bbox|conf|mask)_layer\.(\w+)", r"core.head.\1_layer.\2"),
    (r"semantic_seg_conv\.(\w+)", r"core.semantic_seg_conv.\1"),
    (r"maskiou_net\.maskiou_net\.(.+)", r"core.mask_iou_net.layers.\1"),
    # Files of version 1.0 carry more FPN levels than the network has; the authors drop them too.
    (r"fpn\.downsample_layers\.\d+\.\w+", None),
)
_RESNET: tuple[Rule, ...] = (
    (r"backbone\.(conv1|bn1)\.(.+)", r"backbone.\1.\2"),
    *((rf"backbone\.layers\.{s}\.(.+)", rf"backbone.layer{s + 1}.\1") for s in range(4)),
    # Files of version 1.0 carry the stages a second time.
    (r"backbone\.layer\d\..+", None),
)
_DARKNET: tuple[Rule, ...] = (
    (r"backbone\._preconv\.(.+)", r"backbone.preconv.\1"),
    (r"backbone\.layers\.(.+)", r"backbone.layers.\1"),
)
_LAYERS = (
    *(f"fpn.{kind}_layers.{index}" for kind in ("lat", "pred") for index in range(3)),
    *(f"fpn.downsample_layers.{index}" for index in range(2)),
    *(f"proto_net.{index}" for index in (0, 2, 4, 8, 10)),
    *(f"head.{name}" for name in ("upfeature", "bbox_layer", "conf_layer", "mask_layer")),
    "semantic_seg_conv",
)


def convert(
    state_dict: Mapping[str, Tensor], *, complete: bool = True
) -> tuple[dict[str, Tensor], Coverage]:
    """Renames a checkpoint of the authors; what version 1.0 stored in vain is reported as unused.

    Args:
        state_dict: the authors' names.
        complete: all layers of the core must be there; False for a part of a checkpoint.

    Raises:
        KeyError: entries that YOLACT does not have, or missing layers.
    """
    darknet = any(name.startswith("backbone._preconv.") for name in state_dict)
    rules = _CORE + (_DARKNET if darknet else _RESNET)
    converted, coverage = rename_keys(state_dict, rules, "a checkpoint of the authors of YOLACT")
    needed = [f"core.{layer}.{kind}" for layer in _LAYERS for kind in ("weight", "bias")]
    needed.append("backbone.preconv.0.weight" if darknet else "backbone.conv1.weight")
    missing = [name for name in needed if name not in converted]
    if missing and complete:
        raise KeyError(
            f"the authors' YOLACT checkpoint lacks {list_some(missing)}: the file is not complete, "
            "or of another model; download it again"
        )
    return converted, coverage


register_importer(
    Importer(
        name="yolact",
        signature=r"prediction_layers\.0\..+",
        convert=convert,
        source="https://github.com/dbolya/yolact",
        licence="MIT",
    )
)
