"""Images that stand in two data sets, as in training and validation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def find_equal_images(
    first: Iterable[Path], second: Iterable[Path], progress: Callable[[], Any] = lambda: None
) -> list[tuple[Path, Path]]:
    """Pairs of files with the same bytes, whatever their names; files that are not there are left
    out."""
    by_content: dict[bytes, Path] = {}
    for path in first:
        if path.is_file():
            by_content.setdefault(_digest(path), path)
        progress()
    found = []
    for path in second:
        if path.is_file() and (match := by_content.get(_digest(path))):
            found.append((match, path))
        progress()
    return found


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
