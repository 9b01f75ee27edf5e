"""Resizing, and looking at a part of a picture; the geometry behind `transforms`.

Letters: N objects, K keypoints, H, W pixels of the image, h, w of the result. Boxes are xyxy in
continuous pixel coordinates, sizes (height, width), points (x, y).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray
from torch import Tensor

VOID = 255  # the label of pixels of which nothing is known


def resize_image(image: ndarray, size: tuple[int, int]) -> ndarray:
    """Resizes by the project's one kernel: bilinear, centres at .5, no antialiasing, in float.

    Args:
        image: (H, W, 3) uint8 or float32.
        size: (h, w).

    Returns:
        (h, w, 3) float32, not rounded.
    """
    channels_first = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    return np.ascontiguousarray(resize_tensor(channels_first, size).permute(1, 2, 0).numpy())


def resize_tensor(image: Tensor, size: tuple[int, int]) -> Tensor:
    """`resize_image` for a (C, H, W) tensor of any type and device -> (C, h, w) float32."""
    channels_last = image.permute(1, 2, 0).float().contiguous()  # resized twice as fast, same bits
    images = channels_last[None].permute(0, 3, 1, 2)
    return F.interpolate(images, tuple(size), mode="bilinear", align_corners=False)[0]


def fit_short_side(size: tuple[int, int], short: int, longest: int) -> tuple[int, int]:
    """(height, width), stretched until the shorter side is `short`, or the longer one `longest`."""
    scale = min(short / min(size), longest / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    return height, width


def scale_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """A network's (height, width) in multi-scale testing, to the nearest multiples of 32."""
    if scale == 1:
        return size
    height, width = (max(32, round(side * scale / 32) * 32) for side in size)
    return height, width


def resize_masks(masks: ndarray, size: tuple[int, int]) -> ndarray:
    """Resizes masks by the kernel of `resize_image`, then `> 0.5`.

    The cost follows the objects' area, not the image's.

    Args:
        masks: (N, H, W) bool or uint8, non-zero inside.
        size: (h, w).

    Returns:
        (N, h, w) bool.
    """
    height, width = masks.shape[1:]
    return View(Window(0, 0, width, height), size=(size[0], size[1])).masks(masks)


class Window(NamedTuple):
    """A part of the plane in whole pixels of the image; may reach beyond it."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def of(cls, image: ndarray) -> Window:
        return cls(0, 0, image.shape[1], image.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    def overlap(self, other: Window) -> Window:
        """What both cover; may be empty, but never turned inside out."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        return Window(left, top, max(left, right), max(top, bottom))


