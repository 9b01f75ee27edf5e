"""Pictures of results: masks, boxes and labels over an image, pictures beside each other.

All masks are blended at once: they are painted into a map of object numbers, which is looked up in
the palette and mixed with the image in one pass; their contours are where neighbours in the map
differ. Letters: N objects, K keypoints, H, W pixels. Images are RGB, uint8.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy import ndarray

from metaheads.datasets.transforms import Record
from metaheads.datasets.views import resize_masks
from metaheads.structures import Detections

OPACITY = 0.45
GREY = (150, 150, 150)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_detections(
    image: ndarray,
    detections: Detections,
    class_names: Sequence[str],
    *,
    threshold: float = 0.0,
    scale: float = 1.0,
    color_by: str = "auto",
    show_boxes: bool = True,
    show_labels: bool = True,
) -> ndarray:
    """Draws finished detections over their image.

    Args:
        image: (H, W, 3) uint8.
        detections: finished, in pixels of the image.
        threshold: lowest score that is drawn.
        scale: enlarges the image before drawing, so that labels are readable on small ones.
        color_by: "class", "instance", or "auto": by class unless there is only one.

    Returns:
        (H * scale, W * scale, 3) uint8.
    """
    shown = detections.scores >= threshold
    drawn = (detections if shown.all() else detections[shown]).to("cpu")
    return draw_objects(
        image,
        drawn.boxes.numpy(),
        drawn.labels.numpy(),
        class_names,
        scores=drawn.scores.numpy(),
        masks=None if drawn.masks is None else drawn.masks.numpy(),
        keypoints=None if drawn.keypoints is None else drawn.keypoints.numpy(),
        vertices=None if drawn.vertices is None else drawn.vertices.numpy(),
        scale=scale,
        color_by=color_by,
        show_boxes=show_boxes,
        show_labels=show_labels,
    )


def draw_record(record: Record, class_names: Sequence[str], **options: Any) -> ndarray:
    """Draws the ground truth of a record (RGB) over its image; `options` as of `draw_objects`."""
    image = record.image.clip(0, 255).round().astype(np.uint8)
    return draw_objects(
        image,
        record.boxes,
        record.labels,
        class_names,
        is_crowd=record.is_crowd,
        masks=record.masks,
        keypoints=record.keypoints,
        vertices=record.vertices,
        **options,
    )


def draw_objects(
    image: ndarray,
    boxes: ndarray,
    labels: ndarray,
    class_names: Sequence[str],
    *,
    scores: ndarray | None = None,
    is_crowd: ndarray | None = None,
    masks: ndarray | None = None,
    keypoints: ndarray | None = None,
    vertices: ndarray | None = None,
    scale: float = 1.0,
    color_by: str = "auto",
    show_boxes: bool = True,
    show_labels: bool = True,
) -> ndarray:
    """Draws objects over an image, smaller ones above larger ones; crowds are grey.

    Args:
        image: (H, W, 3) uint8.
        boxes: (N, 4) xyxy, pixels of the image.
        labels: (N,) 0-based.
        scores: (N,) in [0, 1].
        is_crowd: (N,) bool.
        masks: (N, H, W) bool.
        keypoints: (N, K, 3): x, y and visibility or score; drawn where that is above 0.
        vertices: (N, V, D): x, y and more; dots, none where they are NaN.

    Returns:
        (H * scale, W * scale, 3) uint8; the image itself is left as it is.

    Raises:
        ValueError: another image than (H, W, 3) uint8, or an unknown color_by.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image: expected (H, W, 3) uint8, got {image.shape} {image.dtype}")
    colors = choose_colors(labels, class_names, color_by)
    if is_crowd is not None:
        colors[np.asarray(is_crowd, bool)] = GREY
    canvas = np.ascontiguousarray(image)
    if scale != 1:
        size = (round(image.shape[0] * scale), round(image.shape[1] * scale))
        canvas = cv2.resize(canvas, size[::-1], interpolation=cv2.INTER_CUBIC)
        masks = None if masks is None else resize_masks(masks, size)
    canvas = canvas.copy() if masks is None else blend_masks(canvas, masks, colors)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4) * scale
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    style = Style.of(canvas)
    if show_boxes:
        for index in np.argsort(-areas, kind="stable"):
            _draw_box(canvas, boxes[index], colors[index], style)
    if vertices is not None:
        _draw_vertices(canvas, vertices, colors, scale, style)
    if keypoints is not None:
        _draw_keypoints(canvas, keypoints, colors, scale, style)
    if show_labels:
        texts = [_text(index, labels, class_names, scores, is_crowd) for index in range(len(boxes))]
        _draw_tags(canvas, boxes, texts, colors, style)
    return canvas


