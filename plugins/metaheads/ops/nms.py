"""Non-maximum suppression. Letters: N boxes, C classes, D kept.

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
    if cross_class:
        best, labels = scores.max(1)
        table = best[None]  # (1, N)
    else:
        table = scores.T  # (C, N)
    candidates = min(num_candidates, len(boxes))
    if score_threshold is not None:
        counts = (table > score_threshold).sum(1)
        candidates = min(candidates, int(counts.max()))
    ranked, rows = table.topk(candidates, 1)  # (C, n)
    ious = box_iou(boxes[rows], boxes[rows]).triu_(diagonal=1)  # (C, n, n)
    keep = ious.amax(1) <= iou_threshold if candidates else ranked > 0
    if score_threshold is not None:
        keep &= ranked > score_threshold
    kept_class, place = keep.nonzero(as_tuple=True)
    kept_scores, order = ranked[kept_class, place].sort(descending=True, stable=True)
    kept_rows = rows[kept_class, place][order]
    return kept_rows, labels[kept_rows] if cross_class else kept_class[order], kept_scores


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
