"""What the heads of CenterNet learn. Letters as in network.py; N objects of a batch, P joints."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from metaheads.heatmaps import draw_gaussians, gaussian_radius, ignore_crowds
from metaheads.structures import Targets

if TYPE_CHECKING:
    from metaheads.architectures.centernet_points.network import CenterNetPoints


class PointTargets(NamedTuple):
    """Targets of a batch; lengths in cells.

    heatmap (B, C, h, w); of each object its place in the batch `image` (N,) and its centre's cell
    `cell` (N,), flat, `labels` (N,), `sizes` (N, 2) width and height, `offsets` (N, 2) of the
    centre in its cell, `has_box` (N,) whether size and offset train. With joints: `joints`
    (N, J, 2) from the centre's cell, `has_joint` (N, J); joint_heatmap (B, J, h, w); of each joint
    `joint_image` (P,), `joint_cell` (P,) and `joint_offsets` (P, 2).
    """

    heatmap: Tensor
    image: Tensor
    cell: Tensor
    labels: Tensor
    sizes: Tensor
    offsets: Tensor
    has_box: Tensor
    joints: Tensor | None = None
    has_joint: Tensor | None = None
    joint_heatmap: Tensor | None = None
    joint_image: Tensor | None = None
    joint_cell: Tensor | None = None
    joint_offsets: Tensor | None = None


def make_targets(
    core: CenterNetPoints, targets: list[Targets], map_size: tuple[int, int]
) -> PointTargets:
    """Targets of a batch whose maps have this (height, width).

    Boxes are clipped to [0, w - 1] x [0, h - 1] cells, as the authors do; objects without area then
    train nothing.
    """
    images = [_of_image(core, each, index, map_size) for index, each in enumerate(targets)]
    merged: dict[str, Tensor | None] = {}
    for name in PointTargets._fields:
        parts = [getattr(each, name) for each in images]
        if parts[0] is None:
            merged[name] = None
        else:
            merged[name] = torch.stack(parts) if "heatmap" in name else torch.cat(parts)
    return PointTargets(**merged)  # type: ignore[arg-type]


def _of_image(
    core: CenterNetPoints, targets: Targets, index: int, map_size: tuple[int, int]
) -> PointTargets:
    height, width = map_size
    limits = targets.boxes.new_tensor([width - 1, height - 1] * 2)
    boxes = (targets.boxes / core.stride).clamp(min=0).minimum(limits)
    sizes = boxes[:, 2:] - boxes[:, :2]
    used = (sizes > 0).all(1) & ~targets.is_crowd
    boxes, sizes, labels = boxes[used], sizes[used], targets.labels[used]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    cells = centres.long()  # (N, 2) x, y
    radii = gaussian_radius(sizes.flip(1).ceil(), core.min_overlap, core.radius_formula).long()
    heatmap = draw_gaussians((core.num_classes, height, width), cells, labels, radii)
    ignore_crowds(heatmap, targets, targets.boxes.new_tensor([1 / core.stride] * 2))
    found = PointTargets(
        heatmap,
        torch.full_like(labels, index),
        cells[:, 1] * width + cells[:, 0],
        labels,
        sizes,
        centres - cells,
        torch.ones_like(labels, dtype=torch.bool),
    )
    if not core.num_keypoints:
        return found
    if targets.keypoints is None:
        raise ValueError(
            f"num_keypoints is {core.num_keypoints}, but the targets carry no keypoints: load "
            "them in the data set"
        )
    return _with_joints(found, targets.keypoints[used], cells, radii, core, map_size)


def _with_joints(
    found: PointTargets,
    keypoints: Tensor,
    cells: Tensor,
    radii: Tensor,
    core: CenterNetPoints,
    map_size: tuple[int, int],
) -> PointTargets:
    """Joints outside of the map do not count; a person without any trains no size (as theirs)."""
    height, width = map_size
    points = keypoints[..., :2] / core.stride  # (N, J, 2)
    is_labelled = keypoints[..., 2] > 0
    inside = (points >= 0).all(-1) & (points < points.new_tensor([width, height])).all(-1)
    has_joint = is_labelled & inside
    person, joint = has_joint.nonzero(as_tuple=True)
    peaks = points[person, joint]  # (P, 2)
    peak_cells = peaks.long()
    return found._replace(
        has_box=is_labelled.any(1),
        joints=points - cells[:, None],
        has_joint=has_joint,
        joint_heatmap=draw_gaussians(
            (core.num_keypoints, height, width), peak_cells, joint, radii[person]
        ),
        joint_image=found.image[person],
        joint_cell=peak_cells[:, 1] * width + peak_cells[:, 0],
        joint_offsets=peaks - peak_cells,
    )
