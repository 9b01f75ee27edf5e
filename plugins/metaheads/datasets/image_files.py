"""Where the images of a panoptic JSON lie below their folder.

Cityscapes has a sub-folder for each city, which the JSON of cityscapesscripts' createPanopticImgs
does not name; it also calls image <id>_leftImg8bit.png <id>_gtFine_leftImg8bit.png.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metaheads.messages import list_some


def list_missing(names: Sequence[str], folder: Path) -> list[str]:
    """Those that are no file of a folder; lists every folder once instead of asking for every
    file."""
    listed: dict[str, set[str]] = {}
    missing = []
    for path in names:
        parent, name = os.path.split(path)
        if parent not in listed:
            inside = folder / parent
            listed[parent] = {e.name for e in os.scandir(inside)} if inside.is_dir() else set()
        if name not in listed[parent]:
            missing.append(path)
    return missing


def locate_images(images: Sequence[dict[str, Any]], folder: str | Path) -> list[dict[str, Any]]:
    """The images with the `file_name` under which they lie in a folder or in its sub-folders.

    Those that lie nowhere keep their name.

    Args:
        images: entries of a JSON.

    Raises:
        ValueError: several files in sub-folders have the name of an image that is not in the folder
            itself; names them.
    """
    folder = Path(folder)
    missing = list_missing([each["file_name"] for each in images], folder)
    if not missing:
        return list(images)
    places: dict[str, list[str]] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name).relative_to(folder).as_posix()
            places.setdefault(name, []).append(path)
    found = {name: _choose(name, places, folder) for name in missing}
    return [
        {**each, "file_name": found.get(each["file_name"], each["file_name"])} for each in images
    ]


def _choose(name: str, places: dict[str, list[str]], folder: Path) -> str:
    for spelled in (name, name.replace("_gtFine_leftImg8bit", "_leftImg8bit")):
        same = places.get(Path(spelled).name, [])
        found = sorted(each for each in same if f"/{each}".endswith(f"/{spelled}"))
        if len(found) > 1:
            raise ValueError(
                f"{folder}: image {name} is more than one file there: {list_some(found)}; write "
                "its sub-folder into file_name"
            )
        if found:
            return found[0]
    return name
