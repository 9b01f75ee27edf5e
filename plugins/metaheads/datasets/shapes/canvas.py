"""Sprites: objects painted once in their own frame, then carried into pictures by an affine.

Points are (x, y) and continuous: pixel i covers [i, i + 1). Affines are (2, 3).
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np

_FRACTION_BITS = 4  # of OpenCV's fixed-point drawing coordinates


@dataclass(frozen=True)
class Sprite:
    """One painted object.

    Args:
        category: category id, or 0 for clutter.
        pixels: (n, n, 4) float32, RGB times alpha, and alpha, in [0, 1].
        outline: (M, 2) float64 convex hull of the object, in canvas pixels.
        keypoints: (K, 2) float64 in canvas pixels, or None.
        scale: picture pixels per canvas pixel at the size that the sprite was painted for.
        area: pixels that the whole object covers at that size.
    """

    category: int
    pixels: np.ndarray
    outline: np.ndarray
    keypoints: np.ndarray | None
    scale: float
    area: float

    def to_picture(
        self, center: tuple[float, float], rotation: float, zoom: float = 1.0
    ) -> np.ndarray:
        """(2, 3) from canvas pixels to a picture: the canvas center lands on `center`.

        Args:
            center: (x, y) in picture pixels.
            rotation: clockwise as seen, in radians.
            zoom: relative to the size that the sprite was painted for.
        """
        scale = self.scale * zoom
        turn = scale * np.array(
            [[np.cos(rotation), -np.sin(rotation)], [np.sin(rotation), np.cos(rotation)]]
        )
        middle = np.full(2, len(self.pixels) / 2)
        return np.column_stack((turn, np.asarray(center) - turn @ middle))


class Canvas:
    """A square on which one object is painted, in local units: the object fills [-1, 1] x [-1, 1].

    Args:
        size: long side of the object in the picture, in pixels; the canvas has twice the detail.
        noise: (m, m) tileable noise of zero mean and unit deviation, m >= 256.
        light: (3,) unit vector towards the light, in the object's frame; z is towards the viewer.
    """

    def __init__(self, size: float, noise: np.ndarray, light: np.ndarray) -> None:
        self.resolution = int(np.clip(np.ceil(2 * size), 32, 256))
        self.radius = self.resolution / 2 - 2
        self.size = size
        self.light = light
        self.noise = noise
        steps = (np.arange(self.resolution, dtype=np.float32) + 0.5) / self.radius
        steps -= np.float32(self.resolution / 2 / self.radius)
        self.x, self.y = np.meshgrid(steps, steps)  # (n, n) each, local units
        self.pixels = np.zeros((self.resolution, self.resolution, 4), np.float32)

    def polygon(self, points: np.ndarray) -> np.ndarray:
        """(M, 2) local units -> (n, n) coverage in [0, 1]."""
        mask = np.zeros(self.pixels.shape[:2], np.uint8)
        cv2.fillPoly(mask, [self.fixed(points)], 255, cv2.LINE_AA, _FRACTION_BITS)
        return mask.astype(np.float32) / 255

    def disk(self, center: np.ndarray, radius: float) -> np.ndarray:
        """Center and radius in local units -> (n, n) coverage in [0, 1]."""
        distance = np.hypot(self.x - float(center[0]), self.y - float(center[1]))
        return np.clip((radius - distance) * self.radius + 0.5, 0, 1)

    def capsule(self, start: np.ndarray, end: np.ndarray, radius: float) -> np.ndarray:
        """A thick line with round ends, in local units -> (n, n) coverage in [0, 1]."""
        x, y = self.x - float(start[0]), self.y - float(start[1])
        along_x, along_y = float(end[0] - start[0]), float(end[1] - start[1])
        square = max(along_x**2 + along_y**2, 1e-9)
        share = np.clip((x * along_x + y * along_y) / square, 0, 1)
        distance = np.hypot(x - share * along_x, y - share * along_y)
        return np.clip((radius - distance) * self.radius + 0.5, 0, 1)

    def paint(self, mask: np.ndarray, color: np.ndarray) -> None:
        """Lays a color, (3,) or (n, n, 3) RGB in [0, 1], over what is there."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        mask = mask[part][..., None]
        pixels = self.pixels[part]
        pixels *= 1 - mask
        pixels[..., :3] += mask * (color if color.ndim == 1 else color[part])
        pixels[..., 3:] += mask

    def erase(self, mask: np.ndarray) -> None:
        """Cuts a hole."""
        self.pixels *= 1 - mask[..., None]

    def grain(self, rng: np.random.Generator, step: int = 1) -> np.ndarray:
        """(n, n) noise of about unit deviation; a larger step is finer."""
        tile = self.noise[::step, ::step]
        row, column = rng.integers(0, len(tile), 2)
        rows = (row + np.arange(self.resolution)) % len(tile)
        columns = (column + np.arange(self.resolution)) % len(tile)
        return tile[rows[:, None], columns]

    def shade(self, *, roundness: float, ambient: float, gloss: float = 0.0) -> None:
        """Lights the object as if inflated from its border inwards.

        Args:
            roundness: 1 is a ball over the widest place, 0 is flat.
            ambient: brightness of what faces away from the light.
            gloss: strength of the highlight.
        """
        solid = (self.pixels[..., 3] > 0.5).astype(np.uint8)
        depth = cv2.distanceTransform(solid, cv2.DIST_L2, 5)
        deepest = max(float(depth.max()), 1.0)
        depth = np.clip(1 - depth / deepest, 0, 1)
        height = cv2.blur(np.sqrt(1 - depth * depth), (3, 3)) * (deepest * roundness)
        slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
        slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
        x, y, z = (float(part) for part in self.light)
        facing = (z - slope_x * x - slope_y * y) / np.sqrt(1 + slope_x**2 + slope_y**2)
        shade = ambient + (1.25 - ambient) * np.clip(facing, 0, 1)
        color = self.pixels[..., :3] * shade[..., None]
        if gloss:
            color += gloss * (np.clip(facing, 0, 1) ** 24 * self.pixels[..., 3])[..., None]
        self.pixels[..., :3] = np.minimum(color, self.pixels[..., 3:])

    def finish(self, category: int, keypoints: np.ndarray | None = None) -> Sprite:
        """The painted sprite; keypoints are (K, 2) in local units."""
        scale = self.size / (2 * self.radius)
        rows, columns = np.nonzero(self.pixels[..., 3] > 0.5)
        points = np.column_stack((columns, rows)).astype(np.int32)
        outline = cv2.convexHull(points)[:, 0].astype(np.float64) + 0.5
        if keypoints is not None:
            keypoints = keypoints * self.radius + self.resolution / 2
        area = float(self.pixels[..., 3].sum()) * scale**2
        return Sprite(category, self.pixels, outline, keypoints, scale, area)

    def fill(self, pixels: np.ndarray, points: np.ndarray, value: float) -> None:
        """Fills a convex polygon of (M, 2) `fixed` points in (n, n) pixels, with hard borders."""
        cv2.fillConvexPoly(pixels, points, value, cv2.LINE_8, _FRACTION_BITS)

    def fixed(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) local units -> (..., 2) int32 as OpenCV draws them."""
        pixels = np.asarray(points) * self.radius + self.resolution / 2 - 0.5
        return np.round(pixels * 2**_FRACTION_BITS).astype(np.int32)


def apply_affine(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(2, 3) and (..., 2) points -> (..., 2) points."""
    return points @ affine[:, :2].T + affine[:, 2]


def compose_affines(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The (2, 3) affine that applies `inner`, then `outer`."""
    return np.column_stack((outer[:, :2] @ inner[:, :2], apply_affine(outer, inner[:, 2])))


def invert_affine(affine: np.ndarray) -> np.ndarray:
    """The (2, 3) affine that undoes this one."""
    inverse = np.linalg.inv(affine[:, :2])
    return np.column_stack((inverse, -inverse @ affine[:, 2]))


def warp(pixels: np.ndarray, affine: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Carries float32 pixels into a picture of `size` (height, width); zero outside of them.

    Args:
        affine: (2, 3) from the pixels' frame to the picture, in continuous coordinates.
    """
    affine = affine.copy()
    affine[:, 2] += affine[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts from pixel centers
    return cv2.warpAffine(pixels, affine, size[::-1], flags=cv2.INTER_LINEAR)


def to_rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """(3,) float32 RGB in [0, 1] of a hue in turns (any real) and two shares (clipped)."""
    saturation, value = np.clip((saturation, value), 0, 1)
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32)
