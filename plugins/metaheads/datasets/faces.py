"""The augmentation of RetinaFace's authors; for both hosts.

Letters: H, W pixels of the record's image, S side of the result.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
from numpy import ndarray

from metaheads.datasets.face_labels import FACE_FLIP_PAIRS
from metaheads.datasets.transforms import Record, centres_inside, distort_colors, look
from metaheads.datasets.views import View, Window, resize_image

CROP_TRIALS = 250
_WHOLE = 0.2  # probability of the largest crop, where scales are drawn from a range
_MAX_HUE = 36.0  # degrees; 18 of OpenCV's 180
_INTERPOLATIONS = (
    cv2.INTER_LINEAR,
    cv2.INTER_CUBIC,
    cv2.INTER_AREA,
    cv2.INTER_NEAREST,
    cv2.INTER_LANCZOS4,
)


class FaceTransform:
    """A square crop that wholly holds a face, colours, the mirror, the resize.

    As in biubug6/Pytorch_Retinaface, data/data_augment.py: faces whose centre is inside of the crop
    stay, their boxes and points are clipped to it; of crowds stays what the crop shows. An image
    that gives no crop is padded below and on the right to a square. Colours are clipped to 0..255,
    as the authors' are. Images without faces, which the authors refuse, are cropped anywhere.

    Args:
        size: S.
        scales: the crop's side is one of these parts of the image's shorter side.
        scale_range: instead, (smallest, largest) part, drawn evenly; one time in five it is the
            largest (Face-Detector-1MB, with (0.3, 1.0)).
        min_face: faces whose shorter side is at most so many pixels in the result are dropped
            (Face-Detector-1MB: 5).
        flip: probability of the mirror.
        photometric: brightness, contrast, saturation and hue.
        random_interpolation: one of OpenCV's five at random; else our own kernel.
        mean: what lies around the image, RGB.
        color_order: of the record's image, "rgb" or "bgr".
        keypoint_flip_pairs: keypoints that the mirror swaps.

    Raises:
        ValueError: an empty size, scales outside of (0, 1], a probability outside of [0, 1] or
            another color_order.
    """

    def __init__(
        self,
        *,
        size: int = 640,
        scales: tuple[float, ...] = (0.3, 0.45, 0.6, 0.8, 1.0),
        scale_range: tuple[float, ...] = (),
        min_face: float = 0.0,
        flip: float = 0.5,
        photometric: bool = True,
        random_interpolation: bool = True,
        mean: tuple[float, float, float] = (123.0, 117.0, 104.0),
        color_order: str = "rgb",
        keypoint_flip_pairs: tuple[tuple[int, int], ...] = FACE_FLIP_PAIRS,
    ) -> None:
        if size < 1:
            raise ValueError(f"size: expected a side of at least 1, got {size}")
        if not scales or not all(0 < each <= 1 for each in (*scales, *scale_range)):
            raise ValueError(
                f"scales and scale_range are parts in (0, 1], got {scales} and {scale_range}"
            )
        if scale_range and (len(scale_range) != 2 or scale_range[0] > scale_range[1]):
            raise ValueError(f"scale_range: expected (smallest, largest), got {scale_range}")
        if not 0 <= flip <= 1:
            raise ValueError(f"flip: expected a probability in [0, 1], got {flip}")
        if color_order not in ("rgb", "bgr"):
            raise ValueError(f'color_order: expected "rgb" or "bgr", got {color_order!r}')
        self.size, self.scales, self.scale_range = size, scales, scale_range
        self.min_face, self.flip, self.photometric = min_face, flip, photometric
        self.random_interpolation = random_interpolation
        self.fill = mean if color_order == "rgb" else mean[::-1]
        self.color_order = color_order
        self.keypoint_flip_pairs = keypoint_flip_pairs

    def __call__(self, record: Record, rng: Any = np.random) -> Record:
        """Augments one record, which stays as it is.

        Args:
            record: its boxes may be degenerate or reach out of the image.
            rng: whatever has numpy's `uniform`; the hosts seed `numpy.random` in their workers.

        Returns:
            A record with a float32 image (S, S, 3). Vertices are not clipped.
        """
        window, record = self._crop(record, rng)
        view = View(
            window,
            size=(self.size, self.size),
            is_mirrored=rng.uniform() < self.flip,
            flip_pairs=self.keypoint_flip_pairs,
        )
        return look(view, record, self._pixels(record.image, view, rng))

    def _crop(self, record: Record, rng: Any) -> tuple[Window, Record]:
        """A part of the image with the faces in it; or, without one, the square around it."""
        height, width = record.image.shape[:2]
        for _ in range(CROP_TRIALS):
            side = max(1, int(self._draw_scale(rng) * min(height, width)))
            left, top = (int(rng.uniform(0, whole - side)) for whole in (width, height))
            window = Window(left, top, left + side, top + side)
            if record.is_crowd.all():
                return window, self._clip(record, window)
            if _hold(record.boxes[~record.is_crowd], window).any():
                cropped = self._clip(record, window)
                if not cropped.is_crowd.all():
                    return window, cropped
        return Window(0, 0, max(height, width), max(height, width)), record

    def _draw_scale(self, rng: Any) -> float:
        if not self.scale_range:
            return self.scales[int(rng.uniform(0, len(self.scales)))]
        if rng.uniform() < _WHOLE:
            return self.scale_range[1]
        return rng.uniform(*self.scale_range)

    def _clip(self, record: Record, window: Window) -> Record:
        boxes = np.clip(record.boxes, window[:2] * 2, window[2:] * 2)
        sides = (boxes[:, 2:] - boxes[:, :2]).min(1) * (self.size / window.size[0])
        keypoints = record.keypoints
        if keypoints is not None:
            xy = np.clip(keypoints[..., :2], window[:2], window[2:])
            keypoints = np.concatenate((xy, keypoints[..., 2:]), -1).astype(np.float32)
        stays = centres_inside(record.boxes, window) & (sides > self.min_face)
        stays |= record.is_crowd & (sides > 0)
        return dataclasses.replace(record, boxes=boxes, keypoints=keypoints).select(stays)

    def _pixels(self, image: ndarray, view: View, rng: Any) -> ndarray:
        """(S, S, 3) float32; only what the crop shows is touched."""
        window = view.window
        seen = window.overlap(Window.of(image))
        part = image[seen.top : seen.bottom, seen.left : seen.right]
        if self.photometric:
            part = distort_colors(part, self.color_order, rng, _MAX_HUE)
        moved = Window(*np.subtract(window, seen[:2] * 2).tolist())
        plain = View(moved, is_mirrored=view.is_mirrored).pixels(part, self.fill)
        if not self.random_interpolation:
            return resize_image(plain, view.result_size)
        chosen = _INTERPOLATIONS[int(rng.uniform(0, len(_INTERPOLATIONS)))]
        return cv2.resize(plain, view.result_size[::-1], interpolation=chosen)


def _hold(boxes: ndarray, window: Window) -> ndarray:
    """(N,) bool: boxes of at least one pixel's area that lie wholly in the window."""
    is_inside = (boxes[:, :2] >= window[:2]).all(1) & (boxes[:, 2:] <= window[2:]).all(1)
    return is_inside & ((boxes[:, 2:] - boxes[:, :2]).prod(1) >= 1)
