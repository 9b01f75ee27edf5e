"""Resizing, and the augmentation of training records; for both hosts, in numpy and OpenCV.

Letters: N objects, K keypoints, H, W pixels of the record's image, h, w of the result. Boxes are
xyxy in continuous pixel coordinates, sizes (height, width), points (x, y).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy import ndarray

from metaheads.datasets.views import (
    View,
    Window,
    fit_short_side,
    resize_image,
    resize_masks,
    resize_tensor,
    scale_size,
)

__all__ = [
    "Record",
    "TrainTransform",
    "distort_colors",
    "resize_image",
    "resize_masks",
    "resize_record",
    "resize_tensor",
    "scale_size",
]

CROP_TRIALS = 50


@dataclass
class Record:
    """One training image with its objects; an absent field is None.

    Attributes:
        image: (H, W, 3) uint8 or float32 on 0..255; RGB or BGR.
        boxes: (N, 4) float32.
        labels: (N,) int64, 0-based class.
        is_crowd: (N,) bool.
        masks: (N, H, W) bool.
        keypoints: (N, K, 3) float32: x, y, visibility (0 absent, 1 hidden, 2 visible).
        vertices: (N, V, D) float32 of a mesh: x, y, and z in the same unit; NaN for an object
            without a mesh.
        vertex_flip: (V,) int64, which vertex of the mirrored mesh each one is; goes with vertices.
        semantic: (H, W) uint8 panoptic labels (things 0..T-1, stuff behind them), 255 where nothing
            is known; of the whole image: `select` leaves it as it is.
    """

    image: ndarray
    boxes: ndarray
    labels: ndarray
    is_crowd: ndarray
    masks: ndarray | None = None
    keypoints: ndarray | None = None
    vertices: ndarray | None = None
    vertex_flip: ndarray | None = None
    semantic: ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, index: ndarray) -> Record:
        """The record with only the objects that `index` (bool or integers) picks."""
        return dataclasses.replace(
            self,
            boxes=self.boxes[index],
            labels=self.labels[index],
            is_crowd=self.is_crowd[index],
            masks=None if self.masks is None else self.masks[index],
            keypoints=None if self.keypoints is None else self.keypoints[index],
            vertices=None if self.vertices is None else self.vertices[index],
        )


class TrainTransform:
    """The authors' augmentation of YOLACT, each step an option, in their order, then the resize.

    Photometric, expand, crop, mirror as in SSD (Liu et al., arXiv 1512.02325, section 2.2, and
    YOLACT's utils/augmentations.py); vertical flips and rotations are ours, for pictures without an
    up, such as nuclei. Images without objects pass through all of it; any crop will do for them.

    Args:
        size: (height, width) of the result, aspect ratio not kept; None leaves it.
        short_sides: instead, the shorter side becomes one of these, the aspect ratio is kept.
        max_side: then the longer side becomes at most this.
        flip: probability of the mirror.
        flip_vertical: probability of turning upside down.
        rotate90: probability of a rotation by 90, 180 or 270 degrees.
        photometric: brightness, contrast, saturation and hue.
        expand: largest ratio of the canvas on which the image is placed half of the time; 1 is off.
        crop: SSD's random crop.
        mean: fill of the expanded canvas, RGB.
        color_order: of the record's image, "rgb" or "bgr".
        keypoint_flip_pairs: keypoints that a flip swaps, such as left and right eye.

    Raises:
        ValueError: a probability outside [0, 1], another color_order, expand < 1 or an empty size.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] | None = None,
        short_sides: tuple[int, ...] = (),
        max_side: int = 1333,
        flip: float = 0.5,
        flip_vertical: float = 0.0,
        rotate90: float = 0.0,
        photometric: bool = False,
        expand: float = 1.0,
        crop: bool = False,
        mean: tuple[float, float, float] = (123.68, 116.78, 103.94),
        color_order: str = "rgb",
        keypoint_flip_pairs: tuple[tuple[int, int], ...] = (),
    ) -> None:
        if color_order not in ("rgb", "bgr"):
            raise ValueError(f'color_order: expected "rgb" or "bgr", got {color_order!r}')
        if expand < 1:
            raise ValueError(f"expand: expected a ratio of at least 1 (1 = off), got {expand}")
        if size is not None and min(size) < 1:
            raise ValueError(f"size: expected (height, width) of at least (1, 1), got {size}")
        if short_sides and (size is not None or min(short_sides) < 1 or max_side < 1):
            raise ValueError("short_sides and max_side must be positive, and then size is left out")
        chances = {"flip": flip, "flip_vertical": flip_vertical, "rotate90": rotate90}
        for name, chance in chances.items():
            if not 0 <= chance <= 1:
                raise ValueError(f"{name}: expected a probability in [0, 1], got {chance}")
        self.size = size
        self.short_sides, self.max_side = short_sides, max_side
        self.flip = flip
        self.flip_vertical = flip_vertical
        self.rotate90 = rotate90
        self.photometric = photometric
        self.expand = expand
        self.crop = crop
        self.fill = mean if color_order == "rgb" else mean[::-1]
        self.color_order = color_order
        self.keypoint_flip_pairs = keypoint_flip_pairs

    def __call__(self, record: Record, rng: Any = np.random) -> Record:
        """Augments one record, which stays as it is.

        Args:
            record: its boxes may be degenerate or reach out of the image; only the crop drops such.
            rng: whatever has numpy's `uniform`; the hosts seed `numpy.random` in their workers.

        Returns:
            A record with a float32 image (not rounded) and, if `size` is given, of that size. The
            semantic map is 255 outside of the image, and keeps what the crop shows of objects that
            it drops.
        """
        if self.photometric:
            image = distort_colors(record.image, self.color_order, rng)
            record = dataclasses.replace(record, image=image)
        canvas = Window.of(record.image)
        if self.expand > 1 and rng.uniform() < 0.5:
            canvas = _expand(canvas, self.expand, rng)
        window = _sample_crop(record, canvas, rng) if self.crop else None
        if window is not None:
            record = _drop_outside(record, window)
        return _apply(self._sample_view(window or canvas, rng), record, self.fill)

    def _sample_view(self, window: Window, rng: Any) -> View:
        is_mirrored = rng.uniform() < self.flip
        is_upside_down = rng.uniform() < self.flip_vertical  # a mirror and half a turn
        turns = 1 + int(rng.uniform(0, 3)) if rng.uniform() < self.rotate90 else 0
        size = self.size
        if self.short_sides:
            short = self.short_sides[int(rng.uniform(0, len(self.short_sides)))]
            size = fit_short_side(window.size[:: -1 if turns % 2 else 1], short, self.max_side)
        return View(
            window,
            size=size,
            is_mirrored=is_mirrored != is_upside_down,
            turns=(turns + 2 * is_upside_down) % 4,
            flip_pairs=self.keypoint_flip_pairs,
        )


