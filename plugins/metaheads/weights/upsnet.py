"""UPSNet checkpoints of the authors -> ours, for `import-weights`.

The state dict is that of a module with `core` (UPSNet); the region part is the host's.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from metaheads.weights.convert import Coverage, Rule, rename_keys

_MODULE = r"(?:module\.)?"
_HEAD = rf"{_MODULE}fcn_head\.fcn_subnet\.conv"
_RULES: tuple[Rule, ...] = (
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


def convert(
    state_dict: Mapping[str, Tensor], *, complete: bool = True
) -> tuple[dict[str, Tensor], Coverage]:
    """Renames the authors' entries.

    Raises:
        KeyError: entries that these do not have.
    """
    return rename_keys(state_dict, _RULES, "a checkpoint of UPSNet's authors")
