"""COCO instances and COCO stuff -> COCO panoptic."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from metaheads.datasets.convert.coco import ConversionError
from metaheads.datasets.panoptic import to_colors


def convert_to_panoptic(
    instances: Path, stuff: Path, out: Path, progress: Callable = lambda: None
) -> int:
    """Writes `out` (JSON) and a folder of PNGs beside it, named like it without the suffix.

    Stuff is painted first, then things, smaller ones above larger ones; crowds keep what is left.
    Pixels that nothing covers are void. An object that others cover wholly is left out.

    Args:
        instances, stuff: COCO files of the same images; category ids of the two must differ.

    Returns:
        The number of segments.

    Raises:
        ConversionError: no COCO files, or the same category id in both.
    """
    things, regions = _read(instances), _read(stuff)
    both = sorted(set(things.cats) & set(regions.cats))
    if both:
        raise ConversionError(
            f"category ids of {instances} and of {stuff} are the same: {both[:5]}; number the "
            "stuff anew"
        )
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    annotations, count = [], 0
    for image_id, image in things.imgs.items():
        layers = [
            *sorted(things.imgToAnns[image_id], key=lambda each: (-each["iscrowd"], -each["area"]))
        ]
        layers = [*regions.imgToAnns[image_id], *layers]
        numbers = np.zeros((image["height"], image["width"]), np.int64)
        for number, layer in enumerate(layers, start=1):
            source = things if layer["category_id"] in things.cats else regions
            numbers[source.annToMask(layer).astype(bool)] = number
        name = Path(image["file_name"]).with_suffix(".png").as_posix()
        if name in {each["file_name"] for each in annotations}:
            raise ConversionError(f"{instances}: two images would both become {name}; rename one")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(to_colors(numbers)).save(folder / name)
        segments = [
            _segment(numbers == number, number, layer)
            for number, layer in enumerate(layers, start=1)
            if (numbers == number).any()
        ]
        count += len(segments)
        annotations.append({"image_id": image_id, "file_name": name, "segments_info": segments})
        progress()
    categories = [
        {**category, "isthing": int(source is things)}
        for source in (things, regions)
        for category in source.cats.values()
    ]
    content = {
        "images": list(things.imgs.values()),
        "annotations": annotations,
        "categories": categories,
    }
    out.write_text(json.dumps(content))
    return count


def _read(file: Path) -> COCO:
    try:
        with contextlib.redirect_stdout(None):  # it talks
            coco = COCO(str(file))
        _ = [each["area"] for each in coco.anns.values()]
        return coco
    except (ValueError, LookupError, TypeError) as error:
        raise ConversionError(
            f"{file} is no COCO file ({type(error).__name__}: {error}); it has images, annotations "
            "and categories"
        ) from None


def _segment(mask: np.ndarray, number: int, layer: dict[str, Any]) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "id": number,
        "category_id": layer["category_id"],
        "area": int(mask.sum()),
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        "iscrowd": int(layer.get("iscrowd", 0)),
    }