@dataclass(frozen=True)
class View:
    """What the result shows: a window, perhaps mirrored, then turned, then resized.

    The window may reach far out of the image; nothing but the image is ever touched.

    Attributes:
        size: (height, width) of the result; None keeps the window's scale.
        turns: quarters, counter-clockwise.
    """

    window: Window
    size: tuple[int, int] | None = None
    is_mirrored: bool = False
    turns: int = 0
    flip_pairs: tuple[tuple[int, int], ...] = ()

    def pixels(self, image: ndarray, fill: tuple[float, ...]) -> ndarray:
        """(H, W, 3) -> (h, w, 3) float32, with `fill` outside of the image."""
        part, place = self._part(image)
        if place.size == self._turned_size:
            return resize_image(part, self.result_size)
        result = np.empty((*self.result_size, 3), np.float32)
        result[:] = fill
        rows, columns, values = self._resize(part - np.array(fill, np.float32), place)
        result[rows, columns] += values
        return result

    def masks(self, masks: ndarray) -> ndarray:
        """(N, H, W) -> (N, h, w) bool."""
        result = np.zeros((len(masks), *self.result_size), bool)
        for mask, target in zip(masks, result, strict=True):
            part, place = self._part(mask, is_mask=True)
            if part.size:
                rows, columns, values = self._resize(part, place)
                np.greater(values, 0.5, out=target[rows, columns])
        return result

    def semantic(self, labels: ndarray) -> ndarray:
        """(H, W) uint8 -> (h, w) uint8, the nearest pixel's label, VOID outside of the image."""
        part, place = self._part(labels)
        result = np.full(self.result_size, VOID, labels.dtype)
        rows, columns = (
            nearest_cells(cells, results)
            for cells, results in zip(self._turned_size, self.result_size, strict=True)
        )
        down = slice(*rows.searchsorted((place.top, place.bottom)))
        across = slice(*columns.searchsorted((place.left, place.right)))
        seen = part.take(rows[down] - place.top, axis=0)
        result[down, across] = seen.take(columns[across] - place.left, axis=1)
        return result

    def boxes(self, boxes: ndarray) -> ndarray:
        """(N, 4) -> (N, 4) float32."""
        corners = self._points(boxes.reshape(-1, 2, 2))
        return np.concatenate((corners.min(1), corners.max(1)), 1)

    def keypoints(self, keypoints: ndarray) -> ndarray:
        """(N, K, 3) -> (N, K, 3) float32; absent ones lie at (0, 0)."""
        if self.is_mirrored:
            order = np.arange(keypoints.shape[1])
            for first, second in self.flip_pairs:
                order[[first, second]] = second, first
            keypoints = keypoints[:, order]
        visibility = keypoints[..., 2:].astype(np.float32)
        xy = np.where(visibility > 0, self._points(keypoints[..., :2]), 0)
        return np.concatenate((xy, visibility), -1)

    def vertices(self, vertices: ndarray, flip: ndarray) -> ndarray:
        """(N, V, D) -> (N, V, D) float32; z grows as the mean of both axes, NaN stays.

        Args:
            flip: (V,) which vertex of the mirrored mesh each one is.
        """
        if self.is_mirrored:
            vertices = vertices[:, flip]
        (height, width), (result_height, result_width) = self._turned_size, self.result_size
        scale = np.float32(np.sqrt(result_height / height * result_width / width))
        return np.concatenate((self._points(vertices[..., :2]), vertices[..., 2:] * scale), -1)

    @property
    def result_size(self) -> tuple[int, int]:
        return self.size or self._turned_size

    @property
    def _turned_size(self) -> tuple[int, int]:
        return self.window.size[::-1] if self.turns % 2 else self.window.size

    def _points(self, points: ndarray) -> ndarray:
        """(..., 2) -> (..., 2) float32."""
        x, y = np.moveaxis(points.astype(np.float64) - self.window[:2], -1, 0)
        height, width = self.window.size
        if self.is_mirrored:
            x = width - x
        for _ in range(self.turns):
            x, y, height, width = y, width - x, width, height
        scale = self.result_size[1] / width, self.result_size[0] / height
        return np.stack((x * scale[0], y * scale[1]), -1).astype(np.float32)

    def _part(self, pixels: ndarray, is_mask: bool = False) -> tuple[ndarray, Window]:
        """What the window shows of the pixels, mirrored and turned, and where it lies then.

        Of a mask only the part that is not zero.
        """
        seen = self.window.overlap(Window.of(pixels))
        if is_mask:
            mask = np.ascontiguousarray(pixels).view(np.uint8)
            x, y, width, height = cv2.boundingRect(
                mask[seen.top : seen.bottom, seen.left : seen.right]
            )
            left, top = seen.left + x, seen.top + y
            seen = Window(left, top, left + width, top + height)
        part = pixels[seen.top : seen.bottom, seen.left : seen.right]
        part = part != 0 if is_mask else part
        place = Window(*np.subtract(seen, self.window[:2] * 2).tolist())
        height, width = self.window.size
        if self.is_mirrored:
            part = part[:, ::-1] if is_mask or not part.size else cv2.flip(part, 1)
            place = Window(width - place.right, place.top, width - place.left, place.bottom)
        for _ in range(self.turns):
            part = np.rot90(part)
            place = Window(place.top, width - place.right, place.bottom, width - place.left)
            height, width = width, height
        return part, place

    def _resize(self, part: ndarray, place: Window) -> tuple[slice, slice, ndarray]:
        """Resizes a part of the turned window with zeros around it: rows, columns, values."""
        (height, width), size = self._turned_size, self.result_size
        rows, values = _interpolate(part, place.top, height, size[0])
        columns, values = _interpolate(values.swapaxes(0, 1), place.left, width, size[1])
        return rows, columns, values.swapaxes(0, 1)


def nearest_cells(cells: int, results: int) -> ndarray:
    """The cell that each result shows, (results,) int64: floor((i + 0.5) cells / results).

    Centres lie at .5, as in `resize_image`; whole numbers leave no rounding errors.
    """
    return (2 * np.arange(results) + 1) * cells // (2 * results)


def _interpolate(part: ndarray, start: int, cells: int, results: int) -> tuple[slice, ndarray]:
    """Bilinear interpolation along the first axis from `cells` to `results` positions.

    Args:
        part: what lies at the cells from `start` on; the others are zero.

    Returns:
        The results that touch the part, and their values as float32.
    """
    lower, upper, weight = _mixed_cells(cells, results)
    touched = slice(int(upper.searchsorted(start)), int(lower.searchsorted(start + len(part))))
    padded = np.zeros((len(part) + 2, *part.shape[1:]), np.float32)
    padded[1:-1] = part
    low = padded.take(lower[touched] - (start - 1), axis=0)
    mixed = padded.take(upper[touched] - (start - 1), axis=0)
    mixed -= low
    mixed *= weight[touched].reshape(-1, *[1] * (part.ndim - 1))
    mixed += low
    return touched, mixed


@functools.lru_cache(maxsize=64)
def _mixed_cells(cells: int, results: int) -> tuple[ndarray, ndarray, ndarray]:
    """The two cells that each result mixes, and the weight of the second (as F.interpolate)."""
    position = np.maximum((np.arange(results) + 0.5) * (cells / results) - 0.5, 0)
    lower = np.minimum(position.astype(np.int64), cells - 1)
    upper = np.minimum(lower + 1, cells - 1)
    return lower, upper, (position - lower).astype(np.float32)
