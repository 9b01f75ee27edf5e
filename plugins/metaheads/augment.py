"""Test-time augmentation: an image and its mirror, at one size or several, merged.

Architectures that can merge views have, besides `decode`:

- `candidates(outputs, image_sizes, is_flipped=False)`: of each image what is to be merged, in
  pixels of the network input, with a method `finish(geometry)` that carries it to the original
  image; with `is_flipped` the outputs are those of images, and then of the same ones mirrored;
- `merge_views(views)`: the finished candidates of all views of one image -> its `Detections`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from metaheads.ops.soft_nms import soft_nms
from metaheads.structures import Detections, Geometry


def check_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """The scales in the order in which views are merged, that of the image's own size first.

    Raises:
        ValueError: no scale, or one that is not positive and finite.
    """
    if not scales or not all(0 < scale < math.inf for scale in scales):
        raise ValueError(f"scales must be positive numbers, got {list(scales)}")
    return tuple(sorted(scales, key=lambda scale: abs(scale - 1)))


def check_views(core: object, *, flip: bool, scales: Sequence[float]) -> tuple[float, ...]:
    """As `check_scales`.

    Raises:
        ValueError: also where an architecture cannot merge several views of an image.
    """
    ordered = check_scales(scales)
    if (flip or len(scales) > 1) and not hasattr(core, "merge_views"):
        asked = "an image and its mirror: no flip" if flip else "sizes of an image: no scales"
        raise ValueError(f"{type(core).__name__} cannot merge {asked}")
    return ordered


def predict_views(
    module: Any, views: Iterable[tuple[Tensor, list[Geometry]]], *, flip: bool = False
) -> list[Detections]:
    """Finished detections of a batch of images.

    Args:
        module: with `raw_outputs` and `core`.
        views: of each scale the normalised images (B, 3, H, W), and how each lies in its original;
            the first is that of the images' own size.
        flip: look at the mirrors, too.
    """
    core, found = module.core, []
    can_merge = hasattr(core, "merge_views")
    for images, geometries in views:
        sizes = [tuple(images.shape[-2:])] * len(images)
        outputs = module.raw_outputs(torch.cat((images, images.flip(3))) if flip else images)
        if can_merge:
            each = core.candidates(outputs, sizes, is_flipped=flip)
        else:
            each = core.decode(outputs, sizes)
        found.append([one.finish(place) for one, place in zip(each, geometries, strict=True)])
    if not can_merge:
        (finished,) = found
        return finished
    return [core.merge_views(list(of_image)) for of_image in zip(*found, strict=True)]


def predict_at_scales(
    predict: Callable[[np.ndarray], Detections],
    image: np.ndarray,
    scales: Sequence[float],
    max_detections: int = 100,
) -> Detections:
    """What any model of boxes, such as a host's own, finds in an image at several sizes.

    Each size is predicted by itself; soft-NMS lowers the scores of boxes that others of their class
    overlap.

    Args:
        predict: (H, W, 3) uint8 RGB -> finished detections in pixels of that image.
        image: (H, W, 3) uint8 RGB.
        scales: of its sides; a model that stretches images to one size sees no difference.
        max_detections: the best so many are kept.

    Raises:
        ValueError: a model of masks.
    """
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
    found: Detections,
    max_detections: int,
    method: str = "gaussian",
    votes: Tensor | None = None,
) -> Detections:
    """Soft-NMS of each class; the best `max_detections` of all, best first.

    Args:
        votes: (N, 2), see `soft_nms`.
    """
    parts = [found[:0]]
    for label in found.labels.unique().tolist():
        rows = found.labels == label
        part = found[rows]
        kept = soft_nms(
            part.boxes, part.scores, method=method, votes=None if votes is None else votes[rows]
        )
        part = part[kept.rows]
        parts.append(dataclasses.replace(part, boxes=kept.boxes, scores=kept.scores))
    merged = Detections.cat(parts)
    order = merged.scores.sort(descending=True, stable=True).indices
    return merged[order[:max_detections]]
