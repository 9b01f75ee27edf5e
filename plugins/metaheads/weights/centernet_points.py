"""CenterNet (objects as points) checkpoints of the authors and of MMDetection -> ours.

The authors' are xingyizhou/CenterNet's, MMDetection's those of its `CenterNet` (ResNet-18). The
state dict is that of a module with `backbone` (our DLA, DeconvResNet or Hourglass) and `core`
(CenterNetPoints). No number changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from metaheads.messages import list_some
from metaheads.weights.convert import Coverage, Rule, rename_keys
from metaheads.weights.importers import Importer, register_importer

_HEADS = "hm|wh|reg|hps|hm_hp|hp_offset"
_MODULE = r"(?:module\.)?"
_RULES: tuple[Rule, ...] = (
    (rf"{_MODULE}({_HEADS})\.([02])\.(weight|bias)", r"core.heads.0.\1.\2.\3"),
    # Of an hourglass: a head for each stack, whose hidden convolution has a name of its own.
    (rf"{_MODULE}({_HEADS})\.(\d)\.0\.conv\.(weight|bias)", r"core.heads.\2.\1.0.\3"),
    (rf"{_MODULE}({_HEADS})\.(\d)\.1\.(weight|bias)", r"core.heads.\2.\1.2.\3"),
    # The ImageNet classifier of DLA, which nothing uses.
    (rf"{_MODULE}base\.fc\.(?:weight|bias)", None),
    # Of DLA's deeper levels, whose own two halves have such a layer: nothing uses it either.
    (rf"{_MODULE}base\.level[34]\.project\..+", None),
    (rf"{_MODULE}((?:base|dla_up|ida_up)\..+)", r"backbone.\1"),
    (rf"{_MODULE}((?:pre|kps|cnvs|inters|inters_|cnvs_)\..+)", r"backbone.\1"),
    (rf"{_MODULE}((?:conv1|bn1|layer[1-4]|deconv_layers)\..+)", r"backbone.\1"),
)


def convert(
    state_dict: Mapping[str, Tensor], *, complete: bool = True
) -> tuple[dict[str, Tensor], Coverage]:
    """Renames a checkpoint of the authors; what nothing uses in DLA is reported.

    Args:
        state_dict: the authors' names, with or without "module." in front.
        complete: heatmap, size and offset heads must be there; False for a part of a checkpoint.

    Raises:
        KeyError: entries that CenterNet does not have, or missing heads.
    """
    converted, coverage = rename_keys(
        state_dict, _RULES, "a checkpoint of the authors of CenterNet"
    )
    needed = [f"core.heads.0.{name}.2.weight" for name in ("hm", "wh", "reg")]
    missing = [name for name in needed if name not in converted]
    if missing and complete:
        raise KeyError(
            f"the authors' CenterNet checkpoint lacks {list_some(missing)}: the file is not "
            "complete, or of another model; download it again"
        )
    return converted, coverage


_MMDET: tuple[Rule, ...] = (
    (r"backbone\.(.+)", r"backbone.\1"),
    *(
        rule
        for index in range(6)
        for rule in (
            (
                rf"neck\.deconv_layers\.{index}\.conv\.conv_offset\.(\w+)",
                rf"backbone.deconv_layers.{3 * index}.conv_offset_mask.\1",
            ),
            (
                rf"neck\.deconv_layers\.{index}\.conv\.(\w+)",
                rf"backbone.deconv_layers.{3 * index}.\1",
            ),
            (
                rf"neck\.deconv_layers\.{index}\.bn\.(\w+)",
                rf"backbone.deconv_layers.{3 * index + 1}.\1",
            ),
        )
    ),
    (r"bbox_head\.heatmap_head\.(.+)", r"core.heads.0.hm.\1"),
    (r"bbox_head\.wh_head\.(.+)", r"core.heads.0.wh.\1"),
    (r"bbox_head\.offset_head\.(.+)", r"core.heads.0.reg.\1"),
    (r"data_preprocessor\..+", None),
)


def convert_mmdet(
    state_dict: Mapping[str, Tensor], *, complete: bool = True
) -> tuple[dict[str, Tensor], Coverage]:
    """Renames a checkpoint of MMDetection's CenterNet, for a DeconvResNet with "plain" or
    "deformable" convolutions; its deformable ones have no bias, ours get one of zero.

    It sees RGB with MMDetection's usual mean and deviation.

    Raises:
        KeyError: entries that it does not have.
    """
    converted, coverage = rename_keys(state_dict, _MMDET, "a checkpoint of MMDetection's CenterNet")
    for name in [name for name in converted if name.endswith(".conv_offset_mask.weight")]:
        layer = name.removesuffix(".conv_offset_mask.weight")
        weight = converted[f"{layer}.weight"]
        converted.setdefault(f"{layer}.bias", weight.new_zeros(weight.shape[0]))
    return converted, coverage


register_importer(
    Importer(
        name="mmdet_centernet",
        signature=r"bbox_head\.heatmap_head\..+",
        convert=convert_mmdet,
        source="https://github.com/open-mmlab/mmdetection/tree/main/configs/centernet",
        licence="Apache-2.0",
    )
)
register_importer(
    Importer(
        name="centernet_points",
        signature=r"(module\.)?(hm|wh)\.0\.(weight|0\.conv\.weight)",
        convert=convert,
        source="https://github.com/xingyizhou/CenterNet",
        licence="MIT",
    )
)
