"""Losses: free functions that at least two architectures or both hosts use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from metaheads.structures import Targets

IGNORED = 255  # among semantic labels: nothing is known
MAX_BOXES_SHOWN = 20


def known_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels that are known; 0, with a gradient, if none is.

    Args:
        logits: (B, C, H, W).
        labels: (B, H, W) int64, 255 where nothing is known.
    """
    summed = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    return summed / (labels != IGNORED).sum().clamp(min=1)


def hard_examples(
    logits: Tensor, classes: Tensor, negatives_per_positive: int, *, min_positives: int = 1
) -> Tensor:
    """(B, P) bool: all positives, and per image the negatives that look least like background.

    Hardness is logsumexp(logits) - background (MultiBoxLoss of YOLACT and RetinaFace).

    Args:
        logits: (B, P, 1 + C).
        classes: (B, P): -1 neutral, 0 background, 1 + label.
        min_positives: an image with fewer counts as one with so many.
    """
    hardness = logits.logsumexp(2) - logits[..., 0]
    hardness = hardness.masked_fill(classes != 0, -1.0)  # hardness of a candidate is never negative
    wanted = (classes > 0).sum(1).clamp(min=min_positives) * negatives_per_positive
    order = hardness.argsort(1, descending=True)
    rank = torch.empty_like(order)
    rank.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    return (classes > 0) | ((classes == 0) & (rank < wanted[:, None]))


def check_finite(
    losses: Mapping[str, Tensor], images: Sequence[str], targets: Sequence[Targets]
) -> None:
    """Stops a training that has gone wrong while its last checkpoint is still a good one.

    Args:
        losses: the terms of a batch as the core gives them, before any gradient scaling.
        images: what names each image of the batch to its owner (file name or id).
        targets: their ground truth, pixels of the network input.

    Raises:
        FloatingPointError: a term is NaN or infinite; names the terms, the images and their boxes.
    """
    values = torch.stack([loss.detach().float() for loss in losses.values()])
    if values.isfinite().all():
        return
    terms = zip(losses, values.tolist(), values.isfinite().tolist(), strict=True)
    broken = ", ".join(f"{name} = {value}" for name, value, finite in terms if not finite)
    batch = "\n".join(
        f"  {image}: {_spell_boxes(target)}" for image, target in zip(images, targets, strict=True)
    )
    raise FloatingPointError(
        f"training stopped, because {broken}. The images of this batch, with their boxes "
        f"(x1, y1, x2, y2 in pixels of the network input):\n{batch}\nLook at these annotations; if "
        f"they are right, lower the learning rate or clip the gradients. The last checkpoint stays."
    )


def _spell_boxes(targets: Targets) -> str:
    if not len(targets):
        return "no objects"
    boxes = [[round(x, 2) for x in box] for box in targets.boxes[:MAX_BOXES_SHOWN].tolist()]
    more = len(targets) - len(boxes)
    return ", ".join(map(str, boxes)) + (f" and {more} more" if more else "")
