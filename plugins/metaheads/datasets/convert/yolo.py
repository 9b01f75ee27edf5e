"""YOLO text files: a class number and a polygon (or a box) per line, as shares of the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from metaheads.datasets.convert.coco import CocoBuilder, ConversionError, image_size
from metaheads.media import IMAGE_SUFFIXES

_SLACK = 0.05  # polygons and boxes that touch the border are rounded, or reach out a little


def convert_yolo(
    folder: Path, classes: Sequence[str] | None = None, progress: Callable = lambda: None
) -> CocoBuilder:
    """`images/` and `labels/` -> COCO instances; images without a text file have no objects.

    Args:
        classes: names by number; needed, as the text files hold numbers only.

    Raises:
        ConversionError: no images, no class names, or a line that is not YOLO's.
    """
    if not classes:
        raise ConversionError("YOLO files hold numbers: give the names, --classes NAME NAME ...")
    images = folder / "images"
    found = sorted(p for p in images.glob("**/*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise ConversionError(f"no image in the folder {images}")
    if not (folder / "labels").is_dir():
        raise ConversionError(f"no folder {folder / 'labels'}: YOLO's text files lie there")
    builder = CocoBuilder(classes)
    for path in found:
        name = path.relative_to(images)
        height, width = image_size(path)
        builder.add_image(name.as_posix(), (height, width))
        labels = (folder / "labels" / name).with_suffix(".txt")
        lines = labels.read_text().splitlines() if labels.is_file() else []
        for number, line in enumerate(lines, start=1):
            where = f"{labels}, line {number}"
            label, values = _parse(line, classes, where)
            if len(values) == 4:
                x, y, w, h = values
                box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
                builder.add_box(label, box, where=where)
            elif values:
                scaled = [v * (height if i % 2 else width) for i, v in enumerate(values)]
                builder.add_polygons(label, [scaled], where=where)
        progress()
    return builder


def _parse(line: str, classes: Sequence[str], where: str) -> tuple[str, list[float]]:
    """(class, four numbers of a box or the points of a polygon); an empty line has none."""
    words = line.split()
    if not words:
        return "", []
    try:
        number, values = int(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise ConversionError(f"{where}: {line!r} is not: class number, coordinates") from None
    if not all(-_SLACK <= value <= 1 + _SLACK for value in values):
        raise ConversionError(
            f"{where}: {line!r} leaves 0 to 1: coordinates are parts of the image's size, no pixels"
        )
    if not 0 <= number < len(classes):
        raise ConversionError(
            f"{where}: class {number}, but the names go from 0 to {len(classes) - 1}"
        )
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ConversionError(f"{where}: neither a box of four numbers nor a polygon of points")
    return classes[number], values
