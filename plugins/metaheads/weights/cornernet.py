"""CornerNet and CenterNet (triplets) checkpoints of the authors, and MMDetection's CornerNet, ->
ours, for `import-weights`.

The state dict is that of a module with `backbone` (our Hourglass) and `core` (CornerNet or
CenterNetTriplets). No number changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from metaheads.messages import list_some
from metaheads.weights.convert import Coverage, Rule, rename_keys
from metaheads.weights.importers import Importer, register_importer

_MODULE = r"(?:module\.)?"
_CENTRES = rf"{_MODULE}ct_heats\.\d\.1\.weight"  # of triplets, which have all else, too
_HEADS = {"heats": "heat", "tags": "tag", "regrs": "offset"}
_RULES: tuple[Rule, ...] = (
    (rf"{_MODULE}((?:pre|kps|cnvs|inters|inters_|cnvs_)\..+)", r"backbone.\1"),
    (rf"{_MODULE}(tl|br|ct)_cnvs\.(\d)\.(.+)", r"core.stacks.\2.\1.pool.\3"),
    *(
        rule
        for theirs, ours in _HEADS.items()
        for rule in (
            (
                rf"{_MODULE}(tl|br|ct)_{theirs}\.(\d)\.0\.conv\.(\w+)",
                rf"core.stacks.\2.\1.{ours}.0.\3",
            ),
            (rf"{_MODULE}(tl|br|ct)_{theirs}\.(\d)\.1\.(\w+)", rf"core.stacks.\2.\1.{ours}.2.\3"),
        )
    ),
)


def convert(
    state_dict: Mapping[str, Tensor], *, complete: bool = True
) -> tuple[dict[str, Tensor], Coverage]:
    """Renames a checkpoint of the authors of CornerNet or CenterNet (triplets).

    Args:
        state_dict: the authors' names, with or without "module." in front.
        complete: both corners' heads must be there; False for a part of a checkpoint.

    Raises:
        KeyError: entries that these do not have, or missing heads.
    """
    converted, coverage = rename_keys(state_dict, _RULES, "a checkpoint of CornerNet's authors")
    needed = [f"core.stacks.0.{kind}.heat.2.weight" for kind in ("tl", "br")]
    missing = [name for name in needed if name not in converted]
    if missing and complete:
        raise KeyError(
            f"the authors' CornerNet checkpoint lacks {list_some(missing)}: the file is not "
            "complete, or of another model; download it again"
        )
    return converted, coverage


# MMDetection's parts of a pooled feature -> ours.
_POOL = {
    "direction1_conv": "p1_conv1",
    "direction2_conv": "p2_conv1",
    "aftpool_conv.conv": "p_conv1",
    "aftpool_conv.bn": "p_bn1",
    "conv1.conv": "conv1",
    "conv1.bn": "bn1",
    "conv2": "conv2",
}
_MMDET_HEADS = {"heat": "heat", "emb": "tag", "off": "offset"}
_MMDET: tuple[Rule, ...] = (
    (r"backbone\.stem\.0\.(.+)", r"backbone.pre.0.\1"),
    (r"backbone\.stem\.1\.0\.downsample\.(.+)", r"backbone.pre.1.skip.\1"),
    (r"backbone\.stem\.1\.0\.(.+)", r"backbone.pre.1.\1"),
    (r"backbone\.hourglass_modules\.(.+)\.downsample\.(.+)", r"backbone.kps.\1.skip.\2"),
    (r"backbone\.hourglass_modules\.(.+)", r"backbone.kps.\1"),
    (r"backbone\.inters\.(.+)", r"backbone.inters.\1"),
    (r"backbone\.out_convs\.(.+)", r"backbone.cnvs.\1"),
    *(
        (rf"backbone\.{theirs}\.(\d)\.{part}\.(\w+)", rf"backbone.{ours}.\1.{place}.\2")
        for theirs, ours in (("conv1x1s", "inters_"), ("remap_convs", "cnvs_"))
        for place, part in enumerate(("conv", "bn"))
    ),
    *(
        (
            rf"bbox_head\.(tl|br)_pool\.(\d)\.{re.escape(theirs)}\.(.+)",
            rf"core.stacks.\2.\1.pool.{ours}.\3",
        )
        for theirs, ours in _POOL.items()
    ),
    *(
        (
            rf"bbox_head\.(tl|br)_{theirs}\.(\d)\.{index}\.conv\.(\w+)",
            rf"core.stacks.\2.\1.{ours}.{2 * index}.\3",
        )
        for theirs, ours in _MMDET_HEADS.items()
        for index in (0, 1)
    ),
    (r"data_preprocessor\..+", None),
)


def convert_mmdet(
    state_dict: Mapping[str, Tensor], *, complete: bool = True
) -> tuple[dict[str, Tensor], Coverage]:
    """Renames a checkpoint of MMDetection's CornerNet, which sees RGB with MMDetection's usual mean
    and deviation.

    Raises:
        KeyError: entries that it does not have.
    """
    return rename_keys(state_dict, _MMDET, "a checkpoint of MMDetection's CornerNet")


register_importer(
    Importer(
        name="mmdet_cornernet",
        signature=r"bbox_head\.tl_pool\..+",
        convert=convert_mmdet,
        source="https://github.com/open-mmlab/mmdetection/tree/main/configs/cornernet",
        licence="Apache-2.0",
    )
)
register_importer(
    Importer(
        name="centernet_triplets",
        signature=_CENTRES,
        convert=convert,
        source="https://github.com/Duankaiwen/CenterNet",
        licence="MIT",
    )
)
register_importer(
    Importer(
        name="cornernet",
        signature=rf"{_MODULE}tl_heats\.\d\.1\.weight",
        absent=_CENTRES,
        convert=convert,
        source="https://github.com/princeton-vl/CornerNet",
        licence="BSD-3-Clause",
    )
)
