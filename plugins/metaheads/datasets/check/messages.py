"""How faults are told."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


class DatasetError(ValueError):
    """A data set that cannot be trained on; the message names file, items and remedies."""


def refuse(file: Path, *faults: Iterable[str]) -> None:
    found = [fault for each in faults for fault in each]
    if found:
        raise DatasetError(
            "\n  ".join([f"{file}:", *found]) if found[1:] else f"{file}: {found[0]}"
        )


def nearest_hint(name: str, known: Sequence[str]) -> str:
    """The most alike, by spelling but for case."""
    by_spelling = {each.lower(): each for each in known}
    nearest = difflib.get_close_matches(name.lower(), by_spelling, n=1, cutoff=0.6)
    return f" (did you mean {by_spelling[nearest[0]]!r}?)" if nearest else ""


def are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int | float) and math.isfinite(value) for value in values
    )
