"""A quick look at a COCO data set before training: what would stop it, and what is odd but trains.

One function per kind of fault. Those that begin with `find_` yield messages for faults that stop
training; those that begin with `notice_` yield lines for the report. Every message says how many,
which (the first five) and what to do.
"""

from __future__ import annotations

import difflib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NAMED = 5  # so many items are named in a message, the others counted
_ID, _NUMBER = (int, str), (int, float)
_REQUIRED: dict[str, dict[str, Any]] = {
    "images": {"id": _ID, "file_name": str, "height": _NUMBER, "width": _NUMBER},
    "annotations": {"id": _ID, "image_id": _ID, "category_id": _ID, "bbox": list, "area": _NUMBER},
    "categories": {"id": _ID, "name": str},
}
_EXIF_ORIENTATION = 0x0112
_NO_AREA = "no polygon has three points"


class DatasetError(ValueError):
    """A data set that cannot be trained on; the message names file, items and remedies."""


@dataclass
class CheckReport:
    """What a data set holds.

    Attributes:
        class_counts: objects per class, crowds included, in the order of the labels.
        warnings: what is odd, but trains.
    """

    annotation_file: Path
    num_images: int
    num_objects: int
    num_crowds: int
    num_verified: int
    class_counts: dict[str, int]
    warnings: list[str] = field(default_factory=list)

    def summary(self, max_classes: int = 10) -> str:
        """A few lines for the terminal; the most frequent classes are named."""
        used = {name: count for name, count in self.class_counts.items() if count}
        share = 100 * self.num_crowds / max(self.num_objects, 1)
        lines = [
            f"{self.annotation_file}: {self.num_images} images, {self.num_objects} objects of "
            f"{len(used)} classes (of {len(self.class_counts)}), {self.num_crowds} crowds "
            f"({share:.1f} %), {self.num_verified} images decoded"
        ]
        if used:
            ranked = sorted(used.items(), key=lambda item: -item[1])
            named = ", ".join(f"{name} {count}" for name, count in ranked[:max_classes])
            more = f", {len(ranked) - max_classes} more" if len(ranked) > max_classes else ""
            lines.append(f"  objects: {named}{more}")
        return "\n".join(lines + [f"  note: {warning}" for warning in self.warnings])


def check_coco(
    annotation_file: str | os.PathLike,
    image_folder: str | os.PathLike,
    *,
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    use_masks: bool = True,
    verify_images: int = 200,
) -> CheckReport:
    """Checks a COCO instances file and its images in a second or two.

    Args:
        class_names: of the config, in the order of the labels; None if it takes them from the file.
        num_classes: of the config's model.
        use_masks: every annotation needs a segmentation.
        verify_images: so many images, evenly spaced, are decoded.

    Raises:
        DatasetError: something would stop training, or train another thing than meant.
    """
    file, folder = Path(annotation_file), Path(image_folder)
    data = read_coco(file)
    if not folder.is_dir():
        raise DatasetError(f"image folder {folder}: no such folder; correct the path in the config")
    _refuse(file, find_duplicate_ids(data), find_unknown_ids(data))
    used = {annotation["category_id"] for annotation in data["annotations"]}
    categories = data["categories"]
    faults = [
        *find_missing_crowd_flags(data["annotations"]),
        *find_class_differences(categories, used, class_names, num_classes),
        *find_malformed_boxes(data["annotations"]),
        *(find_malformed_masks(data) if use_masks else ()),
        *find_missing_images(data["images"], folder),
    ]
    _refuse(file, faults)
    chosen = _evenly_spaced(data["images"], verify_images)
    _refuse(file, find_broken_images(chosen, folder))
    warnings = [
        *notice_odd_categories(categories, used, class_names),
        *notice_odd_boxes(data),
        *(notice_short_polygons(data["annotations"]) if use_masks else ()),
        *notice_empty_images(data),
    ]
    counts = Counter(annotation["category_id"] for annotation in data["annotations"])
    return CheckReport(
        annotation_file=file,
        num_images=len(data["images"]),
        num_objects=len(data["annotations"]),
        num_crowds=sum(bool(each.get("iscrowd", 0)) for each in data["annotations"]),
        num_verified=len(chosen),
        class_counts={each["name"]: counts[each["id"]] for each in categories},
        warnings=warnings,
    )


