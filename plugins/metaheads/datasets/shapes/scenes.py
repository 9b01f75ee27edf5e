"""Single scenes: objects placed on a background, rendered back to front, and read off again."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from metaheads.datasets.shapes import objects
from metaheads.datasets.shapes.backgrounds import Background, draw_background
from metaheads.datasets.shapes.canvas import apply_affine
from metaheads.datasets.shapes.categories import THINGS
from metaheads.datasets.shapes.options import SceneOptions
from metaheads.datasets.shapes.render import (
    DECAL,
    VOID,
    Film,
    Layer,
    composite,
    draw_light,
    to_groups,
)

SPLITS = ("train", "val", "clips")
PLACEMENT_TRIALS = 12


@dataclass(frozen=True)
class Instance:
    """What can be seen of one object.

    Args:
        number: of the object, from 1, without order or meaning; the same in all frames of a clip.
        category: category id.
        mask: (H, W) bool, visible pixels only.
        is_crowd: whether the mask covers many objects.
        keypoints: (K, 3) int: x and y of the pixel that holds the point, and 2 visible,
            1 hidden behind something, 0 outside of the picture (x = y = 0); None but for figures.
    """

    number: int
    category: int
    mask: np.ndarray
    is_crowd: bool = False
    keypoints: np.ndarray | None = None


@dataclass(frozen=True)
class Scene:
    """A picture and its labels.

    Args:
        picture: (H, W, 3) uint8 RGB.
        stuff: (H, W) int32 category ids of stuff; 0 on instances and where nothing is labelled.
        instances: with disjoint masks.
    """

    picture: np.ndarray
    stuff: np.ndarray
    instances: list[Instance] = field(default_factory=list)


def scene_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The source of randomness of one scene or clip, independent of how many there are."""
    return np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), index]))


def draw_scene(
    options: SceneOptions, size: tuple[int, int], *, seed: int, split: str, index: int
) -> Scene:
    """Draws scene `index` of a split at `size` (height, width)."""
    rng = scene_rng(seed, split, index)
    light = draw_light(rng)
    background = draw_background(rng, options, size)
    layers = []
    if not is_turn(options.empty_every, index, 5):
        layers = place_things(rng, options, background, light)
        if is_turn(options.crowd_every, index, 2):
            layers += _place_crowd(rng, options, background, light, layers)
    layers += place_clutter(rng, options, background, light)
    layers = sort_by_depth(rng, layers)
    picture, owners = composite(background.picture, layers, light)
    picture = Film.draw(rng, options).expose(picture, rng)
    instances = read_instances(layers, owners, options)
    return Scene(picture, label_stuff(background.stuff, layers, owners), instances)


def is_turn(every: int, index: int, first: int) -> bool:
    """Whether `index` is one of `first`, `first + every`, ...; never if every is 0."""
    return every > 0 and index % every == first % every


def place_things(
    rng: np.random.Generator, options: SceneOptions, background: Background, light: np.ndarray
) -> list[Layer]:
    """Places single objects of the thing classes; groups count from 1."""
    low, high = options.object_count
    categories = list(THINGS.values())
    scale = background.stuff.shape[0] / 144
    layers: list[Layer] = []
    for number in range(1, rng.integers(low, high + 1) + 1):
        category = categories[rng.integers(len(categories))]
        size = scale * _draw_size(rng, options)
        neighbour = None
        if layers and rng.random() < options.overlap_probability:
            neighbour = layers[rng.integers(len(layers))]
            size = max(_length(neighbour) * rng.uniform(0.5, 1.3), scale * options.object_size[0])
            size = min(size, scale * options.object_size[1])
            if rng.random() < options.twin_probability:
                category = neighbour.sprite.category
        rotation = objects.pick_rotation(rng, category)
        grounded = objects.stands(category) or rng.random() < 0.6
        sprite = objects.draw_thing(
            rng, category, size, rotation, noise=background.noise, light=light, options=options
        )
        if neighbour is None:
            center = _pick_free_center(rng, options, background, size, grounded, layers)
        else:
            center = _pick_beside(rng, neighbour, size)
        layers.append(Layer(sprite, sprite.to_picture(center, rotation), number, grounded))
    return layers


def place_clutter(
    rng: np.random.Generator, options: SceneOptions, background: Background, light: np.ndarray
) -> list[Layer]:
    """Places objects of no class: small ones count as part of the stuff, large ones are void."""
    low, high = options.clutter_count
    scale = background.stuff.shape[0] / 144
    layers = []
    for _ in range(rng.integers(low, high + 1)):
        size = scale * 5 * (60 / 5) ** (rng.random() ** 1.6)
        rotation = rng.normal(0, 0.25) if rng.random() < 0.8 else rng.uniform(-np.pi, np.pi)
        sprite = objects.draw_clutter(rng, size, rotation, noise=background.noise, light=light)
        center = _pick_center(rng, options, background, size, grounded=True)
        group = DECAL if size < 13 * scale else VOID
        layers.append(Layer(sprite, sprite.to_picture(center, rotation), group, True))
    return layers


