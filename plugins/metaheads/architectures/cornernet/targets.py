"""What the heads of CornerNet learn. Letters as in network.py; N objects of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from metaheads.heatmaps import draw_gaussians, gaussian_radius, ignore_crowds
from metaheads.structures import Targets

if TYPE_CHECKING:
    from metaheads.architectures.cornernet.network import CornerNet

CENTRE_SIGMA_DIVISOR = 5.0


class CornerTargets(NamedTuple):
    """Targets of a batch; lengths in cells, one entry of each tuple per kind of keypoint (upper
    left, lower right and perhaps centres).

    heatmaps (B, C, h, w) each; `image` (N,) each object's place in the batch; cells (N,) each,
    flat; offsets (N, 2) each.
    """

    heatmaps: tuple[Tensor, ...]
    image: Tensor
    cells: tuple[Tensor, ...]
    offsets: tuple[Tensor, ...]


def make_targets(
    core: CornerNet, targets: list[Targets], map_size: tuple[int, int]
) -> CornerTargets:
    """Targets of a batch whose maps have this (height, width).

    Boxes are clipped to [0, W - 1] x [0, H - 1] pixels; objects without area then train nothing.
    """
    images = [_of_image(core, each, index, map_size) for index, each in enumerate(targets)]
    kinds = range(len(images[0].heatmaps))
    return CornerTargets(
        tuple(torch.stack([each.heatmaps[kind] for each in images]) for kind in kinds),
        torch.cat([each.image for each in images]),
        tuple(torch.cat([each.cells[kind] for each in images]) for kind in kinds),
        tuple(torch.cat([each.offsets[kind] for each in images]) for kind in kinds),
    )


def _of_image(
    core: CornerNet, targets: Targets, index: int, map_size: tuple[int, int]
) -> CornerTargets:
    height, width = map_size
    limits = targets.boxes.new_tensor([targets.image_size[1] - 1, targets.image_size[0] - 1] * 2)
    boxes = targets.boxes.clamp(min=0).minimum(limits)
    used = (boxes[:, 2:] > boxes[:, :2]).all(1) & ~targets.is_crowd
    boxes, labels = boxes[used].double(), targets.labels[used]
    # Not the stride: 511 pixels have 128 cells.
    ratio = boxes.new_tensor([width / targets.image_size[1], height / targets.image_size[0]])
    sizes = ((boxes[:, 2:] - boxes[:, :2]) * ratio).flip(1).ceil()
    radii = gaussian_radius(sizes, core.min_overlap, core.radius_formula).clamp(min=0).long()
    points = [boxes[:, :2] * ratio, boxes[:, 2:] * ratio]
    if core.has_centres:
        points.append((boxes[:, :2] + boxes[:, 2:]) / 2 * ratio)
    heatmaps = []
    for kind, each in enumerate(points):
        divisor = CENTRE_SIGMA_DIVISOR if kind == 2 else 6.0
        shape = (core.num_classes, height, width)
        heatmap = draw_gaussians(shape, each.long(), labels, radii, divisor)
        ignore_crowds(heatmap, targets, ratio)
        heatmaps.append(heatmap)
    return CornerTargets(
        tuple(heatmaps),
        torch.full_like(labels, index),
        tuple(each.long()[:, 1] * width + each.long()[:, 0] for each in points),
        tuple((each - each.long()).float() for each in points),
    )
