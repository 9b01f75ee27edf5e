"""The classes of the embedded data set, and the keypoints of its figures."""

from __future__ import annotations

from metaheads.datasets.face_labels import FACE_POINTS

# Category ids have gaps on purpose: code that takes an id for an index must fail on this data.
THINGS = {"figure": 1, "ball": 2, "ring": 3, "star": 5, "canoe": 7, "crate": 8, "tree": 11}
FACE = 13
STUFF = {"sky": 21, "grass": 22, "water": 24, "road": 25, "wall": 27, "sand": 30}

_COLORS = {
    "figure": (220, 20, 60),
    "ball": (255, 170, 30),
    "ring": (0, 200, 220),
    "star": (250, 240, 60),
    "canoe": (165, 42, 142),
    "crate": (140, 90, 40),
    "tree": (30, 110, 40),
    "sky": (70, 130, 180),
    "grass": (107, 180, 60),
    "water": (30, 60, 160),
    "road": (128, 128, 128),
    "wall": (178, 80, 70),
    "sand": (220, 200, 140),
}

# Figures face the viewer, so their left hand is on the right of the picture.
FIGURE_KEYPOINTS = (
    "head",
    "neck",
    "pelvis",
    "left_elbow",
    "right_elbow",
    "left_hand",
    "right_hand",
    "left_foot",
    "right_foot",
)
# Pairs of keypoint names, as in COCO numbered from 1.
FIGURE_SKELETON = ((1, 2), (2, 3), (2, 4), (4, 6), (2, 5), (5, 7), (3, 8), (3, 9))
# Indices into FIGURE_KEYPOINTS, numbered from 0, that change places when a picture is mirrored.
FIGURE_FLIP_PAIRS = ((3, 4), (5, 6), (7, 8))
# Tolerances for object keypoint similarity, in the order of FIGURE_KEYPOINTS.
FIGURE_SIGMAS = (0.05, 0.06, 0.08, 0.07, 0.07, 0.06, 0.06, 0.07, 0.07)


def thing_categories() -> list[dict]:
    """COCO `categories` of the instance files."""
    return [
        {"id": number, "name": name, "supercategory": "thing"} for name, number in THINGS.items()
    ]


def keypoint_categories() -> list[dict]:
    """COCO `categories` of the keypoint files: figures only."""
    return [
        {
            "id": THINGS["figure"],
            "name": "figure",
            "supercategory": "thing",
            "keypoints": list(FIGURE_KEYPOINTS),
            "skeleton": [list(pair) for pair in FIGURE_SKELETON],
        }
    ]


def face_categories() -> list[dict]:
    """COCO `categories` of the files of faces."""
    points = {"keypoints": list(FACE_POINTS), "skeleton": []}
    return [{"id": FACE, "name": "face", "supercategory": "thing", **points}]


def panoptic_categories() -> list[dict]:
    """COCO `categories` of the panoptic files: things, then stuff, with display colours (RGB)."""
    return [
        {
            "id": number,
            "name": name,
            "supercategory": "thing" if name in THINGS else "stuff",
            "isthing": int(name in THINGS),
            "color": list(_COLORS[name]),
        }
        for name, number in {**THINGS, **STUFF}.items()
    ]
