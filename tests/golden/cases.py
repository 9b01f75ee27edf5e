"""Golden cases: a JSON that explains, an NPZ with the numbers that the original computed."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

DEFAULT_FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "golden"
ANY = object()  # a size, a count or a list of them, taken from the case


class UnknownCase(AssertionError):
    """The case says something that the golden test does not know: it must learn it, not skip it."""


def folder() -> Path:
    """Where the cases lie: the environment variable METAHEADS_GOLDEN, or beside the checkout."""
    return Path(os.environ.get("METAHEADS_GOLDEN") or DEFAULT_FOLDER)


def find_cases() -> list[Path]:
    """All cases below the folder, in a stable order."""
    return sorted(path for path in folder().rglob("*.json") if path.with_suffix(".npz").is_file())


class Case:
    """One case; remembers which arrays were used, so that none is forgotten.

    Arrays that belong to the inputs are read by `array`, the original's results are held against
    ours by `compare` and its relatives.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.about: dict[str, Any] = json.loads(path.read_text())
        self.system, self.sort = self.about["system"], self.about["sort"]
        self.options: dict[str, Any] = self.about["options"]
        self._arrays = dict(np.load(path.with_suffix(".npz")))
        self._untouched = set(self._arrays)

    def state_dict(self) -> dict[str, Tensor]:
        """The original's state dict, filled by the rule that made the case."""
        fill = load_fill().fill
        parameters = self.about["parameters"].items()
        return {name: torch.from_numpy(np.asarray(fill(name, tuple(s)))) for name, s in parameters}

    def __contains__(self, key: str) -> bool:
        return key in self._arrays or f"{key}__values" in self._arrays

    def array(self, key: str) -> Tensor:
        """A whole array; integers as int64."""
        self._untouched.discard(key)
        array = torch.from_numpy(self._arrays[key])
        return array if array.is_floating_point() else array.long()

    def compare(self, key: str, ours: Tensor, skip: int = 0) -> None:
        """Raw outputs: within ten times the original's own rounding or 1e-4 of their deviation.

        Args:
            skip: so many first channels (B, C, ...) of the original are not compared, and ours has
                none of them.
        """
        kept = torch.ones_like(ours, dtype=torch.bool)
        if skip:
            places = ours[:, :1].expand(-1, skip, *ours.shape[2:])
            ours = torch.cat((torch.zeros_like(places), ours), 1)
            kept = torch.cat((torch.zeros_like(places, dtype=torch.bool), kept), 1)
        kept, _ = self._pair(key, kept)
        ours, theirs = (each[kept] for each in self._pair(key, ours))
        natural = self.about.get("float32_vs_float64", {}).get(key, {})
        deviation = natural.get("std", theirs.double().std(correction=0).item())
        limit = max(10 * natural.get("max_abs_diff", 0.0), 1e-4 * deviation)
        difference = (ours.double() - theirs.double()).abs().max().item() if len(ours) else 0.0
        assert difference <= limit, f"{key}: differs by {difference:.3g}, allowed {limit:.3g}"

    def compare_exactly(self, key: str, ours: Tensor) -> None:
        """Ids, counts, classes."""
        ours, theirs = self._pair(key, ours)
        wrong = (ours != theirs).sum().item()
        assert not wrong, f"{key}: {wrong} of {len(ours)} entries differ"

    def compare_masks(self, key: str, ours: Tensor, near_threshold: int) -> None:
        """Masks: as many pixels may differ as lie near the threshold."""
        ours, theirs = self._pair(key, ours)
        wrong = (ours != theirs).sum().item()
        assert wrong <= near_threshold, f"{key}: {wrong} pixels differ, allowed {near_threshold}"

    def compare_whole_pixels(self, key: str, ours: Tensor) -> None:
        """Boxes cut to whole pixels, ours before the cut: an edge may fall to either side of it."""
        ours, theirs = self._pair(key, ours)
        fits = (ours > theirs - 1e-3) & (ours < theirs + 1 + 1e-3)
        assert fits.all(), f"{key}: {(~fits).sum()} of {len(ours)} coordinates differ"

    def assert_all_used(self) -> None:
        """Every array was an input or has been compared."""
        if self._untouched:
            raise UnknownCase(
                f"arrays that the golden test does not use: {sorted(self._untouched)}"
            )

    def _pair(self, key: str, ours: Tensor) -> tuple[Tensor, Tensor]:
        """Both sides, flattened and, where the case holds only some elements, subsampled."""
        ours = ours.detach()
        if key in self._arrays:
            theirs = self.array(key)
            assert ours.shape == theirs.shape, (
                f"{key}: {tuple(ours.shape)}, not {tuple(theirs.shape)}"
            )
            return ours.flatten(), theirs.flatten()
        flat = ours.contiguous().flatten()
        return flat[self.array(f"{key}__flat_index")], self.array(f"{key}__values")


def check_known(given: dict[str, Any], known: dict[str, Any], where: str) -> None:
    """Every option is known, present, and has a known value.

    Args:
        given: the options of a case or of one of its runs.
        known: option -> list of values, or ANY.
        where: for the message.

    Raises:
        UnknownCase: otherwise.
    """
    unequal = set(given) ^ set(known)
    if unequal:
        raise UnknownCase(f"{where}: unknown or missing options {sorted(unequal)}")
    for name, values in known.items():
        if values is not ANY and not any(_same(given[name], value) for value in values):
            raise UnknownCase(f"{where}: unknown value {name} = {given[name]!r}")


def _same(value: Any, other: Any) -> bool:
    """Equal, and true is not 1."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


@functools.cache
def load_fill() -> ModuleType:
    """`fill.py` of the cases' folder, or of the default one."""
    places = [place / "fill.py" for place in (folder(), folder().parent, DEFAULT_FOLDER)]
    path = next((place for place in places if place.is_file()), None)
    assert path is not None, f"no fill.py in {folder()}"
    spec = importlib.util.spec_from_file_location("golden_fill", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
