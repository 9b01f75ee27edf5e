"""From raw outputs of CenterNet to detections. Letters as in network.py; K detections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metaheads.heatmaps import Peaks, find_peaks, gather_cells, keep_local_maxima
from metaheads.structures import Detections, FixedDetections

if TYPE_CHECKING:
    from metaheads.architectures.centernet_points.network import CenterNetPoints, PointOutputs


@torch.no_grad()
def decode(core: CenterNetPoints, outputs: list[PointOutputs]) -> list[Detections]:
    """One `Detections` per image, best first, in pixels of the network input."""
    with torch.autocast(outputs[-1].heatmap.device.type, enabled=False):
        fixed = decode_fixed(core, outputs)
    return [fixed.of_image(index) for index in range(len(fixed.scores))]


def decode_fixed(core: CenterNetPoints, outputs: list[PointOutputs]) -> FixedDetections:
    """The best detections of each image in tensors of fixed size."""
    maps = outputs[-1]
    width = maps.heatmap.shape[-1]
    peaks = find_peaks(maps.heatmap.float().sigmoid(), core.max_detections)
    cells = peaks.rows * width + peaks.columns  # (B, K)
    corner = torch.stack((peaks.columns, peaks.rows), -1).float()  # (B, K, 2)
    centres = corner + gather_cells(maps.offsets, cells)
    sizes = gather_cells(maps.sizes, cells).float()
    if core.class_specific_sizes:
        labels = peaks.channels[..., None, None].expand(-1, -1, 1, 2)
        sizes = sizes.unflatten(2, (-1, 2)).gather(2, labels)[:, :, 0]
    boxes = torch.cat((centres - sizes / 2, centres + sizes / 2), -1)
    keypoints = None
    if core.num_keypoints:
        keypoints = _joints(core, maps, peaks, cells, boxes)
        keypoints = torch.cat((keypoints[..., :2] * core.stride, keypoints[..., 2:]), -1)
    return FixedDetections(boxes * core.stride, peaks.scores, peaks.channels, keypoints=keypoints)


def merge_flipped(core: CenterNetPoints, outputs: list[PointOutputs]) -> list[PointOutputs]:
    """2B raw outputs, of images and then of the same ones mirrored -> B.

    Heatmaps, sizes and joints are averaged, offsets are those of the upright images (authors).
    """
    maps = outputs[-1]
    score, other_score = _halves(maps.heatmap.float().sigmoid())
    heatmap = ((score + other_score) / 2).logit()
    upright, mirrored = _halves(maps.sizes)
    merged = maps._replace(
        heatmap=heatmap, sizes=(upright + mirrored) / 2, offsets=_halves(maps.offsets)[0]
    )
    if maps.joints is None or maps.joint_heatmap is None or maps.joint_offsets is None:
        return [merged]
    swap = _swapped(core)
    joints, other = (each.unflatten(1, (-1, 2)) for each in _halves(maps.joints))
    other = other[:, swap] * other.new_tensor([-1.0, 1.0])[:, None, None]
    peaks, other_peaks = _halves(maps.joint_heatmap.float().sigmoid())
    return [
        merged._replace(
            joints=((joints + other) / 2).flatten(1, 2),
            joint_heatmap=((peaks + other_peaks[:, swap]) / 2).logit(),
            joint_offsets=_halves(maps.joint_offsets)[0],
        )
    ]


def _halves(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The maps of the upright images, and those of the mirrored ones turned back."""
    upright, mirrored = maps.chunk(2)
    return upright, mirrored.flip(3)


def _swapped(core: CenterNetPoints) -> list[int]:
    """Which joint of the mirrored image each joint is."""
    order = list(range(core.num_keypoints))
    for first, second in core.keypoint_pairs:
        order[first], order[second] = second, first
    return order


def _joints(
    core: CenterNetPoints, maps: PointOutputs, people: Peaks, cells: Tensor, boxes: Tensor
) -> Tensor:
    """(B, K, J, 3) x, y in cells, score: the regressed joints, each moved to the nearest peak of
    its heatmap if that lies in the box and is near.

    The score is the peak's, or without one the person's.
    """
    assert maps.joints is not None and maps.joint_heatmap is not None
    assert maps.joint_offsets is not None
    count = cells.shape[1]
    corner = torch.stack((people.columns, people.rows), -1).float()
    regressed = gather_cells(maps.joints, cells).float().unflatten(2, (-1, 2))  # (B, K, J, 2)
    regressed = (regressed + corner[:, :, None]).transpose(1, 2)  # (B, J, K, 2)

    maxima = keep_local_maxima(maps.joint_heatmap.float().sigmoid())
    width = maxima.shape[-1]
    scores, found = maxima.flatten(2).topk(min(count, maxima[0, 0].numel()), 2)  # (B, J, P)
    offsets = gather_cells(maps.joint_offsets, found.flatten(1)).float()
    peaks = torch.stack((found % width, found // width), -1)  # (B, J, P, 2)
    peaks = peaks + offsets.unflatten(1, found.shape[1:])

    is_peak = scores > core.joint_threshold
    distances = (regressed[:, :, :, None] - peaks[:, :, None]).square().sum(-1).sqrt()
    distances = distances.masked_fill(~is_peak[:, :, None], torch.inf)
    distance, nearest = distances.min(3)  # (B, J, K)
    score = scores.gather(2, nearest)
    place = peaks.gather(2, nearest[..., None].expand(-1, -1, -1, 2))
    low, high = boxes[:, None, :, :2], boxes[:, None, :, 2:]
    reach = 0.3 * (high - low).amax(-1)
    is_moved = ((place >= low) & (place <= high)).all(-1) & (distance <= reach)
    joints = torch.where(is_moved[..., None], place, regressed)
    score = torch.where(is_moved, score, people.scores[:, None])
    return torch.cat((joints, score[..., None]), -1).transpose(1, 2)
