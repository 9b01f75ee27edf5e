"""Backgrounds: stuff regions laid out as a landscape, a beach, a street or a view from above."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from metaheads.datasets.shapes.categories import STUFF
from metaheads.datasets.shapes.options import SceneOptions
from metaheads.datasets.shapes.textures import PAINTERS, Palette, Plane, fractal_noise

_GROUNDS = ("grass", "road", "sand")


@dataclass(frozen=True)
class Background:
    """A picture of stuff only.

    Args:
        picture: (H, W, 3) float32 RGB in [0, 1].
        stuff: (H, W) int32 category ids.
        horizon: row where the ground begins, or None in a view from above.
        noise: (m, m) the scene's tileable noise, for the objects to share.
    """

    picture: np.ndarray
    stuff: np.ndarray
    horizon: float | None
    noise: np.ndarray


def draw_background(
    rng: np.random.Generator, options: SceneOptions, size: tuple[int, int]
) -> Background:
    """Draws a random layout at `size` (height, width)."""
    palette = Palette(
        noise=fractal_noise(rng, rng.uniform(0.9, 1.3)),
        frequency=rng.uniform(*options.texture_scale),
        shift=options.palette_shift + rng.uniform(-0.03, 0.03),
        contrast=options.contrast,
    )
    layout = _LAYOUTS[rng.integers(len(_LAYOUTS))]
    names, horizon = layout(rng, size)
    picture = np.zeros((*size, 3), np.float32)
    stuff = np.zeros(size, np.int32)
    upright, ground = _upright_plane(size), _ground_plane(rng, size, horizon)
    for index, name in enumerate(STUFF):
        region = names == index
        rows = np.flatnonzero(region.any(1))
        if len(rows):
            part = slice(max(rows[0] - 1, 0), rows[-1] + 2)
            plane = (upright if name in ("sky", "wall") else ground).rows(part)
            share = cv2.blur(region.astype(np.float32), (3, 3))  # soft borders; they sum to 1
            picture[part] += PAINTERS[name](rng, plane, palette) * share[part, :, None]
            stuff[region] = STUFF[name]
    return Background(np.clip(picture, 0, 1), stuff, horizon, palette.noise)


def _landscape(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Sky over hills; a lake or a road in the ground."""
    height, width = size
    horizon = height * rng.uniform(0.2, 0.5)
    rows, columns = np.mgrid[:height, :width]
    near, far = rng.choice(("grass", "sand", "grass"), 2)
    names = np.full(size, _index("sky"))
    hills = horizon - height * (0.07 + 0.07 * _curve(rng, width, 2.0))
    names[rows >= hills] = _index(far)
    border = horizon + height * (rng.uniform(0.08, 0.3) + 0.04 * _curve(rng, width, 1.5))
    if rng.random() < 0.45:
        names[(rows >= horizon) & (rows < border)] = _index("water")
    names[rows >= border] = _index(near)
    if rng.random() < 0.55:
        depth = np.clip((rows - horizon) / (height - horizon), 0, 1)
        middle = width * (0.5 + rng.uniform(-0.3, 0.3) * (1 - depth) + rng.normal(0, 0.1))
        middle = middle + width * rng.uniform(-0.15, 0.15) * np.sin(3 * depth)
        half = width * (0.01 + rng.uniform(0.12, 0.4) * depth)
        names[(np.abs(columns - middle) < half) & (rows >= horizon)] = _index("road")
    return names, horizon


