"""Losses of CenterNet. Letters as in network.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metaheads.architectures.centernet_points.targets import PointTargets, make_targets
from metaheads.distributed import mean_count
from metaheads.heatmaps import at_cells, heatmap_loss
from metaheads.structures import Targets

if TYPE_CHECKING:
    from metaheads.architectures.centernet_points.network import CenterNetPoints, PointOutputs


def losses(
    core: CenterNetPoints, outputs: list[PointOutputs], targets: list[Targets]
) -> dict[str, Tensor]:
    """The weighted losses of a batch, in float32."""
    heatmap = outputs[0].heatmap
    size = (int(heatmap.shape[-2]), int(heatmap.shape[-1]))
    with torch.autocast(heatmap.device.type, enabled=False):
        return point_losses(core, outputs, make_targets(core, targets, size))


def point_losses(
    core: CenterNetPoints, outputs: list[PointOutputs], targets: PointTargets
) -> dict[str, Tensor]:
    """The weighted losses of a batch whose targets are made."""
    stacks = [_of_stack(core, _as_floats(each), targets) for each in outputs]
    return {name: torch.stack([each[name] for each in stacks]).mean() for name in stacks[0]}


def _as_floats(outputs: PointOutputs) -> PointOutputs:
    floats = (None if tensor is None else tensor.float() for tensor in outputs)
    return type(outputs)(*floats)  # type: ignore[arg-type]


def _of_stack(
    core: CenterNetPoints, outputs: PointOutputs, targets: PointTargets
) -> dict[str, Tensor]:
    boxes = targets.has_box
    image, cell = targets.image[boxes], targets.cell[boxes]
    sizes = at_cells(outputs.sizes, image, cell)  # (N, 2) or (N, 2C)
    if core.class_specific_sizes:
        labels = targets.labels[boxes][:, None, None].expand(-1, 1, 2)
        sizes = sizes.unflatten(1, (-1, 2)).gather(1, labels)[:, 0]
    offsets = at_cells(outputs.offsets, image, cell)
    found = {
        "loss_heatmap": heatmap_loss(outputs.heatmap, targets.heatmap, in_training=core.training),
        "loss_size": core.size_weight * _l1(core, sizes, targets.sizes[boxes]),
        "loss_offset": core.offset_weight * _l1(core, offsets, targets.offsets[boxes]),
    }
    if not core.num_keypoints:
        return found
    assert outputs.joints is not None and outputs.joint_heatmap is not None
    assert outputs.joint_offsets is not None and targets.joint_heatmap is not None
    assert targets.joint_image is not None and targets.joint_cell is not None
    assert targets.joints is not None and targets.joint_offsets is not None
    joints = at_cells(outputs.joints, targets.image, targets.cell).unflatten(
        1, (-1, 2)
    )  # (N, J, 2)
    peaks = at_cells(outputs.joint_offsets, targets.joint_image, targets.joint_cell)
    joint = _l1(core, joints[targets.has_joint], targets.joints[targets.has_joint])
    heatmap = heatmap_loss(outputs.joint_heatmap, targets.joint_heatmap, in_training=core.training)
    found["loss_joint"] = core.joint_weight * joint
    found["loss_joint_heatmap"] = core.joint_heatmap_weight * heatmap
    found["loss_joint_offset"] = core.offset_weight * _l1(core, peaks, targets.joint_offsets)
    return found


def _l1(core: CenterNetPoints, found: Tensor, wanted: Tensor) -> Tensor:
    """The mean over all coordinates; zero, with a gradient, where there are none."""
    count = torch.tensor(wanted.numel(), device=found.device)
    if core.training:
        count = mean_count(count)
    return (found - wanted).abs().sum() / (count + 1e-4)  # their 1e-4, which also guards from 0