def blend_masks(
    image: ndarray, masks: ndarray, colors: ndarray, opacity: float = OPACITY
) -> ndarray:
    """Blends all masks with the image at once, the smaller above the larger, and draws contours.

    Args:
        image: (H, W, 3) uint8.
        masks: (N, H, W) bool.
        colors: (N, 3) uint8.

    Returns:
        (H, W, 3) uint8: image * (1 - opacity) + color * opacity inside of masks, the full color on
        their contours, the image elsewhere.
    """
    objects = _object_map(masks)
    palette = np.concatenate((np.zeros((1, 3), np.uint8), colors))
    overlay = palette.take(objects, axis=0)  # (H, W, 3)
    blended = cv2.addWeighted(image, 1 - opacity, overlay, opacity, 0)
    contours = find_borders(objects)
    cv2.copyTo(overlay, contours.view(np.uint8), blended)
    return cv2.copyTo(blended, (objects > 0).view(np.uint8), image.copy())


def grid(images: Sequence[ndarray], columns: int, gap: int = 8) -> ndarray:
    """Images in rows of `columns`, on white; each centred in a cell of the largest one's size.

    Raises:
        ValueError: no images, or no columns.
    """
    if not images or columns < 1:
        raise ValueError(f"expected images and columns, got {len(images)} and {columns}")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    shape = rows * (height + gap) + gap, columns * (width + gap) + gap, 3
    canvas = np.full(shape, 255, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top = gap + row * (height + gap) + (height - image.shape[0]) // 2
        left = gap + column * (width + gap) + (width - image.shape[1]) // 2
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def side_by_side(
    left: ndarray, right: ndarray, titles: tuple[str, str] = ("ground truth", "prediction")
) -> ndarray:
    """Two images with a title above each, on white."""
    titled = [_add_title(image, title) for image, title in ((left, titles[0]), (right, titles[1]))]
    height = max(image.shape[0] for image in titled)
    padded = [
        cv2.copyMakeBorder(
            image, 0, height - image.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255)
        )
        for image in titled
    ]
    gap = np.full((height, 4, 3), 255, np.uint8)
    return np.concatenate((padded[0], gap, padded[1]), 1)


