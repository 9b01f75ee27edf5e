"""Faults of polygons and RLEs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from metaheads.datasets.check.messages import are_numbers
from metaheads.messages import list_some

_NO_AREA = "no polygon has three points"


def find_malformed_masks(data: dict[str, Any]) -> Iterator[str]:
    sizes = {image["id"]: [image["height"], image["width"]] for image in data["images"]}
    missing, broken = [], []
    for annotation in data["annotations"]:
        segmentation = annotation.get("segmentation")
        if not segmentation:  # also of objects without area: pycocotools stumbles over it
            missing.append(str(annotation["id"]))
            continue
        fault = mask_fault(segmentation, sizes[annotation["image_id"]])
        if fault and not (fault == _NO_AREA and _has_no_area(annotation)):
            broken.append(f"{annotation['id']} ({fault})")
    if missing:
        yield (
            f"annotations without segmentation: {list_some(missing)}; the model learns masks: add "
            f"polygons or RLE, or train a model for boxes"
        )
    if broken:
        named = list_some(broken)
        yield f"annotations with a malformed segmentation: {named}; correct or remove them"


def _has_no_area(annotation: dict[str, Any]) -> bool:
    box = annotation["bbox"]
    return are_numbers(box) and len(box) == 4 and min(box[2:]) <= 0


def mask_fault(segmentation: Any, size: list[int]) -> str | None:
    """What is wrong with polygons or an RLE, if anything; `size` of the image: [height, width]."""
    if isinstance(segmentation, list):
        if not all(are_numbers(polygon) for polygon in segmentation):
            return "a polygon is a list of finite numbers x, y, x, y, ..."
        if any(len(polygon) % 2 for polygon in segmentation):
            return "a polygon with an odd number of coordinates"
        if all(len(polygon) < 6 for polygon in segmentation):
            return _NO_AREA
        return None
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        return "neither polygons nor an RLE with size and counts"
    if segmentation["size"] != size:
        return f"RLE of size {segmentation['size']} in an image of {size}"
    counts = segmentation["counts"]
    if isinstance(counts, str):
        counts = decode_counts(counts)
    elif not are_numbers(counts):
        return "RLE counts are a string or a list of numbers"
    if min(counts, default=0) < 0 or sum(counts) != size[0] * size[1]:
        return f"RLE counts that do not add up to {size[0]} x {size[1]} pixels"
    return None


def decode_counts(text: str) -> list[int]:
    """COCO's compressed RLE string -> run lengths (pycocotools: rleFrString)."""
    counts: list[int] = []
    value, shift = 0, 0
    for code in text.encode(errors="replace"):
        code -= 48
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value, shift = 0, 0
    return counts
