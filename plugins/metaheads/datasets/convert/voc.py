"""Pascal VOC: XML files with boxes, and PNGs with the objects' masks where there are any."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from metaheads.datasets.convert.coco import CocoBuilder, ConversionError, files_in, image_size

_BORDER = 255  # VOC's "void" between objects


def convert_voc(
    folder: Path, classes: Sequence[str] | None = None, progress: Callable = lambda: None
) -> CocoBuilder:
    """A VOC folder (Annotations, JPEGImages, SegmentationObject) -> COCO instances.

    An image with a PNG in SegmentationObject gives its objects with masks, in the order of the XML
    as VOC numbers them; the others give boxes. VOC's coordinates begin at 1 and count both ends.
    Objects marked "difficult" become crowds, as VOC's evaluation ignores them.

    Raises:
        ConversionError: no XML files, a broken one, an image that is not there, or masks that do
            not fit the XML.
    """
    builder = CocoBuilder(classes)
    for file in files_in(folder / "Annotations", ".xml"):
        try:
            root = ElementTree.parse(file).getroot()
            name = root.findtext("filename") or f"{file.stem}.jpg"
            objects = [_read(each) for each in root.iter("object")]
        except (ElementTree.ParseError, TypeError, ValueError) as error:
            raise ConversionError(f"{file} is no VOC annotation: {error}") from None
        builder.add_image(name, image_size(folder / "JPEGImages" / name))
        masks = _masks(folder / "SegmentationObject" / f"{file.stem}.png", len(objects))
        for index, (label, box, is_difficult) in enumerate(objects):
            if masks is not None:
                builder.add_mask(label, masks[index], where=str(file), is_crowd=is_difficult)
            else:
                builder.add_box(label, box, where=str(file), is_crowd=is_difficult)
        progress()
    return builder


def _read(element: ElementTree.Element) -> tuple[str, list[float], bool]:
    """(class, x y width height from 0, difficult)."""
    corners = element.find("bndbox")
    if corners is None:
        raise ValueError("an object without bndbox")
    x1, y1, x2, y2 = (float(corners.findtext(n) or "") for n in ("xmin", "ymin", "xmax", "ymax"))
    box = [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]
    return element.findtext("name") or "", box, element.findtext("difficult") == "1"


def _masks(file: Path, count: int) -> list[np.ndarray] | None:
    if not file.is_file():
        return None
    with Image.open(file) as image:
        numbers = np.asarray(image)
    found = [int(number) for number in np.unique(numbers) if number not in (0, _BORDER)]
    if found != list(range(1, count + 1)):
        raise ConversionError(
            f"{file} holds the objects {found}, its XML has {count}: they must be numbered from 1"
        )
    return [numbers == number for number in found]
