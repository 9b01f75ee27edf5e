"""From sprites in their places to a picture: light, shadows, occlusion, film."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from metaheads.datasets.shapes.canvas import Sprite, apply_affine, compose_affines, warp
from metaheads.datasets.shapes.options import SceneOptions

# Groups of layers that are not instances.
DECAL = 0  # small clutter: its pixels stay stuff
VOID = -1  # large clutter: its pixels have no label


@dataclass(frozen=True)
class Layer:
    """A sprite in its place.

    Args:
        sprite: what is seen.
        to_picture: (2, 3) affine from canvas pixels.
        group: number of the instance, from 1; a crowd's members share one; or DECAL, VOID.
        grounded: whether it stands on the ground and casts a shadow there.
    """

    sprite: Sprite
    to_picture: np.ndarray
    group: int
    grounded: bool

    def outline(self) -> np.ndarray:
        """(M, 2) convex hull in picture pixels."""
        return apply_affine(self.to_picture, self.sprite.outline)


@dataclass(frozen=True)
class Film:
    """How a picture is developed: color balance, exposure, vignette, blur, noise."""

    gain: np.ndarray  # (3,)
    gamma: float
    vignette: float
    blur: float
    noise: float

    @classmethod
    def draw(cls, rng: np.random.Generator, options: SceneOptions) -> Film:
        change = options.exposure
        gain = (1 + change * rng.uniform(-1, 0.6)) * (1 + change * 0.4 * rng.uniform(-1, 1, 3))
        return cls(
            gain=gain.astype(np.float32),
            gamma=float(2 ** (change * rng.uniform(-1, 1))),
            vignette=rng.uniform(0, change),
            blur=rng.uniform(0, options.blur),
            noise=rng.uniform(0.1, 1) * options.noise,
        )

    def expose(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(H, W, 3) float32 in [0, 1] -> uint8; draws new noise."""
        height, width = picture.shape[:2]
        rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        columns = np.linspace(-1, 1, width, dtype=np.float32)
        fade = 1 - np.float32(self.vignette / 2) * (rows**2 + columns**2)
        picture = np.clip(picture, 0, 1) ** np.float32(self.gamma) * self.gain * fade[..., None]
        if self.blur > 0.2:
            picture = cv2.GaussianBlur(picture, (5, 5), self.blur)
        picture = picture + rng.standard_normal(picture.shape, np.float32) * np.float32(self.noise)
        return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def draw_light(rng: np.random.Generator) -> np.ndarray:
    """(3,) unit vector towards the light: from above, and from the viewer's side."""
    angle, elevation = rng.uniform(-1.2, 1.2), rng.uniform(0.4, 1.1)
    x, y = np.sin(angle) * np.cos(elevation), -np.cos(angle) * np.cos(elevation)
    return np.array([x, y, np.sin(elevation)])


def composite(
    picture: np.ndarray, layers: list[Layer], light: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Renders layers, back to front, with their shadows.

    Args:
        picture: (H, W, 3) float32 RGB background.
        light: (3,) unit vector towards the light.

    Returns:
        The (H, W, 3) float32 picture, and (H, W) int32 index of the layer that is seen, or -1.
    """
    picture = picture.copy()
    owners = np.full(picture.shape[:2], -1, np.int32)
    for index, layer in enumerate(layers):
        if layer.grounded:
            _cast_shadow(picture, layer, light)
        window = _window(layer.outline(), picture.shape, margin=2)
        if window is None:
            continue
        area, offset = window
        pixels = _warp_window(layer.sprite.pixels, layer.to_picture, picture[area].shape, offset)
        alpha = np.clip(pixels[..., 3:], 0, 1)
        picture[area] = picture[area] * (1 - alpha) + pixels[..., :3]
        owners[area][alpha[..., 0] > 0.5] = index
    return picture, owners


def to_groups(layers: list[Layer], owners: np.ndarray) -> np.ndarray:
    """(H, W) group of the layer that is seen; DECAL, which keeps the stuff, where there is none."""
    table = np.array([layer.group for layer in layers] + [DECAL], np.int32)
    return table[owners]  # -1 finds the last entry


def _cast_shadow(picture: np.ndarray, layer: Layer, light: np.ndarray) -> None:
    """Darkens, in place, where the object's shape falls when laid on the ground."""
    outline = layer.outline()
    base = outline[:, 1].max()
    squash = 0.3 + 0.25 * (1 - light[2])
    lean = 1.1 * light[0] / max(light[2], 0.3)
    lay = np.array([[1, lean, -lean * base], [0, squash, (1 - squash) * base]])
    window = _window(apply_affine(lay, outline), picture.shape, margin=5)
    if window is None:
        return
    area, offset = window
    to_picture = compose_affines(lay, layer.to_picture)
    alpha = np.ascontiguousarray(layer.sprite.pixels[..., 3])
    shadow = _warp_window(alpha, to_picture, picture[area].shape, offset)
    shadow = cv2.blur(shadow, (5, 5)) * np.float32(0.5)
    picture[area] *= 1 - shadow[..., None]


def _window(
    outline: np.ndarray, shape: tuple[int, ...], margin: int
) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """The part of a picture around an outline, as slices and (x, y) offset; None if outside."""
    low = np.maximum(np.floor(outline.min(0)).astype(int) - margin, 0)
    high = np.minimum(np.ceil(outline.max(0)).astype(int) + margin, (shape[1], shape[0]))
    if (low >= high).any():
        return None
    return (slice(low[1], high[1]), slice(low[0], high[0])), low


def _warp_window(
    pixels: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], offset: np.ndarray
) -> np.ndarray:
    shifted = affine.copy()
    shifted[:, 2] -= offset
    return warp(pixels, shifted, (shape[0], shape[1]))
