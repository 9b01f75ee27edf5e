"""Heatmaps of keypoints: drawing gaussians, their focal loss, finding peaks.

Letters: B images, C classes or joints, N points, K peaks, h, w cells. Points are (x, y) in cells:
cell (0, 0) covers [0, 1) x [0, 1).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metaheads.distributed import mean_count
from metaheads.structures import Targets

RADIUS_FORMULAS = ("original", "corrected")
IGNORED = 0.9999  # so high that a negative there costs next to nothing, and no positive
_CHUNK = 64  # gaussians that are spread over a whole map at once


def gaussian_radius(sizes: Tensor, min_overlap: float, formula: str = "original") -> Tensor:
    """How far a corner may move so that the box still overlaps the true one by `min_overlap`.

    Args:
        sizes: (N, 2) height and width of boxes, in cells.
        min_overlap: IoU.
        formula: "corrected" solves the three quadratic equations of CornerNet (Sec. 3.2);
            "original" takes (b + sqrt(b^2 - 4ac)) / 2 for their root, which is a slip that the
            published weights of both CenterNets were trained with.

    Returns:
        (N,) float64, not rounded.
    """
    height, width = sizes.double().unbind(1)
    both, area = height + width, height * width
    # a r^2 - b r + c = 0: both corners move in opposite directions, inwards, outwards.
    equations = (
        (1.0, both, area * (1 - min_overlap) / (1 + min_overlap)),
        (4.0, 2 * both, (1 - min_overlap) * area),
        (4 * min_overlap, -2 * min_overlap * both, (min_overlap - 1) * area),
    )
    roots = []
    for (a, b, c), is_outwards in zip(equations, (False, False, True), strict=True):
        root = (b * b - 4 * a * c).sqrt()
        if formula == "original":
            roots.append((b + root) / 2)
        else:
            roots.append((b + root if is_outwards else b - root) / (2 * a))
    return torch.stack(roots).amin(0)


def draw_gaussians(
    shape: tuple[int, int, int],
    points: Tensor,
    channels: Tensor,
    radii: Tensor,
    sigma_divisor: float = 6.0,
) -> Tensor:
    """Gaussians of height 1 in a map of zeros; where they overlap, the higher one counts.

    Args:
        shape: (C, h, w).
        points: (N, 2) int64 cells.
        channels: (N,) int64.
        radii: (N,) int64 cells; outside of a square of 2r + 1 cells a gaussian is zero.
        sigma_divisor: sigma = (2r + 1) / this.

    Returns:
        (C, h, w).
    """
    num_channels, height, width = shape
    heatmap = torch.zeros(num_channels, height * width, device=points.device)
    columns = torch.arange(width, device=points.device)
    rows = torch.arange(height, device=points.device)
    eps = torch.finfo(torch.float64).eps  # the authors draw in double precision
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        x, y = points[part].unbind(1)
        radius = radii[part]
        variance = 2 * ((2 * radius + 1).double() / sigma_divisor) ** 2
        dx, dy = columns - x[:, None], rows - y[:, None]  # (n, w), (n, h)
        exponent = (dx**2)[:, None] + (dy**2)[..., None]  # (n, h, w)
        patch = (-exponent / variance[:, None, None]).exp()
        inside = (dx.abs() <= radius[:, None])[:, None] & (dy.abs() <= radius[:, None])[..., None]
        patch = patch.where(inside & (patch >= eps), 0.0).float().flatten(1)
        heatmap.scatter_reduce_(0, channels[part, None].expand_as(patch), patch, "amax")
    return heatmap.unflatten(1, (height, width))


def focal_loss(logits: Tensor, heatmap: Tensor) -> tuple[Tensor, Tensor]:
    """The focal loss of CornerNet, Eq. (1), with alpha 2, beta 4: its sum, and the positives.

    Args:
        logits: (...); their sigmoid is cut to [1e-4, 1 - 1e-4].
        heatmap: (...) in [0, 1]; cells of exactly 1 are positive, the others the less negative the
            higher they are.

    Returns:
        The sum over all cells, and how many are positive.
    """
    probabilities = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    positive = heatmap == 1
    hit = (1 - probabilities) ** 2 * probabilities.log()
    false = (1 - heatmap) ** 4 * probabilities**2 * (1 - probabilities).log()
    return -torch.where(positive, hit, false).sum(), positive.sum()


def heatmap_loss(logits: Tensor, heatmap: Tensor, *, in_training: bool) -> Tensor:
    """`focal_loss` divided by its positives, in a training by their mean over all processes."""
    summed, positives = focal_loss(logits, heatmap)
    return summed / (mean_count(positives) if in_training else positives.clamp(min=1))


def ignore_crowds(heatmap: Tensor, targets: Targets, ratio: Tensor) -> None:
    """Cells of a crowd region are no negatives of its class: they get `IGNORED`, in place.

    Args:
        heatmap: (C, h, w).
        targets: of the image.
        ratio: (2,) cells per pixel across and down.
    """
    boxes = targets.boxes[targets.is_crowd] * ratio.repeat(2)
    for box, label in zip(boxes, targets.labels[targets.is_crowd], strict=True):
        x1, y1 = box[:2].floor().clamp(min=0).long().tolist()
        x2, y2 = box[2:].ceil().clamp(min=0).long().tolist()
        heatmap[label, y1:y2, x1:x2].clamp_(min=IGNORED)


class Peaks(NamedTuple):
    """Highest local maxima of heatmaps, best first: each (B, K), scores in [0, 1]."""

    scores: Tensor
    channels: Tensor
    rows: Tensor
    columns: Tensor


def find_peaks(probabilities: Tensor, count: int) -> Peaks:
    """The `count` best local maxima over all channels.

    Args:
        probabilities: (B, C, h, w).
        count: K; fewer where the maps have fewer cells.
    """
    channels, height, width = probabilities.shape[1:]
    maxima = keep_local_maxima(probabilities)
    # Class by class first: of few numbers the best are found faster.
    best, cells = maxima.flatten(2).topk(min(count, height * width), 2)  # (B, C, K)
    scores, places = best.flatten(1).topk(min(count, best.shape[1] * best.shape[2]), 1)
    cells = cells.flatten(1).gather(1, places)
    return Peaks(scores, places // best.shape[2], cells // width, cells % width)


def keep_local_maxima(heatmap: Tensor) -> Tensor:
    """(..., h, w), not negative: cells lower than one of their eight neighbours become 0.

    One axis after the other and by slices: a tenth of the time of a 3x3 max-pooling, and equal.
    """
    best = heatmap.clone()
    torch.maximum(best[..., 1:, :], heatmap[..., :-1, :], out=best[..., 1:, :])
    torch.maximum(best[..., :-1, :], heatmap[..., 1:, :], out=best[..., :-1, :])
    around = best.clone()
    torch.maximum(around[..., 1:], best[..., :-1], out=around[..., 1:])
    torch.maximum(around[..., :-1], best[..., 1:], out=around[..., :-1])
    return heatmap.where(heatmap == around, 0.0)


def gather_cells(maps: Tensor, cells: Tensor) -> Tensor:
    """(B, D, h, w) maps at (B, K) flat cells -> (B, K, D)."""
    flat = maps.flatten(2).transpose(1, 2)
    return flat.gather(1, cells[..., None].expand(-1, -1, flat.shape[2]))


def at_cells(maps: Tensor, image: Tensor, cells: Tensor) -> Tensor:
    """(B, D, h, w) maps at flat cells (N,) of the images (N,) -> (N, D)."""
    return maps.flatten(2).transpose(1, 2)[image, cells]
