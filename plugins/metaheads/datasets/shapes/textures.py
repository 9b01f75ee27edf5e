"""Noise, and the textures of the stuff classes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from metaheads.datasets.shapes.canvas import to_rgb

NOISE_SIZE = 256
_UNIT = 96.0  # noise pixels per length unit of a plane (a plane's unit is the picture's height)


@dataclass(frozen=True)
class Plane:
    """Where the pixels of a picture lie on a surface.

    Args:
        x, y: (H, W) float32 surface coordinates, in picture heights at the front.
        strength: (H, W) float32 contrast of the texture, falling to 0 far away.
    """

    x: np.ndarray
    y: np.ndarray
    strength: np.ndarray

    def rows(self, part: slice) -> Plane:
        """The same plane, seen by some rows of the picture only."""
        return Plane(self.x[part], self.y[part], self.strength[part])


@dataclass(frozen=True)
class Palette:
    """What all stuff textures of one scene share.

    Args:
        noise: (NOISE_SIZE, NOISE_SIZE) tileable.
        frequency: factor on the spatial frequency of textures.
        shift: added to hues, in turns.
        contrast: factor on the strength of textures.
    """

    noise: np.ndarray
    frequency: float
    shift: float
    contrast: float


def fractal_noise(rng: np.random.Generator, roughness: float) -> np.ndarray:
    """(NOISE_SIZE, NOISE_SIZE) float32 tileable noise of zero mean and unit deviation.

    Args:
        roughness: amplitude falls with frequency to this power; 0 is white, 2 is very smooth.
    """
    frequencies = np.fft.fftfreq(NOISE_SIZE).astype(np.float32) * NOISE_SIZE
    distance = np.hypot(frequencies[:, None], frequencies[None, : NOISE_SIZE // 2 + 1])
    distance[0, 0] = np.inf
    angles = rng.random(distance.shape, np.float32) * np.float32(2 * np.pi)
    phases = np.cos(angles) + 1j * np.sin(angles)
    noise = np.fft.irfft2(phases / distance**roughness, (NOISE_SIZE, NOISE_SIZE))
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def paint_sky(rng: np.random.Generator, plane: Plane, palette: Palette) -> np.ndarray:
    """(H, W, 3) RGB in [0, 1]: a vertical gradient, from dawn to overcast, with clouds."""
    hue = rng.uniform(0.54, 0.64) if rng.random() < 0.75 else rng.uniform(0.0, 0.12)
    top = to_rgb(hue + palette.shift, rng.uniform(0.1, 0.75), rng.uniform(0.5, 0.95))
    low = to_rgb(hue + rng.uniform(-0.05, 0.05), rng.uniform(0.0, 0.35), rng.uniform(0.75, 1.0))
    down = np.clip(plane.y / float(plane.y.max()), 0, 1)[..., None]
    sky = top + (low - top) * down
    clouds = _sample(palette, plane, 0.35, 0.9, rng)
    cover = np.clip(clouds * 0.6 + rng.uniform(-0.7, 0.3), 0, 0.9)[..., None]
    shade = rng.uniform(0.65, 1.0) + 0.06 * clouds[..., None]
    return sky + cover * (np.clip(shade, 0, 1) - sky)


def paint_grass(rng: np.random.Generator, plane: Plane, palette: Palette) -> np.ndarray:
    """(H, W, 3) RGB in [0, 1]: blades and patches, green to straw."""
    base = to_rgb(
        rng.uniform(0.15, 0.36) + palette.shift, rng.uniform(0.3, 0.75), rng.uniform(0.35, 0.75)
    )
    dry = to_rgb(rng.uniform(0.1, 0.2) + palette.shift, 0.5, rng.uniform(0.5, 0.8))
    patches = np.clip(_sample(palette, plane, 0.5, 0.5, rng) * 0.35 + 0.2, 0, 0.7)[..., None]
    blades = _sample(palette, plane, 3.1, 1.1, rng) + 0.6 * _sample(palette, plane, 1.3, 1.0, rng)
    return (base + patches * (dry - base)) * (1 + 0.17 * blades)[..., None]


def paint_water(rng: np.random.Generator, plane: Plane, palette: Palette) -> np.ndarray:
    """(H, W, 3) RGB in [0, 1]: wavelets across the view, with glints."""
    base = to_rgb(
        rng.uniform(0.44, 0.66) + palette.shift, rng.uniform(0.3, 0.85), rng.uniform(0.35, 0.8)
    )
    swell = _sample(palette, plane, 0.6, 1.6, rng)
    phase = plane.y * rng.uniform(40, 75) * palette.frequency + 2.2 * swell
    waves = np.sin(phase) * plane.strength * palette.contrast
    glints = np.clip(waves + 0.5 * swell - 1.0, 0, 1)[..., None]
    return base * (1 + 0.14 * waves + 0.08 * swell)[..., None] + 0.5 * glints


def paint_road(rng: np.random.Generator, plane: Plane, palette: Palette) -> np.ndarray:
    """(H, W, 3) RGB in [0, 1]: speckled asphalt with tracks and, mostly, a dashed line."""
    base = to_rgb(rng.random(), rng.uniform(0.0, 0.12), rng.uniform(0.25, 0.6))
    speckle = _sample(palette, plane, 4.0, 4.0, rng)
    tracks = _sample(palette, plane, 1.2, 0.08, rng)
    road = np.repeat((1 + 0.09 * speckle + 0.1 * tracks)[..., None], 3, axis=2) * base
    if rng.random() < 0.7:
        beside = np.abs(plane.x - rng.uniform(-0.05, 0.05)) < rng.uniform(0.012, 0.03)
        dashes = np.sin(plane.y * rng.uniform(12, 25)) > -0.2
        paint = to_rgb(0.13, rng.choice((0.0, 0.6)), rng.uniform(0.75, 1.0))
        road = np.where((beside & dashes)[..., None], paint * (1 + 0.05 * speckle)[..., None], road)
    return road


def paint_wall(rng: np.random.Generator, plane: Plane, palette: Palette) -> np.ndarray:
    """(H, W, 3) RGB in [0, 1]: bricks in a running bond, each of its own shade."""
    brick = to_rgb(
        rng.uniform(-0.03, 0.1) + palette.shift, rng.uniform(0.1, 0.65), rng.uniform(0.35, 0.85)
    )
    mortar = to_rgb(0.1, 0.1, rng.uniform(0.3, 0.9))
    height = rng.uniform(0.05, 0.1) / palette.frequency
    width = height * rng.uniform(1.8, 2.8)
    row = np.floor(plane.y / height)
    column = np.floor(plane.x / width + 0.5 * (row % 2))
    shades = palette.noise[
        (row * 37).astype(int) % NOISE_SIZE, (column * 53).astype(int) % NOISE_SIZE
    ]
    in_row = plane.y / height - row
    in_column = plane.x / width + 0.5 * (row % 2) - column
    joint = (in_row < 0.14) | (in_column < 0.14 * height / width * 1.4)
    grain = 1 + 0.06 * _sample(palette, plane, 2.5, 2.5, rng)
    bricks = brick * (1 + 0.13 * palette.contrast * shades)[..., None]
    return np.where(joint[..., None], mortar, bricks) * grain[..., None]


def paint_sand(rng: np.random.Generator, plane: Plane, palette: Palette) -> np.ndarray:
    """(H, W, 3) RGB in [0, 1]: grains and wind ripples."""
    base = to_rgb(
        rng.uniform(0.06, 0.14) + palette.shift, rng.uniform(0.15, 0.5), rng.uniform(0.6, 0.95)
    )
    grains = _sample(palette, plane, 4.0, 4.0, rng)
    dunes = _sample(palette, plane, 0.5, 0.7, rng)
    angle = rng.uniform(-0.5, 0.5)
    along = plane.y * np.cos(angle) + plane.x * np.sin(angle)
    ripples = np.sin(along * rng.uniform(25, 45) * palette.frequency + 2.5 * dunes)
    ripples *= plane.strength * palette.contrast * rng.uniform(0.2, 1.0)
    return base * (1 + 0.06 * grains + 0.07 * dunes + 0.06 * ripples)[..., None]


PAINTERS = {
    "sky": paint_sky,
    "grass": paint_grass,
    "water": paint_water,
    "road": paint_road,
    "wall": paint_wall,
    "sand": paint_sand,
}


def _sample(
    palette: Palette, plane: Plane, scale_x: float, scale_y: float, rng: np.random.Generator
) -> np.ndarray:
    """(H, W) noise on a plane at given frequencies along x and y, faded with its strength."""
    offset = rng.uniform(0, NOISE_SIZE, 2)
    columns = plane.x * np.float32(_UNIT * scale_x * palette.frequency) + np.float32(offset[0])
    rows = plane.y * np.float32(_UNIT * scale_y * palette.frequency) + np.float32(offset[1])
    values = cv2.remap(palette.noise, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return values * (plane.strength * palette.contrast)
