"""The knobs of the scenes: how many objects, how large, how varied, how well visible."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SceneOptions:
    """What scenes are drawn from. Lengths are in pixels of a 144-row picture; others scale with it.

    Args:
        object_count: fewest and most objects placed, crowds and clutter apart (ends included).
        object_size: smallest and largest long side of an object (figures, canoes and trees get
            somewhat more, as they are thin).
        size_bias: 1 draws sizes log-uniformly, larger values favour small objects.
        color_spread: 1 draws the hue of every object from the whole wheel, so that colour says
            nothing about the class; 0 gives each class one hue.
        pattern_probability: share of objects with a second colour (stripes, dots, wedges, ...).
        clutter_count: fewest and most objects that belong to no class (rocks, bushes, tents, ...).
        overlap_probability: share of objects placed against an earlier one; the others keep
            clear of each other where there is room.
        twin_probability: share of those that also copy its class.
        truncation_probability: share of objects placed across the border of the picture.
        crowd_every, empty_every: one scene in so many has a crowd, or no object; 0 is never.
        crowd_count: fewest and most members of a crowd.
        texture_scale: range of the spatial frequency of all stuff textures.
        palette_shift: added to the hues of stuff, in turns of the colour wheel.
        contrast: strength of stuff textures; 0 leaves flat regions.
        exposure: largest relative change of brightness, contrast and colour balance.
        blur: largest sigma of the final blur.
        noise: largest sigma of the sensor noise, in units of the full range.
        minimum_area: visible pixels (of a 144-row picture) below which an object is not annotated.
        minimum_visible: visible share of the whole object below which it is not annotated.
    """

    object_count: tuple[int, int] = (2, 4)
    object_size: tuple[float, float] = (36.0, 90.0)
    size_bias: float = 0.9
    color_spread: float = 0.4
    pattern_probability: float = 0.1
    clutter_count: tuple[int, int] = (0, 2)
    overlap_probability: float = 0.05
    twin_probability: float = 0.5
    truncation_probability: float = 0.04
    crowd_every: int = 8
    empty_every: int = 20
    crowd_count: tuple[int, int] = (14, 34)
    texture_scale: tuple[float, float] = (0.7, 1.4)
    palette_shift: float = 0.0
    contrast: float = 0.3
    exposure: float = 0.1
    blur: float = 0.4
    noise: float = 0.008
    minimum_area: float = 40.0
    minimum_visible: float = 0.12


@dataclass(frozen=True)
class FaceOptions:
    """What scenes of faces are drawn from. Lengths are in pixels of a 144-row picture.

    Args:
        scene: of the background and of all else.
        face_count: fewest and most faces (ends included).
        face_size: smallest and largest long side of a face.
        size_bias: 1 draws sizes log-uniformly, larger values favour small faces.
        yaw, pitch, roll: largest angles, in degrees.
        distractor_count: fewest and most objects of other kinds behind the faces.
        occluder_probability: share of faces with something in front of them.
        plain_probability: share of faces without points and mesh.
        tiny_probability: share of pictures with two faces smaller than face_size.
        smallest: long side below which a face is ignored (a crowd).
        smallest_with_points: long side below which most faces have neither points nor mesh.
        minimum_visible: visible share of the box below which a face is ignored.
    """

    scene: SceneOptions = SceneOptions()
    face_count: tuple[int, int] = (0, 7)
    face_size: tuple[float, float] = (10.0, 90.0)
    size_bias: float = 1.3
    yaw: float = 55.0
    pitch: float = 25.0
    roll: float = 60.0
    distractor_count: tuple[int, int] = (0, 3)
    occluder_probability: float = 0.15
    plain_probability: float = 0.1
    tiny_probability: float = 0.15
    smallest: float = 7.0
    smallest_with_points: float = 12.0
    minimum_visible: float = 0.3


TRAIN_OPTIONS = SceneOptions()
"""The training scenes."""

VAL_OPTIONS = SceneOptions(
    object_count=(3, 5),
    clutter_count=(1, 3),
    texture_scale=(1.0, 1.9),
    palette_shift=0.04,
)
"""The validation scenes: more objects and clutter, finer textures, shifted hues of stuff."""

TRAIN_FACE_OPTIONS = FaceOptions(scene=TRAIN_OPTIONS)
VAL_FACE_OPTIONS = FaceOptions(scene=VAL_OPTIONS)
"""The scenes of faces; those for validation have the backgrounds of the validation scenes."""

CLIP_OPTIONS = SceneOptions(
    object_count=(6, 14),
    object_size=(12.0, 100.0),
    size_bias=1.2,
    overlap_probability=0.25,
    clutter_count=(2, 9),
    blur=0.5,
)
"""The clips; their objects are spread over more than twice the picture's area."""