def read_coco(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Reads the file; afterwards every entry has the fields that both hosts read.

    Raises:
        DatasetError: no such file, no JSON, or no COCO instances.
    """
    if not file.is_file():
        raise DatasetError(f"annotation file {file}: no such file; correct the path in the config")
    try:
        data = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"{file}: broken JSON at line {error.lineno}, column {error.colno}: {error.msg}; "
            f"was it cut off while being copied or downloaded?"
        ) from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file}: no text, hence no JSON: {error}") from None
    absent = [key for key in _REQUIRED if not isinstance(data, dict) or key not in data]
    if absent:
        raise DatasetError(f"{file}: no key {', '.join(absent)}; is it a COCO instances file?")
    _refuse(file, find_missing_fields(data))
    if not data["images"]:
        raise DatasetError(f'{file}: "images" is empty')
    return data


def find_missing_fields(data: dict[str, Any]) -> Iterator[str]:
    for key, kinds in _REQUIRED.items():
        if not isinstance(data[key], list):
            yield f'"{key}" is no list'
            continue
        for name, kind in kinds.items():
            lacking = [
                f"entry {index}"
                for index, entry in enumerate(data[key])
                if not isinstance(entry, dict) or not isinstance(entry.get(name), kind)
            ]
            if lacking:
                spelled = " or ".join(k.__name__ for k in (kind if type(kind) is tuple else [kind]))
                yield f'{_these(lacking)} of "{key}" (from 0) without "{name}" ({spelled}); add it'


def find_duplicate_ids(data: dict[str, Any]) -> Iterator[str]:
    for key in _REQUIRED:
        counts = Counter(entry["id"] for entry in data[key])
        twice = [str(each) for each, count in counts.items() if count > 1]
        if twice:
            yield f'ids used more than once in "{key}": {_these(twice)}; number them anew'


def find_unknown_ids(data: dict[str, Any]) -> Iterator[str]:
    for key, name in (("images", "image_id"), ("categories", "category_id")):
        known = {entry["id"] for entry in data[key]}
        unknown = [
            f"{annotation['id']} ({name} {annotation[name]!r})"
            for annotation in data["annotations"]
            if annotation[name] not in known
        ]
        if unknown:
            yield (
                f'annotations with an {name} that is not in "{key}": {_these(unknown)}; '
                f"add the missing {key} or remove the annotations (1 and '1' differ)"
            )


def find_class_differences(
    categories: list[dict[str, Any]],
    used: set[int],
    class_names: Sequence[str] | None,
    num_classes: int | None,
) -> Iterator[str]:
    """Differences between the file's categories and the config; unused categories may be absent."""
    in_file = [each["name"] for each in categories]
    if class_names is not None:
        unknown = [name for name in class_names if name not in in_file]
        if unknown:
            named = [f"{name!r}{_nearest(name, in_file)}" for name in unknown]
            yield (
                f"classes of the config that are no category: {_these(named)}; write them as in "
                f"the file: {_these(in_file)}"
            )
        without = [
            c["name"] for c in categories if c["id"] in used and c["name"] not in class_names
        ]
        if without:
            named = [f"{name!r}{_nearest(name, class_names)}" for name in without]
            yield (
                f"categories with objects that are no class of the config: {_these(named)}; add "
                f"them to the class names of the config, or remove their objects"
            )
        order = [name for name in in_file if name in class_names]
        if not unknown and not without and order != list(class_names):
            yield (
                "the config names the classes in another order than the file, so that labels and "
                f"names would be mixed up: write {tuple(order)}"
            )
    expected = len(in_file if class_names is None else class_names)
    if num_classes is not None and num_classes != expected:
        source = '"categories" of the file' if class_names is None else "the class names"
        yield (
            f"the model has num_classes={num_classes}, but {source} are {expected}: set "
            f"{expected} (MMDetection: num_classes, Detectron2: MODEL.<NAME>.NUM_CLASSES)"
        )


def find_missing_crowd_flags(annotations: list[dict[str, Any]]) -> Iterator[str]:
    """pycocotools reads `iscrowd` of every object, but only when the evaluation begins."""
    without = [str(each["id"]) for each in annotations if each.get("iscrowd") not in (0, 1)]
    if without:
        yield f'annotations without "iscrowd": {_these(without)}; add "iscrowd": 0 (or 1)'


def find_malformed_boxes(annotations: list[dict[str, Any]]) -> Iterator[str]:
    broken = [
        f"{annotation['id']} ({annotation['bbox']!r})"
        for annotation in annotations
        if not _are_numbers(annotation["bbox"]) or len(annotation["bbox"]) != 4
    ]
    if broken:
        yield (
            f"annotations whose bbox is not four finite numbers (x, y, width, height): "
            f"{_these(broken)}; correct or remove them"
        )


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
            f"annotations without segmentation: {_these(missing)}; the model learns masks: add "
            f"polygons or RLE, or train a model for boxes"
        )
    if broken:
        yield f"annotations with a malformed segmentation: {_these(broken)}; correct or remove them"


def _has_no_area(annotation: dict[str, Any]) -> bool:
    box = annotation["bbox"]
    return _are_numbers(box) and len(box) == 4 and min(box[2:]) <= 0


def mask_fault(segmentation: Any, size: list[int]) -> str | None:
    """What is wrong with polygons or an RLE, if anything; `size` of the image: [height, width]."""
    if isinstance(segmentation, list):
        if not all(_are_numbers(polygon) for polygon in segmentation):
            return "a polygon is a list of finite numbers x, y, x, y, ..."
        if any(len(polygon) % 2 for polygon in segmentation):
            return "a polygon with an odd number of coordinates"
        if all(len(polygon) < 6 for polygon in segmentation):
            return _NO_AREA
        return None
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        return "neither polygons nor an RLE with size and counts"
    if list(segmentation["size"]) != size:
        return f"RLE of size {segmentation['size']} in an image of {size}"
    counts = segmentation["counts"]
    if isinstance(counts, str):
        counts = decode_counts(counts)
    elif not _are_numbers(counts):
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


