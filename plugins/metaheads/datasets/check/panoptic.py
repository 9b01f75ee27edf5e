"""A COCO panoptic JSON against its PNGs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metaheads.datasets.check.messages import DatasetError, refuse
from metaheads.messages import list_some


def check_panoptic(
    annotation_file: Path, png_folder: Path, progress: Callable[[], Any] = lambda: None
) -> int:
    """Compares every segment with its pixels.

    Args:
        progress: called once per image.

    Returns:
        The number of segments.

    Raises:
        DatasetError: names the images and segments that differ.
    """
    try:
        data = json.loads(Path(annotation_file).read_bytes())
        annotations, categories = data["annotations"], data["categories"]
        images = {each["id"]: each for each in data["images"]}
        _ = [(each["height"], each["width"]) for each in images.values()]
        _ = [each["id"] for each in categories]
        for each in annotations:
            _ = each["file_name"], each["image_id"]
            _ = [(segment["id"], segment["category_id"]) for segment in each["segments_info"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DatasetError(
            f"{annotation_file}: no COCO panoptic file ({type(error).__name__}: {error}); it has "
            "images with id, height, width; categories; annotations with file_name, image_id "
            "and segments_info with id and category_id"
        ) from None
    known = {each["id"] for each in categories}
    faults: dict[str, list[str]] = {}
    if len(images) < len(data["images"]):
        ids = Counter(str(each["id"]) for each in data["images"])
        faults["images with one id; number them anew"] = [n for n, c in ids.items() if c > 1]
    counts = Counter(each["file_name"] for each in annotations)
    if twice := [name for name, count in counts.items() if count > 1]:
        faults["PNGs of more than one image; give each its own"] = twice
    for annotation in annotations:
        for fault, where in _compare(annotation, images, known, Path(png_folder)):
            faults.setdefault(fault, []).append(where)
        progress()
    refuse(
        Path(annotation_file),
        (f"{fault}: {list_some(found)}" for fault, found in faults.items()),
    )
    return sum(len(each["segments_info"]) for each in annotations)


def _compare(
    annotation: dict, images: dict[Any, dict], known: set, folder: Path
) -> Iterator[tuple[str, str]]:
    """(fault with its remedy, where) of one image."""
    name = annotation["file_name"]
    if annotation["image_id"] not in images:
        yield "annotations whose image_id is not in images; add the images", name
        return
    try:
        with Image.open(folder / name) as image:
            colors = np.asarray(image.convert("RGB"), np.int64)
    except (OSError, SyntaxError, ValueError) as error:
        yield f"PNGs that are not in {folder} or broken; replace them", f"{name} ({error})"
        return
    info = images[annotation["image_id"]]
    if colors.shape[:2] != (info["height"], info["width"]):
        yield "PNGs of another size than their images; restore them", name
        return
    ids, counts = np.unique(colors @ (1, 256, 65536), return_counts=True)
    areas = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    areas.pop(0, None)  # void
    segments = {each["id"]: each for each in annotation["segments_info"]}
    if len(segments) < len(annotation["segments_info"]):
        yield "segments with one id twice; number them anew", name
    for number in areas.keys() - segments.keys():
        yield "ids in the PNG without a segment in the JSON; add the segments", f"{name} {number}"
    for number, segment in segments.items():
        where = f"{name} {number}"
        if number not in areas:
            yield "segments of the JSON without a pixel in the PNG; remove them", where
        elif segment.get("area") not in (None, areas[number]):
            yield "segments with another area than their pixels; count anew", where
        if segment["category_id"] not in known:
            yield "segments with a category_id that is not in categories; add it", where
