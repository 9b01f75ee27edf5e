"""The thing classes, and the clutter that resembles them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from metaheads.datasets.shapes.canvas import Canvas, Sprite, to_rgb
from metaheads.datasets.shapes.categories import THINGS
from metaheads.datasets.shapes.figure import paint_figure
from metaheads.datasets.shapes.options import SceneOptions

Color = np.ndarray  # (3,) or (n, n, 3) RGB in [0, 1]

# Thin classes are drawn longer, so that their areas resemble those of the others.
_STRETCH = {"figure": 1.5, "canoe": 1.35, "tree": 1.2}
_NAMES = {number: name for name, number in THINGS.items()}


def draw_thing(
    rng: np.random.Generator,
    category: int,
    size: float,
    rotation: float,
    *,
    noise: np.ndarray,
    light: np.ndarray,
    options: SceneOptions,
) -> Sprite:
    """Paints one object.

    Args:
        category: one of THINGS' values.
        size: long side in the picture, in pixels, before the stretch of thin classes.
        rotation: in radians, that the object will be shown at: the light is turned back by it.
        noise: (m, m) tileable.
        light: (3,) unit vector towards the light, in the picture's frame.
    """
    name = _NAMES[category]
    canvas = Canvas(size * _STRETCH.get(name, 1.0), noise, _turn(light, rotation))
    hue = list(THINGS).index(name) / len(THINGS)
    colors = [pick_color(rng, hue, options.color_spread) for _ in range(2)]
    if name == "figure":
        coat = _pattern(rng, canvas, colors, options.pattern_probability * 0.6)
        trousers = pick_color(rng, hue + 0.5, options.color_spread)
        keypoints = paint_figure(rng, canvas, coat, trousers)
        canvas.shade(roundness=0.5, ambient=0.7)
        return canvas.finish(category, keypoints)
    color = _pattern(rng, canvas, colors, options.pattern_probability)
    _PAINTERS[name](rng, canvas, color)
    return canvas.finish(category)


def draw_clutter(
    rng: np.random.Generator,
    size: float,
    rotation: float,
    *,
    noise: np.ndarray,
    light: np.ndarray,
) -> Sprite:
    """Paints an object of no class: a rock, bush, plank, tent, crescent or signpost."""
    canvas = Canvas(size, noise, _turn(light, rotation))
    paint = _CLUTTER[rng.integers(len(_CLUTTER))]
    colors = [pick_color(rng, 0.0, 1.0) for _ in range(2)]
    paint(rng, canvas, _pattern(rng, canvas, colors, 0.4))
    return canvas.finish(0)


def pick_rotation(rng: np.random.Generator, category: int) -> float:
    """Radians: figures, trees and crates mostly stand, the others lie any way round."""
    name = _NAMES[category]
    tilt = {"figure": 0.15, "tree": 0.07, "crate": 0.12}.get(name)
    fallen = {"figure": 0.12, "tree": 0.03, "crate": 0.3}.get(name, 1.0)
    if tilt is None or rng.random() < fallen:
        return rng.uniform(-np.pi, np.pi)
    return rng.normal(0, tilt)


def stands(category: int) -> bool:
    """Whether the class belongs on the ground."""
    return _NAMES[category] in ("figure", "tree", "crate")


def pick_color(rng: np.random.Generator, hue: float, spread: float) -> np.ndarray:
    """(3,) RGB; `spread` is the share of the colour wheel, around `hue`, that hues come from."""
    saturation = rng.uniform(0.0, 0.15) if rng.random() < 0.15 else rng.uniform(0.25, 0.95)
    return to_rgb(hue + spread * (rng.random() - 0.5), saturation, rng.uniform(0.25, 1.0))


def _turn(light: np.ndarray, rotation: float) -> np.ndarray:
    cosine, sine = np.cos(rotation), np.sin(rotation)
    x, y, z = light
    return np.array([cosine * x + sine * y, cosine * y - sine * x, z])


def _pattern(
    rng: np.random.Generator, canvas: Canvas, colors: list[np.ndarray], probability: float
) -> np.ndarray:
    """(n, n, 3) two colors in a random pattern, or one, slightly mottled."""
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(3, 9)
    along = canvas.x * math.cos(angle) + canvas.y * math.sin(angle)
    across = canvas.y * math.cos(angle) - canvas.x * math.sin(angle)
    kind = rng.integers(5)
    mottle = 1 + rng.uniform(0.02, 0.12) * canvas.grain(rng, 2)[..., None]
    if rng.random() >= probability:
        return np.minimum(mottle * colors[0], 1)
    if kind == 0:  # stripes
        share = np.sin(frequency * along + angle)
    elif kind == 1:  # dots
        share = np.sin(frequency * along) * np.sin(frequency * across) - 0.35
    elif kind == 2:  # checks
        share = np.sin(frequency * along) * np.sin(frequency * across)
    elif kind == 3:  # patches
        share = canvas.grain(rng) * 0.5
    else:  # halves
        share = along + rng.uniform(-0.3, 0.3)
    share = np.clip(share * 3 + 0.5, 0, 1)[..., None]
    return np.minimum((colors[0] + share * (colors[1] - colors[0])) * mottle, 1)


def _paint_ball(rng: np.random.Generator, canvas: Canvas, color: Color) -> None:
    if rng.random() < 0.3:  # beach ball
        pole = rng.uniform(-0.4, 0.4, 2)
        wedge = np.arctan2(canvas.y - pole[1], canvas.x - pole[0])
        stripe = np.clip(np.sin(rng.integers(2, 5) * wedge) * 6, 0, 1)[..., None]
        color = color + stripe * (rng.uniform(0.6, 1.0, 3).astype(np.float32) - color)
    canvas.paint(canvas.disk(np.zeros(2), 0.96), color)
    canvas.shade(roundness=1.0, ambient=0.35, gloss=rng.uniform(0, 0.6))


def _paint_ring(rng: np.random.Generator, canvas: Canvas, color: Color) -> None:
    squash = rng.uniform(0.6, 1.0)
    inner = rng.uniform(0.42, 0.68)
    distance = np.hypot(canvas.x, canvas.y / squash)
    if rng.random() < 0.4:  # lifebuoy
        wedge = np.arctan2(canvas.y / squash, canvas.x)
        stripe = np.clip(np.sin(rng.integers(2, 5) * wedge) * 6, 0, 1)[..., None]
        color = color + stripe * (rng.uniform(0.5, 1.0, 3).astype(np.float32) - color)
    softness = canvas.radius * squash
    canvas.paint(np.clip((0.96 - distance) * softness + 0.5, 0, 1), color)
    canvas.erase(np.clip((inner - distance) * softness + 0.5, 0, 1))
    canvas.shade(roundness=0.9, ambient=0.45, gloss=rng.uniform(0, 0.4))


def _paint_star(rng: np.random.Generator, canvas: Canvas, color: Color) -> None:
    tips = int(rng.integers(5, 8))
    inner = rng.uniform(0.36, 0.56)
    angles = np.arange(2 * tips) * np.pi / tips + rng.normal(0, 0.05, 2 * tips)
    radii = np.where(np.arange(2 * tips) % 2, inner, 0.95) * rng.uniform(0.9, 1.0, 2 * tips)
    canvas.paint(canvas.polygon(_round_corners(_polar(radii, angles), 0.12)), color)
    canvas.shade(roundness=rng.uniform(0.4, 0.9), ambient=0.5, gloss=rng.uniform(0, 0.3))


def _paint_canoe(rng: np.random.Generator, canvas: Canvas, color: Color) -> None:
    width, bend = rng.uniform(0.15, 0.27), rng.uniform(-0.22, 0.22)
    share = np.linspace(-1, 1, 25)
    spine = bend * (1 - share**2) - bend / 2

    def hull(length: float, breadth: float) -> np.ndarray:
        half = breadth * np.sqrt(1 - share**2) * (1 - 0.25 * share**2)
        upper = np.column_stack((share * length, spine - half))
        lower = np.column_stack((share * length, spine + half))
        return np.concatenate((upper, lower[::-1]))

    canvas.paint(canvas.polygon(hull(0.97, width)), color)
    canvas.shade(roundness=0.7, ambient=0.5)
    if rng.random() < 0.7:  # open deck with benches
        inside = canvas.polygon(hull(0.82, width * 0.62))
        canvas.paint(inside, color * rng.uniform(0.35, 0.6))
        for place in rng.uniform(-0.6, 0.6, rng.integers(1, 4)):
            bench = np.clip((0.05 - np.abs(canvas.x - place)) * canvas.radius, 0, 1)
            canvas.paint(inside * bench, color * 0.9)


def _paint_crate(rng: np.random.Generator, canvas: Canvas, color: Color) -> None:
    width, height = rng.uniform(0.55, 0.72), rng.uniform(0.5, 0.72)
    depth_x, depth_y = rng.choice((-1, 1)) * rng.uniform(0.12, 0.28), -rng.uniform(0.12, 0.28)
    middle = np.array([depth_x / 2, depth_y / 2])
    front = np.array([[-width, -height], [width, -height], [width, height], [-width, height]])
    front = front - middle
    deep = front + (depth_x, depth_y)
    side = (1, 2) if depth_x > 0 else (0, 3)
    light_side = 0.62 + 0.3 * float(canvas.light[0] * np.sign(depth_x) > 0)
    lids = np.array([front[0], front[1], deep[1], deep[0]])
    sides = np.array([front[side[0]], deep[side[0]], deep[side[1]], front[side[1]]])
    canvas.paint(canvas.polygon(lids), np.clip(color * 1.2, 0, 1))
    canvas.paint(canvas.polygon(sides), color * light_side * 0.8)
    canvas.paint(canvas.polygon(front), color * rng.uniform(0.85, 1.0))
    plank = 2 * height / rng.integers(2, 6)
    gap = np.abs((canvas.y - front[0, 1]) % plank - plank / 2) - plank / 2 + 0.045
    canvas.paint(canvas.polygon(front) * np.clip(gap * canvas.radius, 0, 1) * 0.8, color * 0.45)
    if rng.random() < 0.5:
        brace = canvas.capsule(front[0] * 0.95, front[2] * 0.95, 0.06)
        canvas.paint(brace * canvas.polygon(front), color * 0.7)
    for start, end in zip(front, np.roll(front, 1, axis=0), strict=True):
        canvas.paint(canvas.capsule(start, end, 0.035), color * 0.55)


def _paint_tree(rng: np.random.Generator, canvas: Canvas, color: Color) -> None:
    trunk_color = to_rgb(rng.uniform(0.03, 0.12), rng.uniform(0.2, 0.7), rng.uniform(0.2, 0.6))
    width, lean = rng.uniform(0.06, 0.12), rng.normal(0, 0.05)
    trunk = np.array([[-width, 0.95], [width, 0.95], [width * 0.7 + lean, 0], [lean - width, 0]])
    canvas.paint(canvas.polygon(trunk), trunk_color)
    leaves = np.zeros_like(canvas.x)
    if rng.random() < 0.35:  # conifer
        for level in range(3):
            top, half = -0.95 + 0.42 * level, 0.36 + 0.13 * level
            triangle = np.array([[lean, top], [lean + half, top + 0.68], [lean - half, top + 0.68]])
            leaves = np.maximum(leaves, canvas.polygon(triangle))
    else:
        for angle in np.arange(8) * np.pi / 4 + rng.uniform(0, 1):
            radius = rng.uniform(0.24, 0.36)
            center = np.array([np.cos(angle) * 0.4, -0.3 + np.sin(angle) * 0.34])
            leaves = np.maximum(leaves, canvas.disk(center, radius))
        leaves = np.maximum(leaves, canvas.disk(np.array([0, -0.3]), 0.4))
    mottle = 1 + 0.22 * canvas.grain(rng, 4)[..., None]
    canvas.paint(leaves, np.clip(color * mottle, 0, 1))
    canvas.shade(roundness=0.6, ambient=0.5)


def _paint_rock(rng: np.random.Generator, canvas: Canvas, color: Color) -> None:
    angles = np.arange(9) * 2 * np.pi / 9 + rng.normal(0, 0.12, 9)
    points = _polar(rng.uniform(0.6, 0.97, 9), angles) * (1, rng.uniform(0.55, 0.95))
    mottle = 1 + 0.2 * canvas.grain(rng)[..., None]
    canvas.paint(canvas.polygon(_round_corners(points, 0.25)), np.clip(color * mottle, 0, 1))
    canvas.shade(roundness=0.8, ambient=0.4)


def _paint_bush(rng: np.random.Generator, canvas: Canvas, color: Color) -> None:
    mottle = np.clip(color * (1 + 0.22 * canvas.grain(rng, 4)[..., None]), 0, 1)
    for center in rng.uniform((-0.6, -0.15), (0.6, 0.35), (7, 2)):
        canvas.paint(canvas.disk(center, rng.uniform(0.25, 0.38)), mottle)
    canvas.shade(roundness=0.6, ambient=0.45)


def _paint_plank(rng: np.random.Generator, canvas: Canvas, color: Color) -> None:
    half = rng.uniform(0.07, 0.2)
    points = np.array([[-0.95, -half], [0.95, -half], [0.95, half], [-0.95, half]])
    canvas.paint(canvas.polygon(points), color)
    canvas.shade(roundness=0.2, ambient=0.6)


def _paint_tent(rng: np.random.Generator, canvas: Canvas, color: Color) -> None:
    top = rng.uniform(-0.4, 0.4)
    canvas.paint(canvas.polygon(np.array([[top, -0.8], [0.95, 0.7], [-0.95, 0.7]])), color)
    door = np.array([[top, -0.8], [0.3, 0.7], [-0.2, 0.7]])
    canvas.paint(canvas.polygon(door), color * rng.uniform(0.4, 0.8))


def _paint_crescent(rng: np.random.Generator, canvas: Canvas, color: Color) -> None:
    canvas.paint(canvas.disk(np.zeros(2), 0.95), color)
    canvas.erase(canvas.disk(np.array([rng.uniform(0.3, 0.5), 0.0]), rng.uniform(0.7, 0.85)))
    canvas.shade(roundness=0.6, ambient=0.5)


def _paint_sign(rng: np.random.Generator, canvas: Canvas, color: Color) -> None:
    post = to_rgb(0.1, rng.uniform(0, 0.5), rng.uniform(0.2, 0.7))
    canvas.paint(canvas.capsule(np.array([0, -0.2]), np.array([0, 0.9]), 0.07), post)
    half, tall = rng.uniform(0.4, 0.7), rng.uniform(0.2, 0.4)
    board = np.array([[-half, -tall], [half, -tall], [half, tall], [-half, tall]]) - (0, 0.5)
    canvas.paint(canvas.polygon(board), color)


def _polar(radii: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """(M,) radii and angles -> (M, 2) points."""
    return np.column_stack((radii * np.cos(angles), radii * np.sin(angles)))


def _round_corners(points: np.ndarray, share: float) -> np.ndarray:
    """(M, 2) -> (3 M, 2): cuts each corner by a share of its edges."""
    back, ahead = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
    before = points + share * (back - points)
    after = points + share * (ahead - points)
    middle = (before + after + 2 * points) / 4
    return np.stack((before, middle, after), axis=1).reshape(-1, 2)


_PAINTERS: dict[str, Callable[[np.random.Generator, Canvas, Color], None]] = {
    "ball": _paint_ball,
    "ring": _paint_ring,
    "star": _paint_star,
    "canoe": _paint_canoe,
    "crate": _paint_crate,
    "tree": _paint_tree,
}
_CLUTTER = (_paint_rock, _paint_bush, _paint_plank, _paint_tent, _paint_crescent, _paint_sign)
