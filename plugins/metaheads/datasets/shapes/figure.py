"""The articulated figure, which carries keypoints."""

from __future__ import annotations

import numpy as np

from metaheads.datasets.shapes.canvas import Canvas, to_rgb
from metaheads.datasets.shapes.categories import FIGURE_KEYPOINTS

_SKIN = ((0.07, 0.30, 0.95), (0.07, 0.45, 0.80), (0.06, 0.55, 0.55), (0.05, 0.55, 0.36))


def paint_figure(
    rng: np.random.Generator, canvas: Canvas, shirt: np.ndarray, trousers: np.ndarray
) -> np.ndarray:
    """Paints a figure that faces the viewer, in a random pose.

    Args:
        shirt, trousers: (n, n, 3) or (3,) RGB in [0, 1].

    Returns:
        (9, 2) the keypoints in local units, in the order of FIGURE_KEYPOINTS.
    """
    build = rng.uniform(0.8, 1.25)  # slim to stout
    limb = 0.085 * build
    joints = _fit(_pose(rng, build), margin=0.16)
    skin = to_rgb(*np.array(_SKIN[rng.integers(len(_SKIN))]) * rng.uniform(0.9, 1.1, 3))
    sleeves = shirt if rng.random() < 0.6 else skin
    shoes = to_rgb(rng.random(), 0.3, rng.uniform(0.05, 0.5))
    for side in ("left", "right"):
        hip, knee, foot = (joints[f"{side}_{part}"] for part in ("hip", "knee", "foot"))
        canvas.paint(canvas.capsule(hip, knee, limb * 1.15), trousers)
        canvas.paint(canvas.capsule(knee, foot, limb), trousers)
        canvas.paint(canvas.disk(foot, limb * 1.25), shoes)
    torso = [joints["right_shoulder"], joints["left_shoulder"], joints["left_hip"]]
    torso = np.array([*torso, joints["right_hip"]])
    canvas.paint(canvas.polygon(torso + np.sign(torso - torso.mean(0)) * limb), shirt)
    canvas.paint(canvas.capsule(joints["neck"], joints["head"], limb * 0.8), skin)
    for side in ("left", "right"):
        shoulder, elbow, hand = (joints[f"{side}_{part}"] for part in ("shoulder", "elbow", "hand"))
        canvas.paint(canvas.capsule(shoulder, elbow, limb), shirt)
        canvas.paint(canvas.capsule(elbow, hand, limb * 0.85), sleeves)
        canvas.paint(canvas.disk(hand, limb * 1.05), skin)
    _paint_head(rng, canvas, joints["head"], 0.155 * rng.uniform(0.9, 1.15), skin)
    return np.array([joints[name] for name in FIGURE_KEYPOINTS])


def _paint_head(
    rng: np.random.Generator, canvas: Canvas, center: np.ndarray, radius: float, skin: np.ndarray
) -> None:
    hair = to_rgb(rng.uniform(0.02, 0.12), rng.uniform(0.1, 0.8), rng.uniform(0.05, 0.7))
    canvas.paint(canvas.disk(center - (0, radius * 0.12), radius * 1.05), hair)
    canvas.paint(canvas.disk(center + (0, radius * 0.15), radius * 0.85), skin)
    for side in (-1, 1):
        eye = center + (side * radius * 0.35, radius * 0.1)
        canvas.paint(canvas.disk(eye, radius * 0.16), np.full(3, 0.08, np.float32))


def _pose(rng: np.random.Generator, build: float) -> dict[str, np.ndarray]:
    """Joint name -> (2,) point in local units; x to the right, y down."""
    lean = rng.normal(0, 0.05)
    pelvis = np.array([0.0, 0.1])
    neck = pelvis + (lean, -0.52)
    joints = {"pelvis": pelvis, "neck": neck, "head": neck + (lean, -0.24)}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder = neck + (sign * 0.15 * build, 0.07)
        raised = rng.uniform(0.1, 2.7)  # radians away from hanging down
        bend = rng.uniform(-0.2, 1.5) if raised < 1.6 else rng.uniform(-0.4, 0.6)
        elbow = shoulder + 0.3 * np.array([sign * np.sin(raised), np.cos(raised)])
        bend += raised
        hip = pelvis + (sign * 0.09 * build, 0.02)
        spread = rng.uniform(0.0, 0.7)
        knee = hip + 0.4 * np.array([sign * np.sin(spread), np.cos(spread)])
        spread -= rng.uniform(0.0, 0.6)
        joints[f"{side}_shoulder"] = shoulder
        joints[f"{side}_elbow"] = elbow
        joints[f"{side}_hand"] = elbow + 0.29 * np.array([sign * np.sin(bend), np.cos(bend)])
        joints[f"{side}_hip"] = hip
        joints[f"{side}_knee"] = knee
        joints[f"{side}_foot"] = knee + 0.4 * np.array([sign * np.sin(spread), np.cos(spread)])
    return joints


def _fit(joints: dict[str, np.ndarray], margin: float) -> dict[str, np.ndarray]:
    """Moves and shrinks a pose into the canvas, leaving a margin for the width of the parts."""
    points = np.array(list(joints.values()))
    low, high = points.min(0), points.max(0)
    scale = min(1.0, 2 * (1 - margin) / (high - low).max())
    return {name: (point - (low + high) / 2) * scale for name, point in joints.items()}
