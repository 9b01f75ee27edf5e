"""The embedded data set: small drawn scenes with instances, keypoints, panoptic labels, clips.

Nothing is downloaded: `make_shapes` draws everything from a seed, and equal arguments give equal
bytes. `write.py` lists the files; `options.py` holds the knobs that set how hard the scenes are.
"""

from metaheads.datasets.shapes.categories import (
    FIGURE_FLIP_PAIRS,
    FIGURE_KEYPOINTS,
    FIGURE_SIGMAS,
    FIGURE_SKELETON,
    STUFF,
    THINGS,
)
from metaheads.datasets.shapes.clips import Clip, draw_clip
from metaheads.datasets.shapes.options import CLIP_OPTIONS, TRAIN_OPTIONS, VAL_OPTIONS, SceneOptions
from metaheads.datasets.shapes.scenes import Instance, Scene, draw_scene
from metaheads.datasets.shapes.write import make_shapes

__all__ = [
    "CLIP_OPTIONS",
    "FIGURE_FLIP_PAIRS",
    "FIGURE_KEYPOINTS",
    "FIGURE_SIGMAS",
    "FIGURE_SKELETON",
    "STUFF",
    "THINGS",
    "TRAIN_OPTIONS",
    "VAL_OPTIONS",
    "Clip",
    "Instance",
    "Scene",
    "SceneOptions",
    "draw_clip",
    "draw_scene",
    "make_shapes",
]
