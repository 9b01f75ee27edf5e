"""From UPSNet's scores, detections and mask logits to a panoptic segmentation. Letters as in
network.py and panoptic_head.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metaheads.architectures.upsnet.panoptic_head import (
    UNKNOWN,
    Decision,
    SemanticScores,
    decide,
    mask_on,
    prune,
)
from metaheads.architectures.upsnet.regions import clip, to_inclusive
from metaheads.structures import Detections, Geometry, PanopticSegmentation, Segment

if TYPE_CHECKING:
    from metaheads.architectures.upsnet.network import UPSNet

VOID = -1
STRIDE = 4


def select(core: UPSNet, boxes: Tensor, probabilities: Tensor, size: tuple[int, int]) -> Detections:
    """See `UPSNet.select`."""
    from torchvision.ops import nms

    rows, labels = (probabilities > core.score_threshold).nonzero(as_tuple=True)
    found = clip(boxes[rows, labels], size, inclusive=core.inclusive_boxes)
    scores = probabilities[rows, labels]
    kept = nms(found, scores, core.nms_threshold)[: core.max_detections]
    return Detections(found[kept], scores[kept], labels[kept])


@torch.no_grad()
def decode(
    core: UPSNet, semantic: Tensor, found: Detections, masks: Tensor, geometry: Geometry
) -> PanopticSegmentation:
    """Of one image; semantic (C, h, w)."""
    scores = SemanticScores(semantic, STRIDE)
    boxes = to_inclusive(found.boxes)
    if core.fusion == "heuristic":
        winners, calls = paste(scores, boxes, masks, core.num_stuff)
        labels, confidences = found.labels, found.scores
    else:
        kept = prune(boxes, found.labels, masks, scores.size, core.max_overlap)
        parts, confidences = (boxes[kept], found.labels[kept], masks[kept]), found.scores[kept]
        if not kept and core.dummy_instance:
            parts, confidences = dummy(boxes, masks), found.scores.new_ones(1)
        use_unknown = core.keep_fraction < 1
        winners, calls = decide(scores, *parts, core.num_stuff, use_unknown=use_unknown)
        labels = parts[1]
    decision = Decision(to_original(winners, geometry), to_original(calls, geometry))
    majority = core.stuff_majority if core.fusion == "panoptic" else 2.0
    cleaned = clean_up(core, decision, labels, majority)
    return to_segmentation(core, cleaned, decision.winners == UNKNOWN, labels, confidences)


def paste(scores: SemanticScores, boxes: Tensor, masks: Tensor, num_stuff: int) -> Decision:
    """Instances in the order of their scores over the stuff (Panoptic FPN, Sec. 3.2).

    An instance of which better ones cover half is left out; what the semantic scores call a thing
    and no instance covers is void.
    """
    best, winners = scores.best(0, num_stuff)
    thing, channel = scores.best(num_stuff, scores.count)
    calls = torch.where(thing > best, channel, winners)
    winners = winners.masked_fill(thing > best, UNKNOWN)
    free = torch.ones_like(winners, dtype=torch.bool)
    for number, (box, mask) in enumerate(zip(boxes.tolist(), masks, strict=True)):
        place, covered = mask_on(mask, box, scores.size)
        rest = covered & free[place]
        if int(rest.sum()) > 0.5 * int(covered.sum()):
            winners[place] = winners[place].masked_fill(rest, num_stuff + number)
            free[place] &= ~rest
    return Decision(winners, calls)


def dummy(boxes: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Box, label and mask logits of the authors' instance for images without any."""
    side = masks.shape[-1] if masks.ndim == 3 else 1
    return (
        boxes.new_zeros(1, 4),
        torch.tensor([-1], device=boxes.device),
        boxes.new_zeros(1, side, side),
    )


def to_original(maps: Tensor, geometry: Geometry) -> Tensor:
    """(H, W) of the padded network input -> of the original image, by the nearest pixel.

    Row i is read from floor(i / f), f being the factor from the input's size in single precision,
    as the authors' library rounds; where i / f is a whole number that may be one row less.
    """
    index = []
    for cells, pixels in zip(geometry.input_size, geometry.original_size, strict=True):
        factor = float(np.float32(pixels / cells))
        rows = np.minimum(np.floor(np.arange(pixels) / factor), cells - 1)
        index.append(torch.from_numpy(rows).long().to(maps.device))
    return maps[index[0]][:, index[1]]


class Cleaned(NamedTuple):
    """(H, W) int64 each: channels of the semantic scores or `VOID`; numbers of instances from 1, 0
    for stuff and void. present: which instance has each number."""

    channels: Tensor
    numbers: Tensor
    present: list[int]


def clean_up(core: UPSNet, decision: Decision, labels: Tensor, majority: float) -> Cleaned:
    """Instances that the semantic scores call stuff become stuff; small stuff becomes void.

    Args:
        decision: in the original size.
        labels: (N,) thing classes.
        majority: share of an instance's pixels from which on a stuff class takes it.
    """
    stuff, total = core.num_stuff, core.num_stuff + core.num_things
    winners, calls = decision
    is_instance = winners >= stuff
    index = winners[is_instance] - stuff
    counts = torch.bincount(index * total + calls[is_instance], minlength=len(labels) * total)
    counts = counts.view(-1, total)
    areas, most = counts.sum(1), counts.amax(1) if len(labels) else counts.sum(1)
    called = (counts == most[:, None]).int().argmax(1) if len(labels) else counts.sum(1)
    present = areas > 0
    becomes = present & (called < stuff) & (most >= majority * areas)
    channels = torch.where(winners == UNKNOWN, VOID, winners)
    channels[is_instance] = torch.where(becomes, called, stuff + labels)[index]
    numbers = torch.zeros_like(winners)
    numbers[is_instance] = torch.where(becomes, 0, present.cumsum(0))[index]
    is_stuff = (channels >= 0) & (channels < stuff)
    small = torch.bincount(channels[is_stuff], minlength=stuff) < core.stuff_area_limit
    lost = torch.zeros_like(is_stuff)
    lost[is_stuff] = small[channels[is_stuff]]
    return Cleaned(channels.masked_fill(lost, VOID), numbers, present.nonzero()[:, 0].tolist())


def to_segmentation(
    core: UPSNet, cleaned: Cleaned, is_unknown: Tensor, labels: Tensor, scores: Tensor
) -> PanopticSegmentation:
    """Ids: stuff 1..S, instances behind them.

    Args:
        is_unknown: (H, W) bool.
        labels, scores: (N,) of the instances.
    """
    channels, numbers, present = cleaned
    stuff = core.num_stuff
    ids = torch.where(channels >= stuff, stuff + numbers, channels + 1)
    segments = []
    for id_ in ids.unique().tolist():
        if 0 < id_ <= stuff:
            segments.append(Segment(id_, core.num_things + id_ - 1, False))
        elif id_:
            number = present[id_ - stuff - 1]
            segments.append(Segment(id_, int(labels[number]), True, float(scores[number])))
    return PanopticSegmentation(ids.int(), segments, is_unknown)
