"""The formats of other authors' checkpoints: what tells them apart and who converts them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from metaheads.weights.convert import Coverage


class Convert(Protocol):
    def __call__(
        self, state_dict: Mapping[str, Tensor], *, complete: bool = True
    ) -> tuple[dict[str, Tensor], Coverage]: ...


@dataclass(frozen=True)
class Importer:
    """One format.

    Attributes:
        name: what the command line calls it.
        signature: regular expression of an entry that only this format has, or one of another
            format that also has `absent`.
        convert: the authors' entries -> ours, strictly; unless `complete`, some may be missing.
        source: where the authors' code and weights come from.
        licence: of their weights.
        absent: regular expression of an entry that this format never has.
        check: whether a model of ours is the network of these weights, where their entries do not
            tell; raises ValueError.
    """

    name: str
    signature: str
    convert: Convert
    source: str
    licence: str
    absent: str | None = None
    check: Callable[[nn.Module], None] = lambda module: None


_IMPORTERS: dict[str, Importer] = {}


def register_importer(importer: Importer) -> Importer:
    """Makes a format known to `find_importer` and so to the tools."""
    _IMPORTERS[importer.name] = importer
    return importer


def find_importer(entries: Iterable[str], name: str | None = None) -> Importer | None:
    """The importer of this name, or the one whose signature is among the entries' names.

    Raises:
        ValueError: no importer has this name, or the entries are those of several formats; lists
            those there are.
    """
    if name is not None:
        if name not in _IMPORTERS:
            raise ValueError(f"no format {name!r}; known are {', '.join(sorted(_IMPORTERS))}")
        return _IMPORTERS[name]
    found = matching_importers(entries)
    if len(found) > 1:
        choices = " or ".join(f"--from {each.name} ({each.source})" for each in found)
        raise ValueError(
            f"the file's entries do not tell which network it is of: say {choices}; the wrong one "
            "would load, and find other boxes"
        )
    return found[0] if found else None


def matching_importers(entries: Iterable[str]) -> list[Importer]:
    """All whose signature is among the entries' names, and what they never have is not."""
    entries = list(entries)

    def is_there(pattern: str) -> bool:
        return any(map(re.compile(pattern).fullmatch, entries))

    return [
        each
        for each in _IMPORTERS.values()
        if is_there(each.signature) and not (each.absent and is_there(each.absent))
    ]