def _place_crowd(
    rng: np.random.Generator,
    options: SceneOptions,
    background: Background,
    light: np.ndarray,
    others: list[Layer],
) -> list[Layer]:
    """Places a patch of many small objects of one class, all of one group, clear of the others."""
    height, width = background.stuff.shape
    categories = list(THINGS.values())
    category = categories[rng.integers(len(categories))]
    size = rng.uniform(6, 10) * height / 144
    sprites = [
        objects.draw_thing(
            rng, category, size, 0.0, noise=background.noise, light=light, options=options
        )
        for _ in range(5)
    ]
    spread = size * rng.uniform(1.6, 2.8)
    group = len(others) + 1
    middle = _pick_free_center(rng, options, background, 4 * size, True, others)
    middle = np.clip(middle, 2 * size, (width - 2 * size, height - 2 * size))
    layers = []
    for _ in range(rng.integers(options.crowd_count[0], options.crowd_count[1] + 1)):
        sprite = sprites[rng.integers(len(sprites))]
        center = middle + rng.normal(0, 1, 2) * (spread, spread * 0.45)
        rotation = objects.pick_rotation(rng, category)
        to_picture = sprite.to_picture(center, rotation, rng.uniform(0.8, 1.2))
        layers.append(Layer(sprite, to_picture, group, True))
    return layers


def sort_by_depth(rng: np.random.Generator, layers: list[Layer]) -> list[Layer]:
    """Orders layers back to front: what stands lower in the picture is nearer, more or less."""
    depths = [
        layer.outline()[:, 1].max() + rng.normal(0, 6) - 200 * (layer.group == DECAL)
        for layer in layers
    ]
    return [layers[index] for index in np.argsort(depths, kind="stable")]


def read_instances(
    layers: list[Layer], owners: np.ndarray, options: SceneOptions
) -> list[Instance]:
    """The instances of which enough is seen, in order of their numbers.

    Args:
        owners: (H, W) index of the layer that is seen, or -1.
    """
    groups = to_groups(layers, owners)
    minimum = options.minimum_area * (owners.shape[0] / 144) ** 2
    instances = []
    for number in sorted({layer.group for layer in layers if layer.group > 0}):
        members = [layer for layer in layers if layer.group == number]
        mask = groups == number
        seen = mask.sum()
        whole = sum(_area(layer) for layer in members)
        if seen < minimum or seen < options.minimum_visible * whole:
            continue
        sprite = members[0].sprite
        is_crowd = len(members) > 1
        keypoints = None
        if sprite.keypoints is not None and not is_crowd:
            keypoints = _read_keypoints(members[0], mask)
        instances.append(Instance(number, sprite.category, mask, is_crowd, keypoints))
    return instances


def label_stuff(stuff: np.ndarray, layers: list[Layer], owners: np.ndarray) -> np.ndarray:
    """(H, W) category ids of stuff where nothing but decals covers it, 0 elsewhere."""
    return np.where(to_groups(layers, owners) == DECAL, stuff, 0)


def _draw_size(rng: np.random.Generator, options: SceneOptions) -> float:
    low, high = options.object_size
    return low * (high / low) ** (rng.random() ** options.size_bias)


def _pick_center(
    rng: np.random.Generator,
    options: SceneOptions,
    background: Background,
    size: float,
    grounded: bool,
) -> np.ndarray:
    """(2,) x, y: on the ground, large objects lie nearer; some places cut the border."""
    height, width = background.stuff.shape
    inside = min(size * 0.45, width * 0.45)
    x = rng.uniform(inside, width - inside)
    if grounded and background.horizon is not None:
        low, high = options.object_size
        near = np.log(size / (height / 144) / low) / np.log(high / low) + rng.normal(0, 0.25)
        base = background.horizon + (height - background.horizon) * np.clip(near, 0.06, 0.98)
        y = base - size * 0.45
    else:
        margin = min(size * 0.4, height * 0.45)
        y = rng.uniform(margin, height - margin)
    if rng.random() < options.truncation_probability:
        side, cut = rng.integers(3), rng.uniform(-0.3, 0.3) * size
        x, y = ((cut, y), (width - cut, y), (x, height - cut))[side]
    return np.array([x, y])


def _pick_free_center(
    rng: np.random.Generator,
    options: SceneOptions,
    background: Background,
    size: float,
    grounded: bool,
    layers: list[Layer],
) -> np.ndarray:
    """(2,) x, y: the first of some places that is clear of earlier objects, or else the last."""
    outlines = [layer.outline() for layer in layers]
    for _ in range(PLACEMENT_TRIALS):
        center = _pick_center(rng, options, background, size, grounded)
        low, high = center - size * 0.5, center + size * 0.5
        if not any(((o.max(0) > low) & (o.min(0) < high)).all() for o in outlines):
            break
    return center


def _pick_beside(rng: np.random.Generator, neighbour: Layer, size: float) -> np.ndarray:
    """(2,) x, y: touching or covering a part of another object, mostly sideways of it."""
    outline = neighbour.outline()
    low, high = outline.min(0), outline.max(0)
    angle = rng.choice((0, np.pi)) + rng.normal(0, 0.5)
    away = ((high - low) / 2 + size * 0.4) * rng.uniform(0.55, 1.05)
    return (low + high) / 2 + away * (np.cos(angle), np.sin(angle))


def _length(layer: Layer) -> float:
    outline = layer.outline()
    return float((outline.max(0) - outline.min(0)).max())


def _area(layer: Layer) -> float:
    """Pixels that the whole object covers in the picture."""
    zoom = np.linalg.det(layer.to_picture[:, :2]) / layer.sprite.scale**2
    return layer.sprite.area * zoom


def _read_keypoints(layer: Layer, mask: np.ndarray) -> np.ndarray:
    """(K, 3) int x, y, visibility of a figure with this visible (H, W) mask."""
    assert layer.sprite.keypoints is not None
    points = np.floor(apply_affine(layer.to_picture, layer.sprite.keypoints)).astype(int)
    inside = ((points >= 0) & (points < mask.shape[::-1])).all(1)
    points[~inside] = 0
    visible = mask[points[:, 1], points[:, 0]]
    return np.column_stack((points, np.where(inside, 1 + visible, 0)))