def class_color(label: int) -> tuple[int, int, int]:
    """A bright color, always the same for a label; neighbouring labels differ much."""
    hue = (0.58 + label * 0.6180339887) % 1  # the golden ratio spreads hues evenly
    saturation = (0.85, 0.65, 0.95)[label % 3]
    value = (0.95, 1.0, 0.8)[label // 3 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    white = max(0, 0.4 - (0.3 * red + 0.59 * green + 0.11 * blue))  # else blue looks black
    red, green, blue = (round(255 * (each + (1 - each) * white)) for each in (red, green, blue))
    return red, green, blue


class Style(NamedTuple):
    """Sizes in pixels, by the size of the picture."""

    line: int
    font: float
    padding: int

    @classmethod
    def of(cls, canvas: ndarray) -> Style:
        size = min(canvas.shape[:2])
        return cls(max(1, round(size / 400)), max(0.38, min(size / 1100, 1.2)), max(2, size // 240))


def choose_colors(labels: ndarray, class_names: Sequence[str], color_by: str) -> ndarray:
    """(N,) labels -> (N, 3) uint8 colors; `color_by` as of `draw_detections`.

    Raises:
        ValueError: an unknown color_by.
    """
    if color_by not in ("auto", "class", "instance"):
        raise ValueError(f'color_by: expected "auto", "class" or "instance", got {color_by!r}')
    by_class = color_by == "class" or (color_by == "auto" and len(class_names) > 1)
    numbers = labels if by_class else range(len(labels))
    colors = [class_color(int(number)) for number in numbers]
    return np.array(colors, np.uint8).reshape(-1, 3)


def _object_map(masks: ndarray) -> ndarray:
    """(N, H, W) bool -> (H, W): 1 + index of the smallest object at each pixel, or 0."""
    masks = np.ascontiguousarray(masks, bool)
    objects = np.zeros(masks.shape[1:], np.uint8 if len(masks) < 256 else np.int32)
    parts = []
    for mask in masks:
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        parts.append((slice(y, y + height), slice(x, x + width)))
    areas = [cv2.countNonZero(m[p].view(np.uint8)) for m, p in zip(masks, parts, strict=True)]
    for index in sorted(range(len(masks)), key=lambda index: -areas[index]):
        part = parts[index]
        np.copyto(objects[part], index + 1, where=masks[index][part])
    return objects


def find_borders(objects: ndarray) -> ndarray:
    """(H, W) bool: pixels with another object, or none, to the right, left, above or below."""
    borders = np.zeros(objects.shape, bool)
    across = objects[:, 1:] != objects[:, :-1]
    down = objects[1:] != objects[:-1]
    borders[:, 1:] |= across
    borders[:, :-1] |= across
    borders[1:] |= down
    borders[:-1] |= down
    return borders


def _draw_box(canvas: ndarray, box: ndarray, color: ndarray, style: Style) -> None:
    x1, y1, x2, y2 = box
    corners = (int(x1), int(y1)), (max(int(x2) - 1, int(x1)), max(int(y2) - 1, int(y1)))
    cv2.rectangle(canvas, *corners, color.tolist(), style.line)


def _draw_keypoints(
    canvas: ndarray, keypoints: ndarray, colors: ndarray, scale: float, style: Style
) -> None:
    for points, color in zip(np.asarray(keypoints), colors.tolist(), strict=True):
        for x, y, shown in points:
            if shown > 0:
                centre = int(x * scale), int(y * scale)
                cv2.circle(canvas, centre, 2 * style.line + 1, (255, 255, 255), -1, cv2.LINE_AA)
                cv2.circle(canvas, centre, 2 * style.line, color, -1, cv2.LINE_AA)


def _draw_vertices(
    canvas: ndarray, vertices: ndarray, colors: ndarray, scale: float, style: Style
) -> None:
    """Squares as wide as a line; all of an object at once, there may be thousands."""
    limits = canvas.shape[1], canvas.shape[0]
    for points, color in zip(np.asarray(vertices)[..., :2], colors, strict=True):
        places = np.floor(points[np.isfinite(points).all(1)] * scale).astype(int)
        for offset in np.ndindex(style.line, style.line):
            x, y = (places + offset)[((places + offset >= 0) & (places + offset < limits)).all(1)].T
            canvas[y, x] = color


def _text(
    index: int,
    labels: ndarray,
    class_names: Sequence[str],
    scores: ndarray | None,
    is_crowd: ndarray | None,
) -> str:
    """Class and score; of a single class the score alone, if there is one."""
    label = int(labels[index])
    name = class_names[label] if label < len(class_names) else str(label)
    if is_crowd is not None and is_crowd[index]:
        name += " (crowd)"
    if scores is None:
        return name
    score = f"{scores[index]:.2f}"
    return score if len(class_names) == 1 else f"{name} {score}"


def _draw_tags(
    canvas: ndarray, boxes: ndarray, texts: list[str], colors: ndarray, style: Style
) -> None:
    """Writes each text at its box, where it stays in the image and covers no other text.

    The first come first; a text that would cover others wherever it stood is left out.
    """
    taken = np.zeros(canvas.shape[:2], bool)
    for box, text, color in zip(boxes, texts, colors, strict=True):
        tag = tag_size(text, style)
        place = _free_place(taken, box, tag)
        if place is None:
            continue
        x, y = place
        taken[y : y + tag[1], x : x + tag[0]] = True
        write_tag(canvas, place, text, color, style)


def tag_size(text: str, style: Style) -> tuple[int, int]:
    """(width, height) of what `write_tag` writes."""
    (width, height), baseline = cv2.getTextSize(text, _FONT, style.font, 1)
    return width + 2 * style.padding, height + baseline + style.padding


def write_tag(
    canvas: ndarray, place: tuple[int, int], text: str, color: ndarray, style: Style
) -> None:
    """Writes a text on its color; `place` is the (x, y) of the upper left corner."""
    x, y = place
    width, height = tag_size(text, style)
    (_, text_height), _ = cv2.getTextSize(text, _FONT, style.font, 1)
    canvas[y : y + height, x : x + width] = color
    is_bright = color @ np.array([0.299, 0.587, 0.114]) > 140
    ink = (0, 0, 0) if is_bright else (255, 255, 255)
    origin = x + style.padding, y + text_height + style.padding // 2 + 1
    cv2.putText(canvas, text, origin, _FONT, style.font, ink, 1, cv2.LINE_AA)


def _free_place(taken: ndarray, box: ndarray, tag: tuple[int, int]) -> tuple[int, int] | None:
    """Corner (x, y) of a tag (width, height): above the box, in its top, below or in its bottom.

    The first that is free, or None.
    """
    height, width = taken.shape
    x1, y1, x2, y2 = box.astype(int).tolist()
    corners = [(x, y) for x in (x1, x2 - tag[0]) for y in (y1 - tag[1], y1, y2, y2 - tag[1])]
    for x, y in corners:
        x, y = max(min(x, width - tag[0]), 0), max(min(y, height - tag[1]), 0)
        if not taken[y : y + tag[1], x : x + tag[0]].any():
            return x, y
    return None


def _add_title(image: ndarray, title: str) -> ndarray:
    style = Style.of(image)
    font = style.font * 1.2
    (_, text_height), baseline = cv2.getTextSize(title, _FONT, font, 1)
    bar = np.full((text_height + baseline + 6, image.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, title, (2, text_height + 3), _FONT, font, (40, 40, 40), 1, cv2.LINE_AA)
    return np.concatenate((bar, image))
