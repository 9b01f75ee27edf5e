"""The authors' CornerNet and CenterNet (triplets) checkpoints -> ours, for `import-weights`.

The state dict is that of a module with `backbone` (our Hourglass) and `core` (CornerNet or
CenterNetTriplets). No number changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from metaheads.messages import list_some
from metaheads.weights.convert import Coverage, Rule, rename_keys
from metaheads.weights.importers import Importer, register_importer

_MODULE = r"(?:module\.)?"
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


register_importer(
    Importer(
        name="centernet_triplets",
        signature=r"(module\.)?ct_heats\.\d\.1\.weight",
        convert=convert,
        source="https://github.com/Duankaiwen/CenterNet",
        licence="MIT",
    )
)
register_importer(
    Importer(
        name="cornernet",
        signature=r"(module\.)?tl_heats\.\d\.1\.weight",
        convert=convert,
        source="https://github.com/princeton-vl/CornerNet",
        licence="BSD-3-Clause",
    )
)
