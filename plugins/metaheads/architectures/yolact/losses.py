"""Losses of YOLACT and YOLACT++. Letters as in network.py; S positives of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from metaheads.architectures.yolact.targets import Assignment, assign_priors, usable
from metaheads.boxes import to_cxcywh
from metaheads.distributed import mean_count
from metaheads.losses import hard_examples
from metaheads.masks import crop_masks
from metaheads.structures import Targets

if TYPE_CHECKING:
    from metaheads.architectures.yolact.network import Yolact, YolactOutputs


def losses(core: Yolact, outputs: YolactOutputs, targets: list[Targets]) -> dict[str, Tensor]:
    """The weighted losses of a batch, in float32: binary cross entropy overflows in half."""
    with torch.autocast(outputs.box_deltas.device.type, enabled=False):
        outputs = type(outputs)(*(tensor.float() for tensor in outputs))
        return _Batch(core, outputs, targets).losses()


class _Batch:
    """One batch with its objects assigned to priors."""

    def __init__(self, core: Yolact, outputs: YolactOutputs, targets: list[Targets]) -> None:
        self.core, self.outputs = core, outputs
        self.objects = [_Objects(core, outputs, target) for target in targets]
        self.classes = torch.stack([each.assignment.classes for each in self.objects])  # (B, P)
        self.positive = self.classes > 0
        positives = self.positive.sum()
        # In all processes alike, so that their mean is the loss of the whole batch. (The authors
        # divide by each GPU's own number.)
        self.num_positive = mean_count(positives) if core.training else positives.clamp(min=1)

    def losses(self) -> dict[str, Tensor]:
        core, out = self.core, self.outputs
        box_targets = torch.stack([each.assignment.box_targets for each in self.objects])
        box = F.smooth_l1_loss(
            out.box_deltas[self.positive], box_targets[self.positive], reduction="sum"
        )
        mask, score = self._mask_losses()
        found = {
            "loss_box": core.box_weight * box / self.num_positive,
            "loss_class": core.class_weight * self._class_loss() / self.num_positive,
            "loss_mask": core.mask_weight * mask / self.num_positive,
            "loss_semantic": core.semantic_weight * self._semantic_loss() / len(self.objects),
        }
        if core.mask_iou_net is not None:
            found["loss_mask_score"] = core.mask_score_weight * score / self.num_positive
        return found

    def _class_loss(self) -> Tensor:
        logits = self.outputs.class_logits
        chosen = hard_examples(logits.detach(), self.classes, self.core.negatives_per_positive)
        return F.cross_entropy(logits[chosen], self.classes[chosen], reduction="sum")

    def _mask_losses(self) -> tuple[Tensor, Tensor]:
        """Sums over the batch of the mask and the mask-score loss."""
        # Zero with a graph: every parameter gets a gradient in a batch without positives. And NaN
        # where a coefficient or prototype is not finite.
        mask = 0 * (self.outputs.prototypes.sum() + self.outputs.mask_coefficients.sum())
        score = 0 * mask
        if self.core.mask_iou_net is not None:
            score = score + 0 * sum(p.sum() for p in self.core.mask_iou_net.parameters())
        for index, objects in enumerate(self.objects):
            chosen, rescale = self._draw(self.positive[index])
            if not len(chosen):
                continue
            matched = objects.assignment.matched[chosen]
            truth, boxes = objects.masks[matched], objects.boxes[matched]  # (S, h, w), (S, 4)
            coefficients = self.outputs.mask_coefficients[index, chosen]
            probabilities = assemble_masks(self.outputs.prototypes[index], coefficients)
            if self.core.crop_masks:
                probabilities = crop_masks(probabilities, boxes)
            mask = mask + rescale * mask_loss(probabilities, truth, boxes)
            if self.core.mask_iou_net is not None:
                score = score + self._score_loss(probabilities, truth, objects.labels[matched])
        return mask, score

    def _draw(self, positive: Tensor) -> tuple[Tensor, float]:
        """At most `max_mask_positives` of the positives, and what scales their loss back up."""
        chosen = positive.nonzero()[:, 0]
        limit = self.core.max_mask_positives
        if len(chosen) <= limit:
            return chosen, 1.0
        drawn = torch.randperm(len(chosen), device=chosen.device)[:limit]
        return chosen[drawn], len(chosen) / limit

    def _score_loss(self, probabilities: Tensor, truth: Tensor, labels: Tensor) -> Tensor:
        large = truth.sum((1, 2)) > self.core.min_scored_area
        if not large.any():
            return probabilities.sum() * 0
        probabilities, truth, labels = probabilities[large], truth[large], labels[large]
        assert self.core.mask_iou_net is not None
        predicted = self.core.mask_iou_net(probabilities)  # (S, C)
        predicted = predicted.gather(1, labels[:, None])[:, 0]
        return F.smooth_l1_loss(predicted, mask_iou(probabilities > 0.5, truth), reduction="sum")

    def _semantic_loss(self) -> Tensor:
        logits = self.outputs.semantic_logits
        height, width = logits.shape[-2:]
        truth = torch.zeros_like(logits)
        for index, objects in enumerate(self.objects):
            masks = resize_truth(objects.full_masks, (height, width))
            truth[index].index_add_(0, objects.labels, masks)
        truth.clamp_(max=1)  # objects of one class may overlap
        summed = F.binary_cross_entropy_with_logits(logits, truth, reduction="sum")
        return summed / (height * width)


class _Objects:
    """The objects of an image that train, their masks at the prototypes' size, and their priors."""

    def __init__(self, core: Yolact, outputs: YolactOutputs, targets: Targets) -> None:
        if targets.masks is None:
            raise ValueError(
                "Yolact trains on masks, but the targets carry none: load them in the data set"
            )
        height, width = targets.image_size
        relative = targets.boxes / targets.boxes.new_tensor([width, height, width, height])
        used = usable(targets, core.min_box_size)
        self.boxes, self.labels = relative[used], targets.labels[used]
        self.full_masks = targets.masks[used]
        self.masks = resize_truth(self.full_masks, outputs.prototypes.shape[-2:])
        self.assignment: Assignment = assign_priors(
            outputs.priors,
            self.boxes,
            self.labels,
            relative[targets.is_crowd],
            positive_iou=core.positive_iou,
            negative_iou=core.negative_iou,
            crowd_iou=core.crowd_iou,
        )


