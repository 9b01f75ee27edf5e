"""Building a COCO instances file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from metaheads.datasets.check.images import upright_size


class ConversionError(ValueError):
    """A file that cannot be converted; the message names it and the remedy."""


class CocoBuilder:
    """Collects images and objects.

    Args:
        classes: names in the order of their ids, which begin at 1; None: in the order in which they
            come.
        keypoints: names of the keypoints that every object has.

    Attributes:
        content: the COCO file so far.
        skipped: what was left out, and why.
        ignored: what became a crowd although it is a single object, and why.
    """

    def __init__(self, classes: Sequence[str] | None = None, keypoints: Sequence[str] = ()) -> None:
        self._is_open = classes is None
        self._keypoints = tuple(keypoints)
        self._ids: dict[str, int] = {}
        self.content: dict[str, list] = {"images": [], "annotations": [], "categories": []}
        self.skipped: list[str] = []
        self.ignored: list[str] = []
        for name in classes or ():
            self._add_category(name)

    def add_image(self, file_name: str, size: tuple[int, int]) -> None:
        """The objects that follow are in this image of (height, width)."""
        number = len(self.content["images"]) + 1
        entry = {"id": number, "file_name": file_name, "height": size[0], "width": size[1]}
        self.content["images"].append(entry)

    def add_polygons(self, name: str, polygons: list[list[float]], *, where: str) -> None:
        """An object with polygons [x, y, x, y, ...] in pixels; those of one area count once.

        Args:
            where: the file, for messages.
        """
        image = self.content["images"][-1]
        polygons = [polygon for polygon in polygons if len(polygon) >= 6]
        if not polygons:
            self.skipped.append(f"{where}: {name} without three points")
            return
        parts = rle.frPyObjects(polygons, image["height"], image["width"])
        points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in polygons])
        low, high = points.min(0), points.max(0)
        box = [*low.tolist(), *(high - low).tolist()]
        self._add(name, box, float(rle.area(rle.merge(parts))), polygons, where)

    def add_mask(self, name: str, mask: np.ndarray, *, where: str, is_crowd: bool = False) -> None:
        """An object with a mask (H, W) bool."""
        if not mask.any():
            self.skipped.append(f"{where}: {name} without a pixel")
            return
        encoded = rle.encode(np.asfortranarray(mask, np.uint8))
        segmentation = {"size": encoded["size"], "counts": encoded["counts"].decode()}
        box = rle.toBbox(encoded).tolist()
        self._add(name, box, float(rle.area(encoded)), segmentation, where, is_crowd)

    def add_box(
        self,
        name: str,
        box: list[float],
        *,
        where: str,
        is_crowd: bool = False,
        keypoints: list[float] | None = None,
    ) -> None:
        """An object without a mask; box x, y, width, height in pixels.

        Args:
            keypoints: x, y, visibility of each.
        """
        self._add(name, box, box[2] * box[3], [], where, is_crowd)
        if keypoints is not None:
            seen = sum(visibility > 0 for visibility in keypoints[2::3])
            self.content["annotations"][-1] |= {"keypoints": keypoints, "num_keypoints": seen}

    def _add(
        self,
        name: str,
        box: list[float],
        area: float,
        segmentation: Any,
        where: str,
        is_crowd: bool = False,
    ) -> None:
        if name not in self._ids:
            if not self._is_open:
                raise ConversionError(
                    f"{where}: class {name!r} is not among the classes given "
                    f"({', '.join(self._ids)}); add it, or correct the file"
                )
            self._add_category(name)
        self.content["annotations"].append(
            {
                "id": len(self.content["annotations"]) + 1,
                "image_id": len(self.content["images"]),
                "category_id": self._ids[name],
                "bbox": box,
                "area": area,
                "iscrowd": int(is_crowd),
                "segmentation": segmentation,
            }
        )

    def _add_category(self, name: str) -> None:
        self._ids[name] = len(self._ids) + 1
        category: dict[str, Any] = {"id": self._ids[name], "name": name}
        if self._keypoints:
            category |= {"keypoints": list(self._keypoints), "skeleton": []}
        self.content["categories"].append(category)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image file, upright by EXIF as annotators saw it.

    Raises:
        ConversionError: it is not there, or no image.
    """
    try:
        with Image.open(path) as image:
            return upright_size(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ConversionError(f"image {path} is not there or broken: {error}") from None


def files_in(folder: Path, suffix: str) -> list[Path]:
    """The files with a suffix, in order.

    Raises:
        ConversionError: there are none.
    """
    found = sorted(folder.glob(f"*{suffix}")) if folder.is_dir() else []
    if not found:
        raise ConversionError(f"no {suffix} file in the folder {folder}")
    return found
