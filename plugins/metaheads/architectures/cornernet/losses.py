"""Losses of CornerNet. Letters as in network.py; N objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from metaheads.architectures.cornernet.targets import CornerTargets, make_targets
from metaheads.distributed import mean_count
from metaheads.heatmaps import at_cells, heatmap_loss
from metaheads.structures import Targets

if TYPE_CHECKING:
    from metaheads.architectures.cornernet.network import CornerNet, CornerOutputs

_EPS = 1e-4  # the authors', in every division by a count


def losses(
    core: CornerNet, outputs: list[CornerOutputs], targets: list[Targets]
) -> dict[str, Tensor]:
    """The weighted losses of a batch, in float32."""
    heatmap = outputs[0].tl_heatmap
    size = (int(heatmap.shape[-2]), int(heatmap.shape[-1]))
    with torch.autocast(heatmap.device.type, enabled=False):
        return corner_losses(core, outputs, make_targets(core, targets, size))


def corner_losses(
    core: CornerNet, outputs: list[CornerOutputs], targets: CornerTargets
) -> dict[str, Tensor]:
    """The weighted losses of a batch whose targets are made."""
    stacks = [_of_stack(core, each, targets) for each in outputs]
    return {name: torch.stack([each[name] for each in stacks]).mean() for name in stacks[0]}


def _of_stack(core: CornerNet, outputs: CornerOutputs, targets: CornerTargets) -> dict[str, Tensor]:
    heatmaps = [outputs.tl_heatmap, outputs.br_heatmap]
    offsets = [outputs.tl_offsets, outputs.br_offsets]
    if outputs.ct_heatmap is not None and outputs.ct_offsets is not None:
        heatmaps.append(outputs.ct_heatmap)
        offsets.append(outputs.ct_offsets)
    count = torch.tensor(len(targets.image), device=targets.image.device)
    if core.training:
        count = mean_count(count)
    heat = sum(
        heatmap_loss(maps.float(), wanted, in_training=core.training)
        for maps, wanted in zip(heatmaps, targets.heatmaps, strict=True)
    )
    offset = sum(
        F.smooth_l1_loss(at_cells(maps.float(), targets.image, cells), wanted, reduction="sum")
        for maps, cells, wanted in zip(offsets, targets.cells, targets.offsets, strict=True)
    )
    first, second = (
        at_cells(maps.float(), targets.image, cells)
        for maps, cells in zip((outputs.tl_tags, outputs.br_tags), targets.cells, strict=False)
    )
    pull, push = tag_losses(first, second, targets.image, len(outputs.tl_tags))
    return {
        "loss_heatmap": torch.as_tensor(heat),
        "loss_pull": core.pull_weight * pull,
        "loss_push": core.push_weight * push,
        "loss_offset": core.offset_weight * offset / (count + _EPS),
    }


def tag_losses(
    first: Tensor, second: Tensor, image: Tensor, num_images: int
) -> tuple[Tensor, Tensor]:
    """Pulls the two tags of an object together and the objects of an image apart (Eq. (4), (5)).

    Args:
        first, second: (N, T) tags at the two corners of each object.
        image: (N,) place of each object's image in the batch.
        num_images: images in the batch.

    Returns:
        Both losses, summed over the images.
    """
    counts = torch.bincount(image, minlength=num_images).to(first.dtype)[image]  # (N,)
    mean = (first + second) / 2
    pull = (((first - mean) ** 2 + (second - mean) ** 2).sum(1) / (counts + _EPS)).sum()
    distances = (mean[:, None] - mean[None]).abs().sum(2)
    # The authors' way of leaving out each object with itself, for which the margin is 1.
    margins = (1 - distances).relu() - 1 / (counts[:, None] + _EPS)
    together = image[:, None] == image[None]
    pairs = counts * (counts - 1) + _EPS
    push = (margins / pairs[:, None])[together].sum()
    return pull, push