def find_missing_images(images: list[dict[str, Any]], folder: Path) -> Iterator[str]:
    """Lists every folder once instead of asking for every file."""
    listed: dict[str, set[str]] = {}
    missing = []
    for image in images:
        parent, name = os.path.split(image["file_name"])
        if parent not in listed:
            inside = folder / parent
            listed[parent] = {e.name for e in os.scandir(inside)} if inside.is_dir() else set()
        if name not in listed[parent]:
            missing.append(image["file_name"])
    if missing:
        yield (
            f"images that are not in {folder}: {_these(missing)}; correct the image folder in the "
            f"config, or remove them from the file"
        )


def find_broken_images(images: list[dict[str, Any]], folder: Path) -> Iterator[str]:
    """Decodes the images."""
    broken, other_size = [], []
    for image in images:
        path = folder / image["file_name"]
        try:
            size = decoded_size(path)
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises
            broken.append(f"{path} ({error})")
            continue
        if size != (image["height"], image["width"]):
            other_size.append(f"{path} ({size}, in the file {(image['height'], image['width'])})")
    if broken:
        yield f"images that cannot be decoded: {_these(broken)}; replace or remove them"
    if other_size:
        yield (
            f"images of another size (height, width) than in the file: {_these(other_size)}; were "
            f"they resized? Masks and boxes would not fit: restore the images or scale the file"
        )


def decoded_size(path: Path) -> tuple[int, int]:
    """(height, width) as the hosts read it, upright by EXIF; decodes all of it.

    Raises:
        OSError, SyntaxError, ValueError: Pillow cannot decode it, or it is cut off.
    """
    with Image.open(path) as image:
        width, height = image.size
        lies = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
        image.draft("RGB", (1, 1))  # JPEG: an eighth of the size in a third of the time
        image.load()
    return (width, height) if lies else (height, width)


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
        yield f"names of more than one category: {_these(repeated)}"
    unused = [each["name"] for each in categories if each["id"] not in used]
    unused = [name for name in unused if class_names is None or name in class_names]
    if unused:
        yield f"classes without objects: {_these(unused)}"


def notice_odd_boxes(data: dict[str, Any]) -> Iterator[str]:
    if not data["annotations"]:
        yield "no objects at all"
        return
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    boxes = np.array([each["bbox"] for each in data["annotations"]], np.float64)  # (N, 4)
    limits = np.array([sizes[each["image_id"]] for each in data["annotations"]], np.float64)
    ids = [each["id"] for each in data["annotations"]]
    low, size = boxes[:, :2], boxes[:, 2:]
    outside = ((low >= limits) | (low + size <= 0)).any(1)
    faults = {
        "boxes without area": (size <= 0).any(1),
        "boxes of at most one pixel's width or height": ((size > 0) & (size <= 1)).any(1),
        "boxes outside of their image": outside,
        "boxes that reach out of their image": ((low < -1) | (low + size > limits + 1)).any(1)
        & ~outside,
    }
    for what, where in faults.items():
        if where.any():
            named = [f"annotation {ids[index]}" for index in np.flatnonzero(where)]
            yield f"{what}: {_these(named)}"


def notice_short_polygons(annotations: list[dict[str, Any]]) -> Iterator[str]:
    short = [
        f"annotation {annotation['id']}"
        for annotation in annotations
        if isinstance(annotation.get("segmentation"), list)
        and any(len(polygon) < 6 for polygon in annotation["segmentation"])
    ]
    if short:
        yield f"polygons of less than three points, which are left out: {_these(short)}"


def notice_empty_images(data: dict[str, Any]) -> Iterator[str]:
    with_crowd = {each["image_id"] for each in data["annotations"]}
    with_object = {each["image_id"] for each in data["annotations"] if not each.get("iscrowd", 0)}
    empty = len(data["images"]) - len(with_crowd)
    if empty:
        yield f"images without objects: {empty}"
    if with_crowd != with_object:
        yield f"images with crowds only: {len(with_crowd - with_object)}"


def _refuse(file: Path, *faults: Iterable[str]) -> None:
    found = [fault for each in faults for fault in each]
    if found:
        raise DatasetError(
            "\n  ".join([f"{file}:", *found]) if found[1:] else f"{file}: {found[0]}"
        )


def _these(names: Sequence[str]) -> str:
    """'a, b, c, d, e and 7 more'."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _nearest(name: str, known: Sequence[str]) -> str:
    """The most alike, by spelling but for case."""
    by_spelling = {each.lower(): each for each in known}
    nearest = difflib.get_close_matches(name.lower(), by_spelling, n=1, cutoff=0.6)
    return f" (did you mean {by_spelling[nearest[0]]!r}?)" if nearest else ""


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int | float) and math.isfinite(value) for value in values
    )


def _evenly_spaced(images: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    if count <= 0:
        return []
    step = max(len(images) / count, 1)
    return [images[int(index * step)] for index in range(min(count, len(images)))]
