"""labelme's JSON files, one beside each image."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from metaheads.datasets.convert.coco import CocoBuilder, ConversionError, files_in, image_size


def convert_labelme(
    folder: Path, classes: Sequence[str] | None = None, progress: Callable = lambda: None
) -> CocoBuilder:
    """A folder of labelme files -> COCO instances; file names stay relative to the folder.

    Polygons, rectangles and circles become objects; shapes with one `group_id` and label are one
    object. Points and lines have no area and are skipped.

    Raises:
        ConversionError: no such files, or one that is not labelme's.
    """
    builder = CocoBuilder(classes)
    for file in files_in(folder, ".json"):
        try:
            content = json.loads(file.read_bytes())
            shapes, image = content["shapes"], content["imagePath"]
            stated = content.get("imageHeight"), content.get("imageWidth")
            objects = _group(shapes, builder, file)
        except (ValueError, LookupError, TypeError) as error:
            raise ConversionError(
                f"{file} is no file of labelme ({type(error).__name__}: {error}); take it out of "
                "the folder"
            ) from None
        name = image.replace("\\", "/")
        size = image_size(folder / name)
        if None not in stated and stated != size:
            raise ConversionError(
                f"{file} is for an image of {stated} (height, width), but {name} has {size}: was "
                "it resized? Restore it, or annotate it anew"
            )
        builder.add_image(name, size)
        for label, polygons in objects:
            builder.add_polygons(label, polygons, where=str(file))
        progress()
    return builder


def _group(
    shapes: list[dict[str, Any]], builder: CocoBuilder, file: Path
) -> list[tuple[str, list[list[float]]]]:
    """(label, polygons) of every object."""
    objects: list[tuple[str, list[list[float]]]] = []
    groups: dict[tuple, list[list[float]]] = {}
    for shape in shapes:
        label, group = str(shape["label"]), shape.get("group_id")
        polygon = _polygon(shape.get("shape_type", "polygon"), shape["points"])
        if polygon is None:
            builder.skipped.append(f"{file}: {label}, a {shape['shape_type']}")
            continue
        if group is not None and (label, group) in groups:
            groups[label, group].append(polygon)
            continue
        polygons = [polygon]
        if group is not None:
            groups[label, group] = polygons
        objects.append((label, polygons))
    return objects


def _polygon(kind: str, points: list) -> list[float] | None:
    if kind == "polygon":
        return [float(x) for point in points for x in point]
    if kind == "rectangle":
        (x1, y1), (x2, y2) = points
        return [x1, y1, x2, y1, x2, y2, x1, y2]
    if kind == "circle":  # centre, and a point on it
        (x, y), (px, py) = points
        radius, steps = math.hypot(px - x, py - y), 32
        angles = [2 * math.pi * step / steps for step in range(steps)]
        return [v for a in angles for v in (x + radius * math.cos(a), y + radius * math.sin(a))]
    return None
