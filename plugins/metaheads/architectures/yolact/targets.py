"""Priors of YOLACT and their assignment to objects. Letters as in network.py."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from metaheads.boxes import box_iof, box_iou, encode_boxes, to_xyxy
from metaheads.structures import Targets

VARIANCES = (0.1, 0.2)
NEUTRAL, BACKGROUND = -1, 0


class Assignment(NamedTuple):
    """What the priors of one image learn.

    classes (P,): -1 neutral, 0 background, 1 + label; matched (P,) index of the object, meaningful
    where classes > 0; box_targets (P, 4) SSD code, likewise.
    """

    classes: Tensor
    matched: Tensor
    box_targets: Tensor


def make_priors(
    level_sizes: list[tuple[int, int]],
    scales: tuple[tuple[float, ...], ...],
    ratios: tuple[float, ...],
    max_size: int,
    *,
    use_square_anchors: bool,
) -> Tensor:
    """(P, 4) cxcywh in [0, 1]: by level, row, column, scale, ratio (authors:
    PredictionModule.make_priors).

    Args:
        level_sizes: (height, width) of every level in cells.
        scales: per level, in pixels of an input of max_size.
        ratios: width / height.
        max_size: divides both axes, whatever the input's shape.
        use_square_anchors: height = width.
    """
    priors = []
    for (height, width), level_scales in zip(level_sizes, scales, strict=True):
        widths = [scale * math.sqrt(ratio) for scale in level_scales for ratio in ratios]
        heights = [scale / math.sqrt(ratio) for scale in level_scales for ratio in ratios]
        sizes = list(zip(widths, widths if use_square_anchors else heights, strict=True))
        x = (torch.arange(width, dtype=torch.float64) + 0.5) / width
        y = (torch.arange(height, dtype=torch.float64) + 0.5) / height
        anchors = torch.tensor(sizes, dtype=torch.float64) / max_size  # (A, 2)
        grid = torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)), -1)  # (h, w, 2)
        grid = grid[:, :, None].expand(-1, -1, len(anchors), -1)
        priors.append(torch.cat((grid, anchors.expand_as(grid)), -1).reshape(-1, 4))
    return torch.cat(priors).float()


def usable(targets: Targets, min_box_size: float) -> Tensor:
    """(G,) bool: the objects that train: no crowds, nothing too small or outside of the image."""
    height, width = targets.image_size
    limit = targets.boxes.new_tensor([width, height, width, height])
    inside = targets.boxes.clamp(min=0).minimum(limit)
    size = (inside[:, 2:] - inside[:, :2]).amin(1)
    return ~targets.is_crowd & (size > 0) & (size >= min_box_size)


@torch.no_grad()
def assign_priors(
    priors: Tensor,
    boxes: Tensor,
    labels: Tensor,
    crowd_boxes: Tensor,
    *,
    positive_iou: float,
    negative_iou: float,
    crowd_iou: float,
) -> Assignment:
    """Matches priors and objects (authors: box_utils.match).

    Every object first gets a prior of its own, by greedy bipartite assignment on the IoU; then
    priors with IoU >= positive_iou are positive, below negative_iou background, neutral between.
    Priors that are not positive and lie in a crowd region by more than crowd_iou of their area are
    neutral.

    Args:
        priors: (P, 4) cxcywh in [0, 1].
        boxes: (G, 4) xyxy in [0, 1] of the network input.
        labels: (G,) 0-based.
        crowd_boxes: (R, 4) like boxes.
    """
    corners = to_xyxy(priors)
    if len(boxes):
        overlaps = box_iou(boxes, corners)  # (G, P)
        best, matched = overlaps.max(0)
        owner = _own_priors(overlaps)
        best[owner[owner >= 0]] = 2.0
        matched[owner[owner >= 0]] = (owner >= 0).nonzero()[:, 0]
        classes = labels[matched] + 1
        classes[best < positive_iou] = NEUTRAL
        classes[best < negative_iou] = BACKGROUND
        box_targets = encode_boxes(boxes[matched], priors, VARIANCES)
    else:
        classes = priors.new_full((len(priors),), BACKGROUND, dtype=torch.long)
        matched = torch.zeros_like(classes)
        box_targets = torch.zeros_like(priors)
    if len(crowd_boxes):
        in_crowd = box_iof(corners, crowd_boxes).amax(1) > crowd_iou
        classes[(classes <= 0) & in_crowd] = NEUTRAL
    return Assignment(classes, matched, box_targets)


def _own_priors(overlaps: Tensor) -> Tensor:
    """(G, P) IoU -> (G,) prior of every object: the pair of the largest IoU first, then the rest.

    Equal to taking the largest pair G times, but in rounds: a pair that is the largest of its row
    and of its column among what is left is taken at once. -1 when there are more objects than
    priors.
    """
    overlaps = overlaps.clone()
    owner = overlaps.new_full((len(overlaps),), -1, dtype=torch.long)
    rows = torch.arange(len(overlaps), device=overlaps.device)
    for _ in range(min(overlaps.shape)):
        best, prior = overlaps.max(1)  # (G,)
        taken = (overlaps[:, prior].argmax(0) == rows) & (best >= 0)
        if not taken.any():
            break
        owner[taken] = prior[taken]
        overlaps[taken] = -1
        overlaps[:, prior[taken]] = -1
    return owner
