"""From raw outputs of YOLACT to detections. Letters as in network.py; D detections or slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metaheads.architectures.yolact.losses import assemble_masks
from metaheads.architectures.yolact.targets import VARIANCES
from metaheads.boxes import decode_boxes
from metaheads.masks import crop_masks, crop_masks_
from metaheads.ops.nms import fast_nms, fast_nms_fixed, greedy_nms
from metaheads.structures import Detections, FixedDetections

if TYPE_CHECKING:
    from metaheads.architectures.yolact.network import Yolact, YolactOutputs


@torch.no_grad()
def decode(
    core: Yolact, outputs: YolactOutputs, image_sizes: list[tuple[int, int]]
) -> list[Detections]:
    """One `Detections` per image, best first, in pixels of the network input, boxes not clipped.

    Always in float32: in half precision the masks' edges would move.
    """
    with torch.autocast(outputs.box_deltas.device.type, enabled=False):
        return [_decode_image(core, outputs, n, size) for n, size in enumerate(image_sizes)]


def _decode_image(
    core: Yolact, outputs: YolactOutputs, index: int, image_size: tuple[int, int]
) -> Detections:
    scores = outputs.class_logits[index].float().softmax(1)[:, 1:]  # (P, C)
    kept = scores.amax(1) > core.score_threshold
    scores = scores[kept]
    boxes = decode_boxes(outputs.box_deltas[index, kept].float(), outputs.priors[kept], VARIANCES)
    prior, labels, scores = _suppress(core, boxes, scores)
    boxes, coefficients = boxes[prior], outputs.mask_coefficients[index, kept][prior].float()

    masks = assemble_masks(outputs.prototypes[index].float(), coefficients)  # (D, h, w)
    if core.crop_masks:
        crop_masks_(masks, boxes)
    mask_scores = None
    if core.mask_iou_net is not None:
        predicted_iou = masks.new_zeros(0)
        if len(masks):
            predicted_iou = core.mask_iou_net(masks).gather(1, labels[:, None])[:, 0]
        mask_scores = scores * predicted_iou
        scores = mask_scores if core.rescore_boxes else scores

    height, width = image_size
    size = boxes.new_tensor([width, height, width, height])
    frame = boxes.new_tensor([[0, 0, width, height]])
    detections = Detections(
        boxes=boxes * size,
        scores=scores,
        labels=labels,
        masks=masks,
        mask_frames=frame.expand(len(boxes), 4),
        mask_scores=mask_scores,
        integer_boxes=core.integer_boxes,
    )
    return detections[scores.argsort(descending=True)] if core.rescore_boxes else detections


def _suppress(core: Yolact, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, 4) boxes in [0, 1], (N, C) scores -> kept rows, labels, scores, each (D,), best first."""
    if core.nms == "traditional":
        # The authors' Cython NMS: in pixels, one pixel wider, every score above the threshold.
        pixels = boxes * core.max_size
        wider = torch.cat((pixels[:, :2], pixels[:, 2:] + 1), 1)
        kept = greedy_nms(wider, scores, core.nms_iou, score_threshold=core.score_threshold)
        return tuple(tensor[: core.max_detections] for tensor in kept)  # type: ignore[return-value]
    cross_class = core.nms == "fast_cross_class"
    kept = fast_nms(
        boxes,
        scores,
        core.nms_iou,
        core.nms_candidates,
        cross_class=cross_class,
        score_threshold=core.score_threshold if core.filter_class_scores else None,
    )
    limit = None if cross_class else core.max_detections
    return tuple(tensor[:limit] for tensor in kept)  # type: ignore[return-value]


def decode_fixed(
    core: Yolact, outputs: YolactOutputs, image_size: tuple[int, int]
) -> FixedDetections:
    """What `decode` finds, in tensors of fixed size."""
    if core.nms == "traditional":
        raise ValueError(
            'nms="traditional" keeps as many boxes as it likes and has no fixed size: export with '
            'nms="fast"'
        )
    scores = outputs.class_logits.softmax(2)[..., 1:]  # (B, P, C)
    threshold = core.score_threshold
    kept = scores if core.filter_class_scores else scores.amax(2, keepdim=True)
    scores = scores.where(kept > threshold, -1.0)
    boxes = decode_boxes(outputs.box_deltas, outputs.priors, VARIANCES)  # (B, P, 4)
    cross_class = core.nms == "fast_cross_class"
    num_slots = core.nms_candidates if cross_class else core.max_detections
    prior, labels, scores = fast_nms_fixed(
        boxes, scores, core.nms_iou, core.nms_candidates, num_slots, cross_class=cross_class
    )
    boxes, coefficients = (
        each.gather(1, prior[..., None].expand(-1, -1, each.shape[2]))
        for each in (boxes, outputs.mask_coefficients)
    )
    slots = prior.shape[1]
    masks = (coefficients @ outputs.prototypes.flatten(2)).sigmoid()  # (B, D, hw)
    masks = masks.unflatten(2, outputs.prototypes.shape[2:]).flatten(0, 1)  # (BD, h, w)
    if core.crop_masks:
        masks = crop_masks(masks, boxes.flatten(0, 1))
    mask_scores = None
    if core.mask_iou_net is not None:
        predicted_iou = core.mask_iou_net(masks).gather(1, labels.flatten()[:, None])
        mask_scores = scores * predicted_iou.unflatten(0, (-1, slots))[..., 0]
    height, width = image_size
    boxes = boxes * boxes.new_tensor([width, height, width, height])
    found = FixedDetections(boxes, scores, labels, masks.unflatten(0, (-1, slots)), mask_scores)
    return _rank_by_mask(found) if core.rescore_boxes and mask_scores is not None else found


def _rank_by_mask(found: FixedDetections) -> FixedDetections:
    assert found.mask_scores is not None
    scores = found.mask_scores.where(found.scores >= 0, -1.0)
    scores, order = scores.sort(1, descending=True)

    def ranked(each: Tensor) -> Tensor:
        index = order.view(*order.shape, *[1] * (each.dim() - 2))
        return each.gather(1, index.expand(-1, -1, *each.shape[2:]))

    assert found.masks is not None
    return FixedDetections(
        ranked(found.boxes), scores, ranked(found.labels), ranked(found.masks), scores
    )