def assemble_masks(prototypes: Tensor, coefficients: Tensor) -> Tensor:
    """(K, h, w) prototypes and (S, K) coefficients -> (S, h, w) probabilities, Eq. (1)."""
    return (coefficients @ prototypes.flatten(1)).sigmoid_().unflatten(1, prototypes.shape[1:])


def resize_truth(masks: Tensor, size: Sequence[int]) -> Tensor:
    """(G, H, W) bool -> (G, h, w) float 0 or 1: bilinear, more than half."""
    if not len(masks):
        return masks.new_zeros((0, *size), dtype=torch.float32)
    # One channel each: six times faster on CPUs than one image of all channels, and equal.
    resized = F.interpolate(masks[:, None].float(), size=size, mode="bilinear")[:, 0]
    return resized.gt(0.5).float()


def mask_loss(probabilities: Tensor, truth: Tensor, boxes: Tensor) -> Tensor:
    """Sum over objects of the binary cross entropy, each divided by the area of its box in cells.

    A true cell outside of the cropped box costs 100, the bound of torch's log.

    Args:
        probabilities: (S, h, w), cropped.
        truth: (S, h, w) 0 or 1.
        boxes: (S, 4) of the objects in [0, 1].
    """
    height, width = truth.shape[-2:]
    # The entropy of NaN is an error, on a GPU a fatal one; _mask_losses hands the NaN on.
    probabilities = probabilities.clamp(0, 1).nan_to_num()
    summed = F.binary_cross_entropy(probabilities, truth, reduction="none").sum((1, 2))
    size = to_cxcywh(boxes)[:, 2:]
    return (summed / (size[:, 0] * width) / (size[:, 1] * height)).sum()


def mask_iou(masks: Tensor, truth: Tensor) -> Tensor:
    """(S, h, w) bool and (S, h, w) 0 or 1, not both empty -> (S,) IoU."""
    intersection = (masks * truth).sum((1, 2))
    return intersection / (masks.sum((1, 2)) + truth.sum((1, 2)) - intersection)
