"""The formats of other authors' checkpoints: what tells them apart and who converts them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

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
        signature: regular expression of an entry that only this format has.
        convert: the authors' entries -> ours, strictly; unless `complete`, some may be missing.
        source: where the authors' code and weights come from.
        licence: of their weights.
    """

    name: str
    signature: str
    convert: Convert
    source: str
    licence: str


_IMPORTERS: dict[str, Importer] = {}


def register_importer(importer: Importer) -> Importer:
    """Makes a format known to `find_importer` and so to the tools."""
    _IMPORTERS[importer.name] = importer
    return importer


def find_importer(entries: Iterable[str], name: str | None = None) -> Importer | None:
    """The importer of this name, or the one whose signature is among the entries' names.

    Raises:
        ValueError: no importer has this name; lists those there are.
    """
    if name is not None:
        if name not in _IMPORTERS:
            raise ValueError(f"no format {name!r}; known are {', '.join(sorted(_IMPORTERS))}")
        return _IMPORTERS[name]
    entries = list(entries)
    for importer in _IMPORTERS.values():
        pattern = re.compile(importer.signature)
        if any(pattern.fullmatch(entry) for entry in entries):
            return importer
    return None
