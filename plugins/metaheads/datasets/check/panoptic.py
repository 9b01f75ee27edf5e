"""A COCO panoptic JSON against its PNGs and its images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metaheads.datasets.check.images import evenly_spaced, find_broken_images, find_missing_images
from metaheads.datasets.check.messages import DatasetError, refuse
from metaheads.datasets.check.report import CheckReport
from metaheads.datasets.image_files import locate_images
from metaheads.datasets.panoptic import LabelSpace, find_labels, read_ids, read_json
from metaheads.messages import list_some


def check_panoptic(
    annotation_file: Path,
    png_folder: Path,
    progress: Callable[[], Any] = lambda: None,
    *,
    verify_images: int | None = None,
) -> int:
    """Compares every segment with its pixels.

    Args:
        progress: called once per PNG.
        verify_images: so many PNGs, evenly spaced, are opened; None for all.

    Returns:
        The number of segments.

    Raises:
        DatasetError: names the images and segments that differ.
    """
    data = _read(annotation_file)
    annotations = data["annotations"]
    images = {each["id"]: each for each in data["images"]}
    known = {each["id"] for each in data["categories"]}
    faults: dict[str, list[str]] = {}
    if len(images) < len(data["images"]):
        ids = Counter(str(each["id"]) for each in data["images"])
        faults["images with one id; number them anew"] = [n for n, c in ids.items() if c > 1]
    counts = Counter(each["file_name"] for each in annotations)
    if twice := [name for name, count in counts.items() if count > 1]:
        faults["PNGs of more than one image; give each its own"] = twice
    for annotation in annotations:
        for fault, where in _look_up(annotation, images, known):
            faults.setdefault(fault, []).append(where)
    chosen = annotations if verify_images is None else evenly_spaced(annotations, verify_images)
    for annotation in chosen:
        if annotation["image_id"] in images:
            info = images[annotation["image_id"]]
            for fault, where in _compare(annotation, info, Path(png_folder)):
                faults.setdefault(fault, []).append(where)
        progress()
    refuse(
        Path(annotation_file),
        (f"{fault}: {list_some(found)}" for fault, found in faults.items()),
    )
    return sum(len(each["segments_info"]) for each in annotations)


def check_panoptic_data(
    annotation_file: Path,
    png_folder: Path,
    image_folder: Path,
    *,
    thing_classes: Sequence[str] | None = None,
    stuff_classes: Sequence[str] | None = None,
    num_things: int | None = None,
    num_stuff: int | None = None,
    num_classes: int | None = None,
    verify_images: int = 2000,
    is_strict: bool = False,
    progress: Callable[[], Any] = lambda: None,
) -> CheckReport:
    """Checks a COCO panoptic file, its PNGs and its images before a training.

    Args:
        thing_classes, stuff_classes: of the config, in the order of the labels; None if it takes
            them from the file.
        num_things, num_stuff, num_classes: of the config's model; the last counts both.
        verify_images: so many images and PNGs, evenly spaced, are decoded.
        is_strict: as in `check_coco`; here whatever is odd is a fault already.
        progress: called for every decoded image and PNG.

    Raises:
        DatasetError: something would stop training, or train another thing than meant.
    """
    file, folder = Path(annotation_file), Path(image_folder)
    data = _read(file)
    for each in (folder, Path(png_folder)):
        if not each.is_dir():
            raise DatasetError(f"{file}: no folder {each}; correct the path in the config")
    try:
        space = find_labels(data["categories"], thing_classes, stuff_classes, file)
        images = locate_images(data["images"], folder)
    except ValueError as error:
        raise DatasetError(str(error)) from None
    if not data["annotations"]:
        raise DatasetError(f'{file}: "annotations" is empty')
    chosen = evenly_spaced(images, verify_images)
    missing = [*find_missing_images(images, folder)]
    refuse(
        file,
        _compare_counts(len(space.thing_classes), num_things, "things"),
        _compare_counts(len(space.stuff_classes), num_stuff, "stuff classes"),
        _compare_counts(len(space.classes), num_classes, "classes of things and stuff"),
        missing,
        () if missing else find_broken_images(chosen, folder, progress),
    )
    check_panoptic(file, Path(png_folder), progress, verify_images=verify_images)
    segments = [each for annotation in data["annotations"] for each in annotation["segments_info"]]
    return CheckReport(
        annotation_file=file,
        num_images=len(data["images"]),
        num_objects=len(segments),
        num_crowds=sum(bool(each.get("iscrowd", 0)) for each in segments),
        num_verified=len(chosen),
        class_counts=_count_classes(space, segments),
        warnings=[*_notice_unused(data, set(space.labels))],
        kind="segments",
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_json(file)
    except ValueError as error:
        raise DatasetError(str(error)) from None


def _compare_counts(found: int, expected: int | None, what: str) -> Iterator[str]:
    if expected is not None and found != expected:
        yield f"{found} {what}, the config's model has {expected}; make them equal"


def _count_classes(space: LabelSpace, segments: list[dict[str, Any]]) -> dict[str, int]:
    """Segments per class, by label; a thing and a stuff class may have one name."""
    counts = Counter(each["category_id"] for each in segments)
    things = dict(zip(space.thing_classes, space.thing_ids, strict=True))
    stuff = dict(zip(space.stuff_classes, space.stuff_ids, strict=True))
    stuff = {f"{name} (stuff)" if name in things else name: each for name, each in stuff.items()}
    return {name: counts[each] for name, each in (things | stuff).items()}


def _notice_unused(data: dict[str, Any], used: set) -> Iterator[str]:
    left_out = [each["name"] for each in data["categories"] if each["id"] not in used]
    if left_out:
        yield f"categories that the config's classes leave out: {list_some(left_out)}"
    annotated = {each["image_id"] for each in data["annotations"]}
    bare = [each["file_name"] for each in data["images"] if each["id"] not in annotated]
    if bare:
        yield f"images without annotation, which are left out: {list_some(bare)}"


def _look_up(annotation: dict, images: dict[Any, dict], known: set) -> Iterator[tuple[str, str]]:
    """(fault with its remedy, where) of what the JSON itself says."""
    name = annotation["file_name"]
    if annotation["image_id"] not in images:
        yield "annotations whose image_id is not in images; add the images", name
    numbers = {each["id"] for each in annotation["segments_info"]}
    if len(numbers) < len(annotation["segments_info"]):
        yield "segments with one id twice; number them anew", name
    if 0 in numbers:
        yield "segments with id 0, which is void; number them anew", name
    for segment in annotation["segments_info"]:
        if segment["category_id"] not in known:
            fault = "segments with a category_id that is not in categories; add it"
            yield fault, f"{name} {segment['id']}"


def _compare(annotation: dict, info: dict, folder: Path) -> Iterator[tuple[str, str]]:
    """(fault with its remedy, where) of one image's PNG."""
    name = annotation["file_name"]
    try:
        colors = read_ids(folder / name)
    except ValueError as error:
        yield f"PNGs that are not in {folder} or broken; replace them", f"{name} ({error})"
        return
    if colors.shape != (info["height"], info["width"]):
        yield "PNGs of another size than their images; restore them", name
        return
    ids, counts = np.unique(colors, return_counts=True)
    areas = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    areas.pop(0, None)  # void
    segments = {each["id"]: each for each in annotation["segments_info"]}
    if areas.keys() != segments.keys() and {*map(_swap, areas)} == segments.keys():
        yield "PNGs whose colours are in the order B, G, R; save them as R, G, B", name
        return
    for number in areas.keys() - segments.keys():
        yield "ids in the PNG without a segment in the JSON; add the segments", f"{name} {number}"
    for number, segment in segments.items():
        where = f"{name} {number}"
        if number not in areas:
            if number:
                yield "segments of the JSON without a pixel in the PNG; remove them", where
        elif segment.get("area") not in (None, areas[number]):
            yield "segments with another area than their pixels; count anew", where


def _swap(number: int) -> int:
    """The id of a colour whose red and blue are exchanged."""
    return number >> 16 | number & 0xFF00 | (number & 255) << 16