def _beach(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Sky, sea, a slanting shore, sometimes grass in front."""
    height, width = size
    horizon = height * rng.uniform(0.15, 0.45)
    rows = np.mgrid[:height, :width][0]
    names = np.full(size, _index("sky"))
    names[rows >= horizon] = _index("water")
    slant = np.linspace(-0.5, 0.5, width) * rng.uniform(-0.5, 0.5)
    shore = rng.uniform(0.15, 0.6) + 0.05 * _curve(rng, width, 2.5) + slant
    names[rows >= horizon + shore * (height - horizon)] = _index("sand")
    if rng.random() < 0.4:
        dune = rng.uniform(0.7, 0.9) + 0.08 * _curve(rng, width, 2.0)
        names[rows >= horizon + np.maximum(dune, shore) * (height - horizon)] = _index("grass")
    return names, horizon


def _street(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """A wall, sometimes with sky over it, and one or two bands of ground before it."""
    height, width = size
    horizon = height * rng.uniform(0.3, 0.6)
    rows, columns = np.mgrid[:height, :width]
    names = np.full(size, _index("wall"))
    if rng.random() < 0.6:
        steps = np.floor(columns / width * rng.uniform(1, 4) + rng.random())
        top = rng.uniform(0.05, 0.5) + 0.12 * np.sin(steps * 2.4)
        names[rows < horizon * top] = _index("sky")
    back, front = rng.permutation(_GROUNDS)[:2]
    slope = (columns / width - 0.5) * rng.uniform(-0.1, 0.1) * height
    names[rows >= horizon + slope] = _index(back)
    if rng.random() < 0.7:
        kerb = horizon + (height - horizon) * rng.uniform(0.2, 0.7)
        names[rows >= kerb + slope * rng.uniform(0.5, 2)] = _index(front)
    return names, horizon


def _from_above(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, None]:
    """Ground seen from above, with a bending river or road, or a bay."""
    height, width = size
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    angle = rng.uniform(0, np.pi)
    x, y = columns / height - width / height / 2, rows / height - 0.5
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    bend = 0.12 * np.sin(rng.uniform(2, 5) * along + rng.uniform(0, 6))
    across = across + bend + 0.03 * np.sin(rng.uniform(8, 14) * along)
    first, second = rng.choice(("grass", "sand", "water", "road", "grass"), 2, replace=False)
    names = np.full(size, _index(first))
    if rng.random() < 0.6:
        band = np.abs(across + rng.uniform(-0.25, 0.25)) < rng.uniform(0.1, 0.25)
    else:
        band = across > rng.uniform(-0.25, 0.25)
    names[band] = _index(second)
    return names, None


_LAYOUTS = (_landscape, _beach, _street, _from_above)


def _index(name: str) -> int:
    return list(STUFF).index(name)


def _curve(rng: np.random.Generator, width: int, waves: float) -> np.ndarray:
    """(W,) a smooth curve within about [-1, 1]."""
    x = np.linspace(0, 2 * np.pi, width)
    total = np.zeros(width)
    for octave in range(3):
        total += np.sin(x * waves * 1.9**octave * rng.uniform(0.5, 1) + rng.uniform(0, 6)) / (
            2.0**octave
        )
    return total / 1.75


def _upright_plane(size: tuple[int, int]) -> Plane:
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32) / np.float32(size[0])
    return Plane(columns, rows, np.ones(size, np.float32))


def _ground_plane(rng: np.random.Generator, size: tuple[int, int], horizon: float | None) -> Plane:
    """The ground below the horizon in perspective; without one, seen from above and turned."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32) / np.float32(size[0])
    middle = np.float32(size[1] / size[0] / 2)
    if horizon is None:
        cosine, sine = np.cos(angle := np.float32(rng.uniform(0, 2 * np.pi))), np.sin(angle)
        x, y = columns - middle, rows - np.float32(0.5)
        return Plane(cosine * x + sine * y, cosine * y - sine * x, np.ones(size, np.float32))
    below = np.maximum(rows - np.float32(horizon / size[0]), 0)
    reach = np.float32(1 - horizon / size[0])
    depth = reach * 1.15 / (below + np.float32(0.15) * reach)  # 1 at the front
    strength = np.clip(1.25 / depth, 0.15, 1)
    above = np.maximum(np.float32(horizon / size[0]) - rows, 0)  # hills: upright and far away
    y = (depth + above * np.float32(7)) * np.float32(0.8)
    return Plane((columns - middle) * depth, y, strength)
