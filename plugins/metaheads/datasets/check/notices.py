"""What is odd, but trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from metaheads.messages import list_some


def notice_odd_categories(
    categories: list[dict[str, Any]], used: set[int], class_names: Sequence[str] | None
) -> Iterator[str]:
    ids = [each["id"] for each in categories]
    if ids != sorted(ids):
        yield (
            "categories are not in the order of their ids: MMDetection numbers the classes by "
            "their order, Detectron2 by their ids; sort them"
        )
    repeated = [n for n, count in Counter(each["name"] for each in categories).items() if count > 1]
    if repeated:
        yield f"names of more than one category: {list_some(repeated)}"
    unused = [each["name"] for each in categories if each["id"] not in used]
    unused = [name for name in unused if class_names is None or name in class_names]
    if unused:
        yield f"classes without objects: {list_some(unused)}"


def notice_useless_boxes(data: dict[str, Any]) -> Iterator[str]:
    """Boxes that no model learns from; crowds without area are meant to be ignored."""
    low, size, limits, outside = _boxes(data)
    is_crowd = np.array([bool(each.get("iscrowd", 0)) for each in data["annotations"]], bool)
    is_flat = (size <= 0).any(1)
    flat, outside = is_flat & ~is_crowd, outside & ~(is_flat & is_crowd)
    yield from _name_some(
        data, {"boxes without area": flat, "boxes outside of their image": outside}
    )


def notice_shared_files(images: list[dict[str, Any]]) -> Iterator[str]:
    counts = Counter(image["file_name"] for image in images)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        yield f"files of more than one image: {list_some(twice)}"


def notice_odd_boxes(data: dict[str, Any]) -> Iterator[str]:
    if not data["annotations"]:
        yield "no objects at all"
        return
    low, size, limits, outside = _boxes(data)
    reaches_out = ((low < -1) | (low + size > limits + 1)).any(1) & ~outside
    tiny = ((size > 0) & (size <= 1)).any(1)
    yield from _name_some(
        data,
        {
            "boxes of at most one pixel's width or height": tiny,
            "boxes that reach out of their image": reaches_out,
        },
    )


def _boxes(data: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Upper left corners, sizes and the images' sizes, (N, 2) each; (N,) whether outside."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    boxes = np.array([each["bbox"] for each in data["annotations"]], np.float64).reshape(-1, 4)
    limits = np.array([sizes[each["image_id"]] for each in data["annotations"]], np.float64)
    limits = limits.reshape(-1, 2)
    low, size = boxes[:, :2], boxes[:, 2:]
    return low, size, limits, ((low >= limits) | (low + size <= 0)).any(1)


def _name_some(data: dict[str, Any], found: dict[str, np.ndarray]) -> Iterator[str]:
    ids = [each["id"] for each in data["annotations"]]
    for what, where in found.items():
        if where.any():
            named = [f"annotation {ids[index]}" for index in np.flatnonzero(where)]
            yield f"{what}: {list_some(named)}"


def notice_short_polygons(annotations: list[dict[str, Any]]) -> Iterator[str]:
    short = [
        f"annotation {annotation['id']}"
        for annotation in annotations
        if isinstance(annotation.get("segmentation"), list)
        and any(len(polygon) < 6 for polygon in annotation["segmentation"])
    ]
    if short:
        yield f"polygons of less than three points, which are left out: {list_some(short)}"


def notice_unused_vertices(annotations: list[dict[str, Any]]) -> Iterator[str]:
    count = sum(annotation.get("vertices") is not None for annotation in annotations)
    if count:
        yield f"objects with vertices, unused and unchecked without a mesh file: {count}"


def notice_empty_images(data: dict[str, Any]) -> Iterator[str]:
    with_crowd = {each["image_id"] for each in data["annotations"]}
    with_object = {each["image_id"] for each in data["annotations"] if not each.get("iscrowd", 0)}
    empty = len(data["images"]) - len(with_crowd)
    if empty:
        yield f"images without objects: {empty}"
    if with_crowd != with_object:
        yield f"images with crowds only: {len(with_crowd - with_object)}"
