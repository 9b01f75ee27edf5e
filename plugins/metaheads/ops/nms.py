"""Non-maximum suppression. Letters: B images, N boxes, C classes, n candidates, D kept.

All functions return (rows, labels, scores), each (D,): the kept box's index, its class, its score,
best score first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metaheads.boxes import box_iou

Kept = tuple[Tensor, Tensor, Tensor]


def fast_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    num_candidates: int,
    *,
    cross_class: bool = False,
    score_threshold: float | None = None,
) -> Kept:
    """Fast NMS (YOLACT, Sec. 4.2): a box goes if any better one overlaps it more, suppressed or
    not.

    Args:
        boxes: (N, 4) xyxy, any unit.
        scores: (N, C).
        iou_threshold: a box with exactly this overlap stays.
        num_candidates: best boxes of each class (of all classes with cross_class) that take part.
        cross_class: each box takes part with its best class only, and classes suppress each other.
        score_threshold: scores up to it do not take part.
    """
    if not len(boxes):
        empty = boxes.new_zeros(0, dtype=torch.long)
        return empty, empty, scores.new_zeros(0)
    table, labels = _table(scores, cross_class)
    candidates = min(num_candidates, len(boxes))
    if score_threshold is not None:
        counts = (table > score_threshold).sum(1)
        candidates = min(candidates, int(counts.max()))
    ranked, rows = table.topk(candidates, 1)  # (C, n)
    keep = _survive(boxes[rows], iou_threshold) if candidates else ranked > 0
    if score_threshold is not None:
        keep &= ranked > score_threshold
    kept_class, place = keep.nonzero(as_tuple=True)
    kept_scores, order = ranked[kept_class, place].sort(descending=True, stable=True)
    kept_rows = rows[kept_class, place][order]
    return kept_rows, kept_class[order] if labels is None else labels[kept_rows], kept_scores


def fast_nms_fixed(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    num_candidates: int,
    num_slots: int,
    *,
    cross_class: bool = False,
) -> Kept:
    """`fast_nms` of a batch with results of fixed size, which can be exported.

    Args:
        boxes: (B, N, 4) xyxy, any unit.
        scores: (B, N, C); negative ones do not take part.
        iou_threshold, num_candidates, cross_class: as for `fast_nms`.
        num_slots: at most so many of an image are kept.

    Returns:
        rows, labels, scores, each (B, D) with D <= num_slots; a score of -1 marks an empty slot.
    """
    table, best = _table(scores, cross_class)  # (B, C or 1, N)
    ranked, rows = table.topk(min(num_candidates, boxes.shape[1]), -1)  # (B, C, n)
    candidates = boxes.gather(1, rows.flatten(1)[..., None].expand(-1, -1, 4))
    candidates = candidates.unflatten(1, rows.shape[1:])  # (B, C, n, 4)
    ranked = ranked.where(_survive(candidates, iou_threshold), -1.0).clamp(min=-1).flatten(1)
    kept, place = ranked.topk(min(num_slots, ranked.shape[1]), 1)  # (B, D)
    kept_rows = rows.flatten(1).gather(1, place)
    labels = place // rows.shape[2] if best is None else best.gather(1, kept_rows)
    return kept_rows, labels, kept


def _table(scores: Tensor, cross_class: bool) -> tuple[Tensor, Tensor | None]:
    """(..., N, C) scores -> rows in which boxes compete, a row for each class, (..., C, N).

    With cross_class one row, in which a box takes part with its best class, which comes as well.
    """
    if not cross_class:
        return scores.transpose(-1, -2), None
    best, labels = scores.max(-1)
    return best.unsqueeze(-2), labels


def _survive(candidates: Tensor, iou_threshold: float) -> Tensor:
    """(..., n, 4) boxes, best first -> (..., n): no better one overlaps it more."""
    return box_iou(candidates, candidates).triu_(diagonal=1).amax(-2) <= iou_threshold


def greedy_nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, *, score_threshold: float
) -> Kept:
    """Per class the usual greedy NMS; a box with exactly the threshold's overlap goes.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N, C).
        iou_threshold: overlap from which on the lesser box goes.
        score_threshold: scores up to it do not take part.
    """
    from torchvision.ops import nms

    just_below = float(torch.tensor(iou_threshold).nextafter(torch.tensor(-1.0)))
    rows, labels = [], []
    for label in (scores > score_threshold).any(0).nonzero()[:, 0].tolist():
        candidates = (scores[:, label] > score_threshold).nonzero()[:, 0]
        kept = nms(boxes[candidates].float(), scores[candidates, label].float(), just_below)
        rows.append(candidates[kept])
        labels.append(torch.full_like(kept, label))
    if not rows:
        empty = boxes.new_zeros(0, dtype=torch.long)
        return empty, empty, scores.new_zeros(0)
    all_rows, all_labels = torch.cat(rows), torch.cat(labels)
    ranked, order = scores[all_rows, all_labels].sort(descending=True, stable=True)
    return all_rows[order], all_labels[order], ranked
