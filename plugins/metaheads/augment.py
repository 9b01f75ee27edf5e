"""Multi-scale testing: one image at several sizes, merged by soft-NMS; for any model of boxes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch

from metaheads.ops.soft_nms import soft_nms
from metaheads.structures import Detections


def check_flip(core: object) -> None:
    """Raises ValueError for an architecture that cannot merge an image and its mirror."""
    if not hasattr(core, "decode_flipped"):
        raise ValueError(f"{type(core).__name__} cannot merge an image and its mirror: no flip")


def predict_at_scales(
    predict: Callable[[np.ndarray], Detections],
    image: np.ndarray,
    scales: Sequence[float],
    max_detections: int = 100,
) -> Detections:
    """What is found in an image at several sizes (CenterNet, Sec. 5; CornerNet, Sec. 4.4).

    Each size is predicted by itself; soft-NMS lowers the scores of boxes that others of their class
    overlap. (The authors of CornerNet and of the triplets pool the pairs of all sizes before their
    one NMS.)

    Args:
        predict: (H, W, 3) uint8 RGB -> finished detections in pixels of that image.
        image: (H, W, 3) uint8 RGB.
        scales: of its sides; a model that stretches images to one size sees no difference.
        max_detections: the best so many are kept.

    Raises:
        ValueError: no scale, one that is not positive, or a model of masks.
    """
    if not scales or min(scales) <= 0:
        raise ValueError(f"scales must be positive numbers, got {list(scales)}")
    height, width = image.shape[:2]
    found = []
    for scale in scales:
        size = max(1, int(width * scale)), max(1, int(height * scale))
        each = predict(image if scale == 1 else cv2.resize(image, size))
        if each.masks is not None:
            raise ValueError("masks cannot be merged over scales: predict at one size")
        back = torch.tensor([width / size[0], height / size[1]])
        keypoints = each.keypoints
        if keypoints is not None:
            keypoints = keypoints * torch.cat((back, torch.ones(1)))
        boxes = each.boxes * back.repeat(2)
        found.append(dataclasses.replace(each, boxes=boxes, keypoints=keypoints))
    return merge_by_soft_nms(Detections.cat(found), max_detections)


def merge_by_soft_nms(
    found: Detections, max_detections: int, method: str = "gaussian"
) -> Detections:
    """Soft-NMS of each class; the best `max_detections` of all, best first."""
    parts = [found[:0]]
    for label in found.labels.unique().tolist():
        part = found[found.labels == label]
        kept = soft_nms(part.boxes, part.scores, method=method)
        parts.append(dataclasses.replace(part[kept.rows], scores=kept.scores))
    merged = Detections.cat(parts)
    order = merged.scores.sort(descending=True, stable=True).indices
    return merged[order[:max_detections]]
