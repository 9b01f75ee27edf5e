"""Priors of RetinaFace, their code and their assignment. Letters as in network.py; G objects.

All of it works in any unit, the same for all arguments, but `make_priors`, which gives pixels.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from metaheads.boxes import box_iof, box_iou, to_xyxy
from metaheads.structures import Targets

NEUTRAL, BACKGROUND = -1, 0
MAX_PAIRS = 4_000_000  # of objects and priors that are compared at once
KEPT_SIZES = 4  # whose priors are kept: 14 MB each in the paper's layout at 1600 x 2150


class Assignment(NamedTuple):
    """What the priors of one image learn.

    classes (P,): -1 neutral, 0 background, 1 + label; matched (P,): the object, where classes > 0.
    """

    classes: Tensor
    matched: Tensor


@functools.lru_cache(maxsize=KEPT_SIZES)
def make_priors(
    image_size: tuple[int, int],
    strides: tuple[int, ...],
    anchor_sizes: tuple[tuple[float, ...], ...],
    device: torch.device | str = "cpu",
) -> Tensor:
    """(P, 4) cxcywh in pixels of an image of this (height, width); kept, so not to be changed.

    A level has ceil(size / stride) cells; centres may lie beyond the image (authors: PriorBox).
    """
    levels = []
    with torch.inference_mode(False):  # what is kept serves trainings, too
        for stride, sizes in zip(strides, anchor_sizes, strict=True):
            height, width = (-(-side // stride) for side in image_size)
            y, x = ((torch.arange(n, device=device) + 0.5) * stride for n in (height, width))
            sides = torch.tensor(sizes, dtype=torch.float32, device=device)
            shape = height, width, len(sizes)
            parts = x[:, None], y[:, None, None], sides, sides
            levels.append(torch.stack([part.expand(shape) for part in parts], -1).view(-1, 4))
        return torch.cat(levels)


def usable(targets: Targets) -> Tensor:
    """(G,) bool: the objects that train: no crowds, and nothing without area."""
    sizes = targets.boxes[:, 2:] - targets.boxes[:, :2]
    return ~targets.is_crowd & (sizes > 0).all(1)


@torch.no_grad()
def assign_priors(
    priors: Tensor,
    boxes: Tensor,
    labels: Tensor,
    crowd_boxes: Tensor,
    *,
    positive_iou: float,
    negative_iou: float,
    best_prior_iou: float,
    crowd_iof: float,
    is_compatible: bool = False,
) -> Assignment:
    """Matches priors and objects (authors: box_utils.match).

    A prior belongs to the object that it overlaps most; but the best prior of an object that
    overlaps it by `best_prior_iou` is the object's, of several that of the last.

    Args:
        priors: (P, 4) cxcywh.
        boxes: (G, 4) xyxy, with areas.
        labels: (G,) 0-based.
        crowd_boxes: (R, 4) xyxy; priors that lie in one by more than `crowd_iof` of their area, and
            are not positive, are neutral.
        is_compatible: also an object whose best prior overlaps it less takes this prior away from
            others.
    """
    corners = to_xyxy(priors)
    classes = torch.full_like(priors[:, 0], BACKGROUND, dtype=torch.long)
    matched = torch.zeros_like(classes)
    if len(boxes):
        best, matched, own_iou, own = _best_overlaps(boxes, corners)
        is_forced = own_iou >= best_prior_iou
        best[own[is_forced]] = 2.0
        takers = torch.arange(len(boxes), device=boxes.device)
        if not is_compatible:
            own, takers = own[is_forced], takers[is_forced]
        taken_by = torch.full_like(matched, -1).scatter_reduce(0, own, takers, "amax")
        matched = taken_by.where(taken_by >= 0, matched)
        classes = labels[matched] + 1
        classes[best < positive_iou] = NEUTRAL
        classes[best < negative_iou] = BACKGROUND
    step = _rows_at_once(corners)
    for start in range(0, len(crowd_boxes), step):
        in_crowd = box_iof(corners, crowd_boxes[start : start + step]).amax(1) > crowd_iof
        classes[(classes == BACKGROUND) & in_crowd] = NEUTRAL
    return Assignment(classes, matched)


def _best_overlaps(boxes: Tensor, corners: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Largest IoU and object of every prior, each (P,), largest IoU and prior of every object (G,).

    Some objects at a time: a picture may have a thousand faces, and a hundred thousand priors.
    """
    best = torch.full_like(corners[:, 0], -1)
    matched = torch.zeros_like(best, dtype=torch.long)
    own = []
    step = _rows_at_once(corners)
    for start in range(0, len(boxes), step):
        overlaps = box_iou(boxes[start : start + step], corners)  # (g, P)
        overlap, row = overlaps.max(0)
        is_better = overlap > best
        best, matched = overlap.where(is_better, best), (start + row).where(is_better, matched)
        own.append(overlaps.max(1))
    return best, matched, torch.cat([o.values for o in own]), torch.cat([o.indices for o in own])


def _rows_at_once(corners: Tensor) -> int:
    """How many objects are compared with these priors at once."""
    return max(1, MAX_PAIRS // len(corners))


def encode_points(points: Tensor, priors: Tensor, variance: float) -> Tensor:
    """(n, K, 2 or 3) points against (n, 4) cxcywh priors -> (n, K, 2 or 3) code.

    x and y from the prior's centre in parts of its sides, z in parts of their geometric mean, all
    over the variance.
    """
    origins, units = _frames(priors, points.shape[-1])
    return (points - origins) / (variance * units)


def decode_points(deltas: Tensor, priors: Tensor, variance: float) -> Tensor:
    """The inverse of `encode_points`."""
    origins, units = _frames(priors, deltas.shape[-1])
    return origins + deltas * variance * units


def _frames(priors: Tensor, dimensions: int) -> tuple[Tensor, Tensor]:
    """Origins and units (n, 1, dimensions)."""
    origins, units = priors[:, None, :2], priors[:, None, 2:]
    if dimensions == 3:
        depth = units.prod(-1, keepdim=True).sqrt()
        origins, units = torch.cat((origins, 0 * depth), -1), torch.cat((units, depth), -1)
    return origins, units
