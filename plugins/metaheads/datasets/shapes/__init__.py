"""The embedded data set: small drawn scenes with instances, keypoints, panoptic labels, clips.

Nothing is downloaded: `make_shapes` draws everything from a seed, and equal arguments give equal
bytes. `write.py` lists the files; `options.py` holds the knobs that set how hard the scenes are.
"""

from metaheads.datasets.shapes.categories import (
    FACE,
    FIGURE_FLIP_PAIRS,
    FIGURE_KEYPOINTS,
    FIGURE_SIGMAS,
    FIGURE_SKELETON,
    STUFF,
    THINGS,
)
from metaheads.datasets.shapes.clips import Clip, draw_clip
from metaheads.datasets.shapes.faces import DrawnFace, draw_face_scene
from metaheads.datasets.shapes.options import (
    CLIP_OPTIONS,
    TRAIN_FACE_OPTIONS,
    TRAIN_OPTIONS,
    VAL_FACE_OPTIONS,
    VAL_OPTIONS,
    FaceOptions,
    SceneOptions,
)
from metaheads.datasets.shapes.scenes import Instance, Scene, draw_scene
from metaheads.datasets.shapes.write import PARTS, make_shapes

__all__ = [
    "CLIP_OPTIONS",
    "FACE",
    "FIGURE_FLIP_PAIRS",
    "FIGURE_KEYPOINTS",
    "FIGURE_SIGMAS",
    "FIGURE_SKELETON",
    "PARTS",
    "STUFF",
    "THINGS",
    "TRAIN_FACE_OPTIONS",
    "TRAIN_OPTIONS",
    "VAL_FACE_OPTIONS",
    "VAL_OPTIONS",
    "Clip",
    "DrawnFace",
    "FaceOptions",
    "Instance",
    "Scene",
    "SceneOptions",
    "draw_clip",
    "draw_face_scene",
    "draw_scene",
    "make_shapes",
]
