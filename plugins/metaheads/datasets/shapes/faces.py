"""Scenes of drawn faces, with five points and a mesh each."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from metaheads.datasets.shapes import face_mesh, objects
from metaheads.datasets.shapes.backgrounds import Background, draw_background
from metaheads.datasets.shapes.canvas import Canvas, Sprite, apply_affine, to_rgb
from metaheads.datasets.shapes.categories import THINGS
from metaheads.datasets.shapes.face_mesh import LANDMARKS, Head
from metaheads.datasets.shapes.options import FaceOptions
from metaheads.datasets.shapes.render import VOID, Film, Layer, composite, draw_light

_SPLITS = ("faces_train", "faces_val")
_SKIN = ((0.07, 0.30, 0.95), (0.07, 0.45, 0.80), (0.06, 0.55, 0.55), (0.05, 0.55, 0.36))
_DISTRACTORS = [THINGS[name] for name in ("ball", "ring", "star", "crate", "tree")]
_TRIALS = 20
_FACING = 0.12  # a point is seen where its normal has this share towards the viewer


@dataclass(frozen=True)
class DrawnFace:
    """One face of a scene.

    Args:
        box: x, y, width, height around the whole mesh, clipped to the picture.
        is_ignored: too small or too well hidden to be annotated as a face.
        keypoints: (5, 3) x, y, visibility (2 seen, 1 hidden or outside of the picture); None
            where the scene does not tell.
        vertices: (V, 3) in pixels, z from the middle of the head towards the viewer; or None.
    """

    box: tuple[float, float, float, float]
    is_ignored: bool
    keypoints: np.ndarray | None
    vertices: np.ndarray | None


@dataclass(frozen=True)
class _Portrait:
    sprite: Sprite
    depths: np.ndarray  # (V,) in picture pixels
    is_facing: np.ndarray  # (V,) bool


def draw_face_scene(
    options: FaceOptions, size: tuple[int, int], *, seed: int, split: str, index: int
) -> tuple[np.ndarray, list[DrawnFace]]:
    """Draws scene `index` of "train" or "val" at `size` (height, width).

    Returns:
        (H, W, 3) uint8 RGB, and the faces.
    """
    number = 100 + _SPLITS.index(f"faces_{split}")  # apart from the other scenes
    rng = np.random.default_rng(np.random.SeedSequence([seed, number, index]))
    light = draw_light(rng)
    background = draw_background(rng, options.scene, size)
    layers = _place_distractors(rng, options, background, light)
    portraits = _paint_portraits(rng, options, background, light)
    first = len(layers)
    layers += _place(rng, portraits, size)
    owned = range(first, len(layers))
    layers += _place_occluders(rng, options, background, light, layers[first:])
    picture, owners = composite(background.picture, layers, light)
    faces = [
        _read(rng, options, layers[layer], portrait, owners == layer)
        for layer, portrait in zip(owned, portraits, strict=True)
    ]
    return Film.draw(rng, options.scene).expose(picture, rng), [f for f in faces if f is not None]


def _paint_portraits(
    rng: np.random.Generator, options: FaceOptions, background: Background, light: np.ndarray
) -> list[_Portrait]:
    """The faces of a scene, the smaller (farther) first."""
    low, high = options.face_size
    count = rng.integers(options.face_count[0], options.face_count[1] + 1)
    share = rng.random(count) ** options.size_bias
    sizes = np.sort(low * (high / low) ** share) * background.stuff.shape[0] / 144
    if rng.random() < options.tiny_probability:
        sizes = np.concatenate((rng.uniform(4, low, 2) * background.stuff.shape[0] / 144, sizes))
    return [_paint(rng, options, size, background.noise, light) for size in sizes]


def _paint(
    rng: np.random.Generator,
    options: FaceOptions,
    size: float,
    noise: np.ndarray,
    light: np.ndarray,
) -> _Portrait:
    """A face whose mesh is `size` pixels long on its longer side, with hair around it."""
    head = Head.draw(rng, *np.deg2rad((options.yaw, options.pitch, options.roll)))
    points = head.vertices[:, :2]
    skull = head.place(np.array([0.0, -0.12, -0.12]))[:2]
    hair_radius = 1.02 + 0.12 * rng.random()
    low = np.minimum(points.min(0), skull - hair_radius)
    high = np.maximum(points.max(0), skull + hair_radius)
    middle, reach = (low + high) / 2, (high - low).max() / 2
    zoom = size / (points.max(0) - points.min(0)).max()  # pixels per unit
    canvas = Canvas(2 * reach * zoom, noise, light)

    def project(places: np.ndarray) -> np.ndarray:
        """(..., 3) -> (..., 2) local units of the canvas."""
        return (places[..., :2] - middle) / reach

    skin = to_rgb(*np.array(_SKIN[rng.integers(len(_SKIN))]) * rng.uniform(0.9, 1.1, 3))
    hair = to_rgb(rng.uniform(0.02, 0.12), rng.uniform(0.1, 0.8), rng.uniform(0.04, 0.6))
    _paint_hair(rng, canvas, head, project, hair, hair_radius / reach)
    normals = head.normals()
    _paint_skin(canvas, head, project, skin, light)
    _paint_features(rng, canvas, head, project, skin, hair, normals)
    sprite = canvas.finish(1, project(head.vertices))
    is_facing = normals[:, 2] > _FACING
    return _Portrait(sprite, head.vertices[:, 2] * zoom, is_facing)


def _paint_hair(
    rng: np.random.Generator, canvas: Canvas, head: Head, project, hair: np.ndarray, radius: float
) -> None:
    grain = 1 + 0.12 * canvas.grain(rng, 2)
    color = np.clip(hair * grain[..., None], 0, 1)
    centre = project(head.place(np.array([0.0, -0.12, -0.12])))
    canvas.paint(canvas.disk(centre, radius * 0.94), color)


def _paint_skin(canvas: Canvas, head: Head, project, skin: np.ndarray, light: np.ndarray) -> None:
    """The triangles, far ones first, each as bright as it faces the light."""
    faces = face_mesh.triangles()
    corners = head.vertices[faces]  # (F, 3, 3)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = across / np.linalg.norm(across, axis=1, keepdims=True)
    shades = 0.55 + 0.5 * np.clip(normals @ light, 0, 1)
    shade = np.zeros(canvas.pixels.shape[:2], np.float32)
    mask = np.zeros(canvas.pixels.shape[:2], np.uint8)
    places = canvas.fixed(project(corners))  # (F, 3, 2)
    for index in np.argsort(corners[..., 2].mean(1), kind="stable"):
        canvas.fill(shade, places[index], float(shades[index]))
        canvas.fill(mask, places[index], 255)
    width = max(3, canvas.resolution // 16 * 2 + 1)
    known = (mask > 0).astype(np.float32)
    soft = cv2.blur(shade * known, (width, width))
    soft /= np.maximum(cv2.blur(known, (width, width)), 1e-3)
    coverage = cv2.blur(mask, (3, 3)).astype(np.float32) / 255
    canvas.paint(coverage, np.clip(skin * soft[..., None], 0, 1))


def _paint_features(
    rng: np.random.Generator,
    canvas: Canvas,
    head: Head,
    project,
    skin: np.ndarray,
    hair: np.ndarray,
    normals: np.ndarray,
) -> None:
    """Eyes, brows, nose and mouth on the surface, where it faces the viewer."""
    dark = np.full(3, 0.06, np.float32)
    white = np.full(3, 0.92, np.float32)
    left_eye, right_eye, nose, left_mouth, right_mouth = LANDMARKS
    across, down = head.place(np.array([1.0, 0, 0])), head.place(np.array([0, 1.0, 0]))

    def ring(centre: np.ndarray, width: float, height: float) -> np.ndarray:
        turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)[:, None]
        return project(centre + width * np.cos(turns) * across + height * np.sin(turns) * down)

    iris = to_rgb(rng.uniform(0.05, 0.6), 0.5, rng.uniform(0.1, 0.4))
    openness = rng.uniform(0.6, 1.1)
    for eye in (left_eye, right_eye):
        if normals[eye, 2] < _FACING:
            continue
        centre = head.vertices[eye]
        canvas.paint(canvas.polygon(ring(centre, 0.17, 0.1 * openness)), white)
        canvas.paint(canvas.polygon(ring(centre, 0.085, 0.085)), iris)
        canvas.paint(canvas.polygon(ring(centre, 0.045, 0.045)), dark)
        brow = ring(centre - 0.2 * down, 0.19, 0.035)
        canvas.paint(canvas.polygon(brow), np.clip(hair * 0.7, 0, 1).astype(np.float32))
    tip, bridge = head.vertices[nose], head.vertices[face_mesh.NOSE_BRIDGE]
    ridge = np.array([bridge, tip - 0.09 * across + 0.04 * down, tip + 0.09 * across + 0.04 * down])
    canvas.paint(canvas.polygon(project(ridge)), np.clip(skin * 1.12, 0, 1))
    canvas.paint(canvas.polygon(ring(tip + 0.05 * down, 0.12, 0.035)), skin * 0.45)
    middle = head.vertices[left_mouth + 1]
    corners = head.vertices[[left_mouth, right_mouth]]
    if normals[left_mouth + 1, 2] > _FACING:
        lift = rng.uniform(-0.02, 0.08)
        upper, lower = middle - (0.05 - lift) * down, middle + (0.1 + lift) * down
        lips = project(np.array([corners[0], upper, corners[1], lower]))
        canvas.paint(canvas.polygon(_round(lips)), to_rgb(0.98, 0.6, 0.35 + 0.4 * float(skin[0])))
        seam = project(np.array([corners[0], middle + lift * down, corners[1]]))
        for start, end in zip(seam, seam[1:], strict=False):
            canvas.paint(canvas.capsule(start, end, 0.016), dark)


def _round(polygon: np.ndarray) -> np.ndarray:
    """A closed polygon with its corners cut once, but for the first and the third."""
    a, b, c, d = polygon
    return np.array([a, (a + 2 * b) / 3, (c + 2 * b) / 3, c, (c + 2 * d) / 3, (a + 2 * d) / 3])


def _place(
    rng: np.random.Generator, portraits: list[_Portrait], size: tuple[int, int]
) -> list[Layer]:
    """Faces in places where they hide little of each other; some reach out of the picture."""
    height, width = size
    placed: list[Layer] = []
    for portrait in portraits:
        sprite = portrait.sprite
        side = len(sprite.pixels) * sprite.scale
        inside = side * (0.3 if rng.random() < 0.12 else 0.46)
        for _ in range(_TRIALS):
            centre = [
                rng.uniform(min(inside, whole * 0.48), max(whole - inside, whole * 0.52))
                for whole in (width, height)
            ]
            layer = Layer(sprite, sprite.to_picture((centre[0], centre[1]), 0.0), VOID, False)
            if not any(_overlap(layer, other) for other in placed):
                break
        placed.append(layer)
    return placed


def _overlap(layer: Layer, other: Layer) -> bool:
    """Whether the boxes around two faces share more than a little."""
    (low, high), (other_low, other_high) = (
        (outline.min(0), outline.max(0)) for outline in (layer.outline(), other.outline())
    )
    shared = np.minimum(high, other_high) - np.maximum(low, other_low)
    least = min((high - low).prod(), (other_high - other_low).prod())
    return bool((shared > 0).all() and shared.prod() > 0.1 * least)


def _place_distractors(
    rng: np.random.Generator, options: FaceOptions, background: Background, light: np.ndarray
) -> list[Layer]:
    """Objects of other classes behind the faces, round ones among them."""
    height, width = background.stuff.shape
    low, high = options.distractor_count
    layers = []
    for _ in range(rng.integers(low, high + 1)):
        category = _DISTRACTORS[rng.integers(len(_DISTRACTORS))]
        size = rng.uniform(10, 60) * height / 144
        rotation = objects.pick_rotation(rng, category)
        sprite = objects.draw_thing(
            rng,
            category,
            size,
            rotation,
            noise=background.noise,
            light=light,
            options=options.scene,
        )
        centre = rng.uniform(0, width), rng.uniform(0, height)
        layers.append(Layer(sprite, sprite.to_picture(centre, rotation), VOID, False))
    return layers


def _place_occluders(
    rng: np.random.Generator,
    options: FaceOptions,
    background: Background,
    light: np.ndarray,
    faces: list[Layer],
) -> list[Layer]:
    """Things in front of some faces, at their border."""
    layers = []
    for face in faces:
        if rng.random() >= options.occluder_probability:
            continue
        outline = face.outline()
        low, high = outline.min(0), outline.max(0)
        size = float((high - low).max()) * rng.uniform(0.3, 0.7)
        sprite = objects.draw_clutter(rng, max(size, 4.0), 0.0, noise=background.noise, light=light)
        angle = rng.uniform(0, 2 * np.pi)
        away = (high - low) * rng.uniform(0.2, 0.5)
        centre = (low + high) / 2 + away * (np.cos(angle), np.sin(angle))
        layers.append(Layer(sprite, sprite.to_picture((centre[0], centre[1]), 0.0), VOID, False))
    return layers


def _read(
    rng: np.random.Generator,
    options: FaceOptions,
    layer: Layer,
    portrait: _Portrait,
    seen: np.ndarray,
) -> DrawnFace | None:
    """What is annotated of a face; None if nothing of it is in the picture.

    Args:
        seen: (H, W) bool, the pixels that show it.
    """
    assert layer.sprite.keypoints is not None
    height, width = seen.shape
    points = apply_affine(layer.to_picture, layer.sprite.keypoints)
    low = np.clip(points.min(0), 0, (width, height))
    high = np.clip(points.max(0), 0, (width, height))
    if (high - low).min() < 1 or not seen.any():
        return None
    box = (float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))
    rows, columns = (np.arange(side) + 0.5 for side in seen.shape)
    part = seen[(rows > low[1]) & (rows < high[1])][:, (columns > low[0]) & (columns < high[0])]
    is_tiny = (high - low).max() < options.smallest * height / 144
    is_ignored = bool(is_tiny or part.mean() < options.minimum_visible)
    chance = options.plain_probability
    if (high - low).max() < options.smallest_with_points * height / 144:
        chance = 0.7
    if rng.random() < chance or is_ignored:
        return DrawnFace(box, is_ignored, None, None)
    cells = np.floor(points[LANDMARKS]).astype(int)
    is_inside = ((cells >= 0) & (cells < (width, height))).all(1)
    x, y = np.clip(cells, 0, (width - 1, height - 1)).T
    is_seen = is_inside & seen[y, x] & portrait.is_facing[LANDMARKS]
    keypoints = np.column_stack((points[LANDMARKS], 1 + is_seen))
    vertices = np.column_stack((points, portrait.depths))
    return DrawnFace(box, is_ignored, keypoints, vertices)
