"""Pictures of panoptic segmentations: colors, outlines of things, names, and hatched unknowns.

The segments are painted by one look-up of their ids; outlines, and where the names go, come from
the whole map at once. Letters: M segments, H, W pixels. Images are RGB, uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy import ndarray

from metaheads.structures import Detections, PanopticSegmentation
from metaheads.visualization import (
    OPACITY,
    Style,
    choose_colors,
    draw_detections,
    find_borders,
    tag_size,
    write_tag,
)


def draw_result(
    image: ndarray,
    result: Detections | PanopticSegmentation,
    class_names: Sequence[str],
    **options: Any,
) -> ndarray:
    """Draws whatever a model gives; `options` as of `draw_detections` or `draw_segmentation`."""
    if isinstance(result, PanopticSegmentation):
        return draw_segmentation(image, result, class_names, **options)
    return draw_detections(image, result, class_names, **options)


def draw_segmentation(
    image: ndarray,
    segmentation: PanopticSegmentation,
    class_names: Sequence[str],
    *,
    scale: float = 1.0,
    color_by: str = "auto",
    show_labels: bool = True,
) -> ndarray:
    """Draws a panoptic segmentation over its image; void is left as it is, unknown is hatched.

    Args:
        image: (H, W, 3) uint8.
        segmentation: of this image.
        class_names: of things, then of stuff.
        scale, color_by: as in `draw_detections`.
        show_labels: writes the class of each segment into it, where it is large enough.

    Returns:
        (H * scale, W * scale, 3) uint8; the image itself is left as it is.

    Raises:
        ValueError: another image than (H, W, 3) uint8, or a map of another size.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image: expected (H, W, 3) uint8, got {image.shape} {image.dtype}")
    ids = segmentation.ids.cpu().numpy()
    if ids.shape != image.shape[:2]:
        raise ValueError(f"the segmentation is {ids.shape}, its image {image.shape[:2]} pixels")
    segments, unknown = segmentation.segments, segmentation.is_unknown
    index = _enlarge(_number(ids, [each.id for each in segments]), scale)
    canvas = _enlarge(np.ascontiguousarray(image), scale, cv2.INTER_CUBIC)
    colors = choose_colors(np.array([e.label for e in segments], int), class_names, color_by)
    borders = find_borders(index)
    is_thing = np.array([False, *(each.is_thing for each in segments)])
    canvas = _paint(canvas, index, colors, borders & is_thing[index])
    style = Style.of(canvas)
    if unknown is not None and unknown.any():
        hatched = _enlarge(unknown.cpu().numpy().astype(np.uint8), scale)
        _hatch(canvas, (hatched > 0) & (index == 0), style)
    if show_labels and segments:
        names = [_name(each.label, class_names) for each in segments]
        _write_names(canvas, _find_poles(index, borders, len(segments)), names, colors, style)
    return canvas


def _enlarge(image: ndarray, scale: float, how: int = cv2.INTER_NEAREST_EXACT) -> ndarray:
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return image if scale == 1 else cv2.resize(image, size, interpolation=how)


def _number(ids: ndarray, known: list[int]) -> ndarray:
    """(H, W) int32: 1 + place of each pixel's id among the known; 0 for others."""
    table = np.zeros(max([0, int(ids.max(initial=0)), *known]) + 1, np.int32)
    table[known] = np.arange(1, len(known) + 1)
    table[0] = 0  # void, whatever the segments say
    return table[ids]


def _paint(image: ndarray, index: ndarray, colors: ndarray, outlines: ndarray) -> ndarray:
    """Mixes the segments' colors with the image; in the outlines they are full."""
    palette = np.concatenate((np.zeros((1, 3), np.uint8), colors))
    overlay = palette.take(index, axis=0)  # (H, W, 3)
    blended = cv2.addWeighted(image, 1 - OPACITY, overlay, OPACITY, 0)
    cv2.copyTo(overlay, outlines.view(np.uint8), blended)
    return cv2.copyTo(blended, (index > 0).view(np.uint8), image.copy())


def _hatch(canvas: ndarray, where: ndarray, style: Style) -> None:
    """Draws white and black diagonals, to be seen on any image."""
    rows, columns = where.nonzero()
    width = style.line
    phase = (rows + columns) % (8 * width)
    for first, ink in ((0, 255), (width, 0)):
        is_line = (phase >= first) & (phase < first + width)
        canvas[rows[is_line], columns[is_line]] = ink


def _find_poles(index: ndarray, borders: ndarray, count: int) -> ndarray:
    """(M, 3): x, y of the pixel of each segment that is farthest from its border, and how far."""
    inside = (~borders).astype(np.uint8)
    inside[[0, -1]] = 0
    inside[:, [0, -1]] = 0
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_3)
    is_peak = (distance >= cv2.dilate(distance, np.ones((3, 3), np.uint8))) & (distance > 0)
    rows, columns = (is_peak & (index > 0)).nonzero()
    found = distance[rows, columns]
    order = np.argsort(found, kind="stable")  # the farthest of a segment is written last
    poles = np.zeros((count, 3))
    numbers = index[rows, columns] - 1
    poles[numbers[order]] = np.stack((columns, rows, found), 1)[order]
    return poles


def _name(label: int, class_names: Sequence[str]) -> str:
    return class_names[label] if label < len(class_names) else str(label)


def _write_names(
    canvas: ndarray, poles: ndarray, names: list[str], colors: ndarray, style: Style
) -> None:
    """Writes each name around its pole, the largest segments first.

    A name that is higher than the segment there, or that would cover another, is left out.
    """
    taken = np.zeros(canvas.shape[:2], bool)
    for number in np.argsort(-poles[:, 2], kind="stable"):
        x, y, radius = poles[number]
        width, height = tag_size(names[number], style)
        if 2 * radius < height:
            break
        left = int(max(min(x - width / 2, canvas.shape[1] - width), 0))
        top = int(max(min(y - height / 2, canvas.shape[0] - height), 0))
        place = slice(top, top + height), slice(left, left + width)
        if not taken[place].any():
            taken[place] = True
            write_tag(canvas, (left, top), names[number], colors[number], style)
