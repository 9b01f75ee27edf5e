"""Losses of UPSNet. Letters as in network.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from metaheads.architectures.upsnet.panoptic_head import panoptic_logits
from metaheads.architectures.upsnet.regions import to_inclusive
from metaheads.losses import IGNORED, known_cross_entropy
from metaheads.structures import Targets

if TYPE_CHECKING:
    from metaheads.architectures.upsnet.network import UPSNet, UPSNetOutputs

NOTHING = -100  # among panoptic channels, of which there may be more than 255
STRIDE = 4  # pixels per cell of the semantic scores


def losses(
    core: UPSNet, outputs: UPSNetOutputs, targets: list[Targets], masks: list[Tensor]
) -> dict[str, Tensor]:
    """See `UPSNet.losses`."""
    scores = outputs.semantic
    labels = [to_channels(core, target.semantic) for target in targets]
    found = {
        "loss_semantic": core.semantic_weight * semantic_loss(scores, torch.stack(labels)),
    }
    if core.semantic_roi_weight:
        found["loss_semantic_roi"] = core.semantic_roi_weight * semantic_roi_loss(
            core, outputs.semantic_features, targets, labels
        )
    if core.panoptic_weight:
        terms = [
            _panoptic_loss(core, scores[index], target, labels[index], masks[index])
            for index, target in enumerate(targets)
        ]
        found["loss_panoptic"] = core.panoptic_weight * torch.stack(terms).mean()
    return found


def to_channels(core: UPSNet, semantic: Tensor | None) -> Tensor:
    """(H, W) panoptic labels (things first) -> channels of the semantic scores (stuff first)."""
    if semantic is None:
        raise ValueError(
            "UPSNet needs semantic ground truth: the data of the config give none "
            "(metaheads.LoadPanoptic, DATASETS.REGISTER_PANOPTIC)"
        )
    things, total = core.num_things, core.num_things + core.num_stuff
    channels = torch.where(semantic < things, semantic + core.num_stuff, semantic - things)
    return channels.where(semantic < total, IGNORED)


def semantic_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels that are known; 0 if none is.

    Args:
        scores: (B, C, h, w) logits.
        labels: (B, 4h, 4w) channels, 255 ignored.
    """
    full = F.interpolate(scores, labels.shape[-2:], mode="bilinear", align_corners=False)
    return known_cross_entropy(full, labels)


def semantic_roi_loss(
    core: UPSNet, features: Tensor, targets: list[Targets], labels: list[Tensor]
) -> Tensor:
    """Cross-entropy within the boxes of all objects, over ALL their cells, ignored ones, too (as
    the authors divide)."""
    from torchvision.ops import roi_align

    boxes = [target.boxes[~target.is_crowd] for target in targets]
    size = core.semantic_roi_size
    pooled = [to_inclusive(each) for each in boxes] if core.inclusive_boxes else boxes
    rois = roi_align(features, pooled, size, 1 / STRIDE, sampling_ratio=2, aligned=False)
    scores = core.semantic_head.score(rois)
    wanted = [
        crop_labels(label, box, size)
        for label, of_image in zip(labels, boxes, strict=True)
        for box in of_image.tolist()
    ]
    if not wanted:
        return scores.sum() + 0 * sum(each.sum() for each in core.semantic_head.parameters())
    channels = torch.stack(wanted)
    return region_cross_entropy(scores, channels.masked_fill(channels == IGNORED, NOTHING))


def region_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Summed cross-entropy divided by ALL cells. scores (N, C, h, w), labels (N, h, w), of which
    `NOTHING` is ignored."""
    summed = F.cross_entropy(scores, labels, ignore_index=NOTHING, reduction="sum")
    return summed / labels.numel()


def crop_labels(labels: Tensor, box: list[float], size: int) -> Tensor:
    """(H, W) channels within a rounded box, (size, size), by the nearest pixel."""
    x1, y1, x2, y2 = (int(round(edge)) for edge in box)
    x1, y1 = (
        min(max(edge, 0), side - 1) for edge, side in zip((x1, y1), labels.shape[::-1], strict=True)
    )
    part = labels[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
    steps = torch.arange(size, device=labels.device)
    return part[(steps * part.shape[0]) // size][:, (steps * part.shape[1]) // size]


def keep_some(count: int, fraction: float) -> Tensor:
    """Which objects stay instances, in random order; the others are to become unknown."""
    return torch.randperm(count)[: max(int(fraction * count), 1) if fraction < 1 else count]


def _panoptic_loss(
    core: UPSNet, scores: Tensor, target: Targets, labels: Tensor, masks: Tensor
) -> Tensor:
    assert target.masks is not None, "UPSNet's targets have masks"
    is_object = ~target.is_crowd
    kept = keep_some(int(is_object.sum()), core.keep_fraction).to(scores.device)
    use_unknown = core.keep_fraction < 1
    rows = is_object.nonzero()[:, 0][kept]
    boxes = to_inclusive(target.boxes[rows]) / STRIDE
    logits = panoptic_logits(
        scores,
        boxes,
        target.labels[rows],
        masks[kept],
        core.num_stuff,
        use_unknown=use_unknown,
    )
    wanted = panoptic_target(
        labels[::STRIDE, ::STRIDE],
        target.masks[rows][:, ::STRIDE, ::STRIDE],
        core.num_stuff,
        use_unknown=use_unknown,
    )
    return region_cross_entropy(logits[None], wanted[None])


def panoptic_target(labels: Tensor, masks: Tensor, num_stuff: int, *, use_unknown: bool) -> Tensor:
    """(h, w) channels of the panoptic logits, `NOTHING` where ignored: later objects lie over
    earlier ones; things that are no object here are unknown, or ignored without such a channel.

    Args:
        labels: (h, w) channels of the semantic scores, 255 ignored.
        masks: (N, h, w) bool, of the objects that stay.
    """
    others = num_stuff + len(masks) if use_unknown else NOTHING
    is_thing = (labels >= num_stuff) & (labels != IGNORED)
    wanted = labels.masked_fill(labels == IGNORED, NOTHING).masked_fill(is_thing, others)
    for number, mask in enumerate(masks):
        wanted = wanted.masked_fill(mask, num_stuff + number)
    return wanted
