"""Boxes: forms, overlaps and the code that regression heads predict.

N, M boxes; xyxy = two corners, cxcywh = centre and size; any unit, the same for all arguments.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) cxcywh -> xyxy."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centre - half, centre + half), -1)


def to_cxcywh(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy -> cxcywh."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((low + high) / 2, high - low), -1)


def intersection_area(boxes: Tensor, others: Tensor) -> Tensor:
    """(..., N, 4) and (..., M, 4) xyxy -> (..., N, M) areas."""
    low = torch.maximum(boxes[..., :, None, :2], others[..., None, :, :2])
    high = torch.minimum(boxes[..., :, None, 2:], others[..., None, :, 2:])
    return (high - low).clamp_(min=0).prod(-1)


def box_area(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy -> (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """(..., N, 4) and (..., M, 4) xyxy -> (..., N, M); 0 where both boxes are empty."""
    intersection = intersection_area(boxes, others)
    union = box_area(boxes)[..., :, None] + box_area(others)[..., None, :] - intersection
    return intersection / union.clamp_(min=torch.finfo(boxes.dtype).tiny)


def box_iof(boxes: Tensor, others: Tensor) -> Tensor:
    """(N, 4) and (M, 4) xyxy -> (N, M): intersection over the area of the first box."""
    area = box_area(boxes).clamp(min=torch.finfo(boxes.dtype).tiny)
    return intersection_area(boxes, others) / area[..., :, None]


def encode_boxes(boxes: Tensor, priors: Tensor, variances: tuple[float, float]) -> Tensor:
    """(N, 4) xyxy boxes against (N, 4) cxcywh priors -> (N, 4) SSD deltas (dx, dy, dw, dh)."""
    boxes = to_cxcywh(boxes)
    offsets = (boxes[:, :2] - priors[:, :2]) / (variances[0] * priors[:, 2:])
    sizes = (boxes[:, 2:] / priors[:, 2:]).log() / variances[1]
    return torch.cat((offsets, sizes), 1)


def decode_boxes(deltas: Tensor, priors: Tensor, variances: tuple[float, float]) -> Tensor:
    """(..., 4) SSD deltas against (..., 4) cxcywh priors -> (..., 4) xyxy boxes, not clipped."""
    centre = priors[..., :2] + deltas[..., :2] * variances[0] * priors[..., 2:]
    size = priors[..., 2:] * (deltas[..., 2:] * variances[1]).exp()
    return to_xyxy(torch.cat((centre, size), -1))
