"""UPSNet checkpoints of the authors -> ours, for `import-weights`.

The state dict is that of MMDetection's model, which `to_host` renames for Detectron2: `backbone`,
`neck`, `rpn_head`, `roi_head`, `core`. The background moves from the first class to the last, and
is left out where boxes and masks have one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metaheads.messages import list_some
from metaheads.weights.convert import Coverage, Rule, rename_keys
from metaheads.weights.importers import Importer, register_importer

_MODULE = r"(?:module\.)?"
_BODY = rf"{_MODULE}resnet_backbone"
_HEAD = rf"{_MODULE}fcn_head\.fcn_subnet\.conv"
_ROI = "roi_head"
_RULES: tuple[Rule, ...] = (
    (rf"{_BODY}\.conv1\.(conv|bn)1\.(\w+)", r"backbone.\g<1>1.\2"),
    *(
        rule
        for stage in (2, 3, 4, 5)
        for rule in (
            (
                rf"{_BODY}\.res{stage}\.layers\.(\d+)\.conv2_offset\.(\w+)",
                rf"backbone.layer{stage - 1}.\1.conv2.conv_offset.\2",
            ),
            (rf"{_BODY}\.res{stage}\.layers\.(\d+)\.(.+)", rf"backbone.layer{stage - 1}.\1.\2"),
        )
    ),
    *(
        rule
        for level in (2, 3, 4, 5)
        for rule in (
            (rf"{_MODULE}fpn\.fpn_p{level}_1x1\.(\w+)", rf"neck.lateral_convs.{level - 2}.conv.\1"),
            (rf"{_MODULE}fpn\.fpn_p{level}\.(\w+)", rf"neck.fpn_convs.{level - 2}.conv.\1"),
        )
    ),
    (rf"{_MODULE}fpn\.fpn_gap\.(\w+)", r"neck.gap.\1"),
    (rf"{_MODULE}rpn\.conv_proposal\.0\.(\w+)", r"rpn_head.rpn_conv.\1"),
    (rf"{_MODULE}rpn\.cls_score\.(\w+)", r"rpn_head.rpn_cls.\1"),
    (rf"{_MODULE}rpn\.bbox_pred\.(\w+)", r"rpn_head.rpn_reg.\1"),
    (rf"{_MODULE}rcnn\.fc6\.0\.(\w+)", rf"{_ROI}.bbox_head.shared_fcs.0.\1"),
    (rf"{_MODULE}rcnn\.fc7\.0\.(\w+)", rf"{_ROI}.bbox_head.shared_fcs.1.\1"),
    (rf"{_MODULE}rcnn\.cls_score\.(\w+)", rf"{_ROI}.bbox_head.fc_cls.\1"),
    (rf"{_MODULE}rcnn\.bbox_pred\.(\w+)", rf"{_ROI}.bbox_head.fc_reg.\1"),
    *(
        (
            rf"{_MODULE}mask_branch\.mask_conv{number}\.0\.(\w+)",
            rf"{_ROI}.mask_head.convs.{number - 1}.conv.\1",
        )
        for number in (1, 2, 3, 4)
    ),
    (rf"{_MODULE}mask_branch\.mask_deconv1\.0\.(\w+)", rf"{_ROI}.mask_head.upsample.\1"),
    (rf"{_MODULE}mask_branch\.mask_score\.(\w+)", rf"{_ROI}.mask_head.conv_logits.\1"),
    *(
        rule
        for layer in range(3)
        for rule in (
            (
                rf"{_HEAD}\.{layer}\.0\.conv_offset\.(\w+)",
                rf"core.semantic_head.subnet.{2 * layer}.conv_offset.\1",
            ),
            (rf"{_HEAD}\.{layer}\.0\.conv\.(\w+)", rf"core.semantic_head.subnet.{2 * layer}.\1"),
        )
    ),
    (rf"{_MODULE}fcn_head\.score\.(\w+)", r"core.semantic_head.score.\1"),
)
_NEEDED = ("core.semantic_head.score.weight", f"{_ROI}.bbox_head.fc_cls.weight")


def convert(
    state_dict: Mapping[str, Tensor], *, complete: bool = True
) -> tuple[dict[str, Tensor], Coverage]:
    """Renames the authors' entries and reorders their classes.

    Args:
        state_dict: the authors' names, with or without "module." in front.
        complete: semantic and box head must be there; False for a part of a checkpoint.

    Raises:
        KeyError: entries that these do not have, or missing heads.
    """
    converted, coverage = rename_keys(state_dict, _RULES, "a checkpoint of UPSNet's authors")
    missing = [name for name in _NEEDED if name not in converted]
    if missing and complete:
        raise KeyError(
            f"the authors' UPSNet checkpoint lacks {list_some(missing)}: the file is not complete, "
            "or of another model; download it again"
        )
    for kind in ("weight", "bias"):
        for layer, drops in (("bbox_head.fc_cls", 0), ("bbox_head.fc_reg", 4)):
            name = f"{_ROI}.{layer}.{kind}"
            if name in converted:
                rows = converted[name]
                converted[name] = rows[drops:] if drops else torch.cat((rows[1:], rows[:1]))
        name = f"{_ROI}.mask_head.conv_logits.{kind}"
        if name in converted:
            converted[name] = converted[name][1:]
    return converted, coverage


register_importer(
    Importer(
        name="upsnet",
        signature=rf"{_HEAD}\.0\.0\.conv_offset\.weight",
        convert=convert,
        source="https://github.com/uber-research/UPSNet",
        licence="non-commercial (Uber Non-Commercial License of the authors' code)",
    )
)
