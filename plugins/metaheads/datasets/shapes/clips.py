"""Clips: a camera that moves over a large scene with moving objects, and its exact optical flow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from metaheads.datasets.shapes.backgrounds import draw_background
from metaheads.datasets.shapes.canvas import apply_affine, compose_affines, invert_affine, warp
from metaheads.datasets.shapes.options import SceneOptions
from metaheads.datasets.shapes.render import Film, Layer, composite, draw_light
from metaheads.datasets.shapes.scenes import (
    Scene,
    label_stuff,
    place_clutter,
    place_things,
    read_instances,
    scene_rng,
    sort_by_depth,
)

CLIP_FRAMES = 8
_WORLD = 1.5  # the background's size over the picture's; the camera stays within it


@dataclass(frozen=True)
class Clip:
    """Frames of one moving scene.

    Args:
        frames: one Scene each; an instance keeps its number.
        flows: frames - 1 arrays (H, W, 2) float32: where the surface seen at each pixel of a frame
            moves to in the next frame, as (x, y) difference in pixels. Defined everywhere, also
            where the target is hidden or outside.
        valid: frames - 1 arrays (H, W) bool: whether the same surface is seen at the target (the
            pixel nearest to it).
    """

    frames: list[Scene]
    flows: list[np.ndarray]
    valid: list[np.ndarray]


@dataclass(frozen=True)
class _Motion:
    """A similarity that changes evenly with time, about a point of its own.

    Args:
        velocity: (2,) pixels per frame.
        turn: radians per frame.
        growth: logarithm of the scale, per frame.
    """

    velocity: np.ndarray
    turn: float
    growth: float

    def at(self, time: float, center: np.ndarray) -> np.ndarray:
        """(2, 3) from where points are at time 0 to where they are at `time`."""
        cosine, sine = np.cos(time * self.turn), np.sin(time * self.turn)
        linear = np.exp(time * self.growth) * np.array([[cosine, -sine], [sine, cosine]])
        return np.column_stack((linear, center - linear @ center + time * self.velocity))


def draw_clip(options: SceneOptions, size: tuple[int, int], *, seed: int, index: int) -> Clip:
    """Draws clip `index` at `size` (height, width). Clips have no crowds.

    Objects keep their order in depth, and the light is carried along by those that turn.
    """
    rng = scene_rng(seed, "clips", index)
    light = draw_light(rng)
    world = (round(size[0] * _WORLD), round(size[1] * _WORLD))
    # Sizes and places refer to the height of the picture, not of the world; hence the ratio.
    low, high = options.object_size
    options = replace(options, object_size=(low / _WORLD, high / _WORLD), truncation_probability=0)
    background = draw_background(rng, options, world)
    layers = place_things(rng, options, background, light)
    layers += place_clutter(rng, options, background, light)
    layers = sort_by_depth(rng, layers)
    motions = [_draw_motion(rng, layer, size) for layer in layers]
    camera, middle = _draw_camera(rng, size), np.array(world[::-1]) / 2
    film = Film.draw(rng, options)
    frames, places, owners = [], [], []
    for time in np.arange(CLIP_FRAMES) - (CLIP_FRAMES - 1) / 2:
        view = camera.at(time, middle)
        view[:, 2] -= middle - np.array(size[::-1]) / 2
        placed = [_move(*pair, time, view) for pair in zip(layers, motions, strict=True)]
        picture = warp(background.picture, view, size)
        picture, owner = composite(picture, placed, light)
        stuff = background.stuff[_nearest(view, size, world)]
        instances = read_instances(placed, owner, options)
        stuff = label_stuff(stuff, placed, owner)
        frames.append(Scene(film.expose(picture, rng), stuff, instances))
        places.append([*(layer.to_picture for layer in placed), view])  # owner -1: the background
        owners.append(owner)
    pairs = [_flow(*places[t : t + 2], *owners[t : t + 2]) for t in range(CLIP_FRAMES - 1)]
    return Clip(frames, [flow for flow, _ in pairs], [valid for _, valid in pairs])


def _draw_motion(rng: np.random.Generator, layer: Layer, size: tuple[int, int]) -> _Motion:
    """Things move by up to 5 % of the height a frame, a quarter of them and all clutter rest."""
    if layer.group < 1 or rng.random() < 0.25:
        return _Motion(np.zeros(2), 0.0, 0.0)
    velocity = rng.uniform(-0.05, 0.05, 2) * size[0] * (1, 0.4 if layer.grounded else 1)
    turn = rng.normal(0, 0.02 if layer.grounded else 0.12)
    return _Motion(velocity, turn, rng.normal(0, 0.01))


def _draw_camera(rng: np.random.Generator, size: tuple[int, int]) -> _Motion:
    """Slow enough that the clip never sees beyond the world."""
    reach = np.array([0.16 * size[1], 0.12 * size[0]])
    velocity, turn, growth = rng.uniform(-1, 1, 2) * reach, *rng.uniform(-0.05, 0.05, 2)
    return _Motion(velocity / (CLIP_FRAMES / 2), turn / CLIP_FRAMES * 2, growth / CLIP_FRAMES * 2)


def _move(layer: Layer, motion: _Motion, time: float, view: np.ndarray) -> Layer:
    """The layer at a time (0 is the middle of the clip), as the camera sees it."""
    center = layer.outline().mean(0)
    in_world = compose_affines(motion.at(time, center), layer.to_picture)
    return replace(layer, to_picture=compose_affines(view, in_world))


def _pixel_centers(size: tuple[int, int]) -> np.ndarray:
    """(H, W, 2) x, y."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack((columns, rows), axis=-1) + 0.5


def _nearest(
    view: np.ndarray, size: tuple[int, int], world: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column indices, (H, W) each, of the world's pixels that the camera sees."""
    points = np.floor(apply_affine(invert_affine(view), _pixel_centers(size))).astype(int)
    return np.clip(points[..., 1], 0, world[0] - 1), np.clip(points[..., 0], 0, world[1] - 1)


def _flow(
    places: list[np.ndarray],
    next_places: list[np.ndarray],
    owners: np.ndarray,
    next_owners: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The motion of what each pixel shows, and whether it is still seen in the next frame.

    Args:
        places, next_places: a (2, 3) affine per layer, that of the background last.
        owners, next_owners: (H, W) index of the layer that is seen, -1 for the background.
    """
    motions = [
        compose_affines(after, invert_affine(before))
        for before, after in zip(places, next_places, strict=True)
    ]
    affines = np.array(motions)[owners]  # (H, W, 2, 3)
    points = _pixel_centers(owners.shape)
    targets = (affines[..., :2] @ points[..., None])[..., 0] + affines[..., 2]  # (H, W, 2)
    columns, rows = np.floor(targets).astype(int).transpose(2, 0, 1)
    height, width = owners.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    found = next_owners[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
    return (targets - points).astype(np.float32), inside & (found == owners)
