"""Faces brought upright by five points, as face recognition expects them. K points."""

from __future__ import annotations

import cv2
import numpy as np
from numpy import ndarray

# Where ArcFace (arXiv 1801.07698) has eyes, nose and corners of the mouth in 112 pixels,
# what is left in the picture first.
ARCFACE_POINTS = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)
ARCFACE_SIZE = 112


def estimate_similarity(source: ndarray, target: ndarray) -> ndarray:
    """The rotation, scaling and shift that brings points nearest to others (Umeyama, 1991).

    Args:
        source, target: (K, 2).

    Returns:
        (2, 3): target is about matrix[:, :2] @ source + matrix[:, 2]. It never mirrors.

    Raises:
        ValueError: all source points are one.
    """
    middle, wanted = source.mean(0), target.mean(0)
    source, target = source - middle, target - wanted
    spread = np.square(source).sum()
    if not spread > 0:
        raise ValueError(f"all of the {len(source)} points are the same: nothing to align")
    left, values, right = np.linalg.svd(target.T @ source)
    signs = np.array([1.0, np.sign(np.linalg.det(left @ right))])
    matrix = (left * signs) @ right * (values @ signs / spread)
    return np.concatenate((matrix, (wanted - matrix @ middle)[:, None]), 1)


def align_face(image: ndarray, points: ndarray) -> ndarray:
    """The face as (112, 112, 3), by ArcFace's five points.

    Args:
        image: (H, W, 3) uint8.
        points: (5, 2) in pixels of the image: eyes, nose, corners of the mouth.
    """
    matrix = estimate_similarity(np.asarray(points, np.float64), ARCFACE_POINTS)
    return cv2.warpAffine(image, matrix, (ARCFACE_SIZE, ARCFACE_SIZE))