def resize_record(record: Record, size: tuple[int, int]) -> Record:
    """Resizes all of it to `size` (height, width); the image becomes float32."""
    return _apply(View(Window.of(record.image), size=(size[0], size[1])), record)


def _apply(view: View, record: Record, fill: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Record:
    return look(view, record, view.pixels(record.image, fill))


def look(view: View, record: Record, image: ndarray) -> Record:
    """What the view shows of a record's objects, with the image that it shows of the picture."""
    masks, keypoints, vertices = record.masks, record.keypoints, record.vertices
    if vertices is not None:
        assert record.vertex_flip is not None
        vertices = view.vertices(vertices, record.vertex_flip)
    return dataclasses.replace(
        record,
        image=image,
        boxes=view.boxes(record.boxes),
        masks=None if masks is None else view.masks(masks),
        keypoints=None if keypoints is None else view.keypoints(keypoints),
        vertices=vertices,
        semantic=None if record.semantic is None else view.semantic(record.semantic),
    )


def distort_colors(
    image: ndarray, color_order: str = "rgb", rng: Any = np.random, max_hue: float = 18
) -> ndarray:
    """SSD's photometric distortion: each of four changes half of the time.

    Brightness +-32; contrast 0.5 to 1.5, before or after the colours; saturation 0.5 to 1.5; hue
    +-max_hue degrees. The authors let colours leave 0..255; here they are clipped.

    Args:
        image: (H, W, 3) on 0..255.

    Returns:
        (H, W, 3) float32, clipped to 0..255.
    """
    image = image.astype(np.float32)
    if rng.uniform() < 0.5:
        image += np.float32(rng.uniform(-32, 32))
    contrast = np.float32(rng.uniform(0.5, 1.5)) if rng.uniform() < 0.5 else None
    contrast_first = rng.uniform() < 0.5
    if contrast is not None and contrast_first:
        image *= contrast
    saturation = rng.uniform(0.5, 1.5) if rng.uniform() < 0.5 else 1.0
    hue = rng.uniform(-max_hue, max_hue) if rng.uniform() < 0.5 else 0.0
    image = np.clip(image, 0, 255, out=image)
    if saturation != 1 or hue:
        image = _shift_saturation_and_hue(image, saturation, hue, color_order)
    if contrast is not None and not contrast_first:
        image *= contrast
    return np.clip(image, 0, 255, out=image)


def _shift_saturation_and_hue(
    image: ndarray, saturation: float, hue: float, color_order: str
) -> ndarray:
    to_hsv, from_hsv = {
        "rgb": (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB),
        "bgr": (cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR),
    }[color_order]
    hsv = cv2.cvtColor(image, to_hsv)  # hue 0..360, saturation 0..1, value 0..255
    hsv[..., 0] = (hsv[..., 0] + np.float32(hue)) % 360
    hsv[..., 1] = np.minimum(hsv[..., 1] * np.float32(saturation), 1)
    return cv2.cvtColor(hsv, from_hsv)


def _expand(image: Window, max_ratio: float, rng: Any) -> Window:
    """A canvas around the image, which lies anywhere on it."""
    height, width = image.size
    ratio = rng.uniform(1, max_ratio)
    left = int(rng.uniform(0, width * ratio - width))
    top = int(rng.uniform(0, height * ratio - height))
    return Window(-left, -top, int(width * ratio) - left, int(height * ratio) - top)


def _sample_crop(record: Record, canvas: Window, rng: Any) -> Window | None:
    """A random part of the canvas that holds the centre of an object that is no crowd, or None.

    SSD draws one of six modes: no crop, any crop, or an overlap of at least .1, .3, .7 or .9 with
    an object. In YOLACT's code that test never rejects (it asks for an overlap above infinity,
    too), and its author keeps it, because a working test halved the mAP. So there are two modes:
    no crop (1 in 6), or any.
    """
    boxes = record.boxes[~record.is_crowd]
    while rng.uniform(0, 6) >= 1:
        for window in _random_windows(canvas, rng):
            if not len(boxes) or centres_inside(boxes, window).any():
                return window
    return None


def _random_windows(canvas: Window, rng: Any) -> Iterator[Window]:
    """Up to CROP_TRIALS parts, 0.3 to 1 of each side, at most twice as long as wide or reverse."""
    full_width, full_height = canvas.right - canvas.left, canvas.bottom - canvas.top
    for _ in range(CROP_TRIALS):
        width = rng.uniform(0.3, 1) * full_width
        height = rng.uniform(0.3, 1) * full_height
        if not 0.5 <= height / width <= 2 or min(width, height) < 1:
            continue
        left = rng.uniform(0, full_width - width)
        top = rng.uniform(0, full_height - height)
        corners = int(left), int(top), int(left + width), int(top + height)
        yield Window(*np.add(corners, canvas[:2] * 2).tolist())


def centres_inside(boxes: ndarray, window: Window) -> ndarray:
    """(N,) bool."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres > window[:2]) & (centres < window[2:])).all(1)


def _drop_outside(record: Record, window: Window) -> Record:
    """Drops objects with their centre outside, clips boxes, drops what then has no size.

    Points outside become absent.
    """
    boxes = np.clip(record.boxes, window[:2] * 2, window[2:] * 2)
    keypoints = record.keypoints
    if keypoints is not None:
        xy = keypoints[..., :2]
        inside = ((xy >= window[:2]) & (xy <= window[2:])).all(-1, keepdims=True)
        keypoints = np.where(inside, keypoints, 0)
    stays = centres_inside(record.boxes, window) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    return dataclasses.replace(record, boxes=boxes, keypoints=keypoints).select(stays)
