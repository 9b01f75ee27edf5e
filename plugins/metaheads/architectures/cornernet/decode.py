"""From raw outputs of CornerNet to detections. Letters as in network.py; K corners, D pairs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from metaheads.augment import merge_by_soft_nms
from metaheads.heatmaps import Peaks, find_peaks, gather_cells
from metaheads.structures import Detections

if TYPE_CHECKING:
    from metaheads.architectures.cornernet.network import (
        CenterNetTriplets,
        CornerNet,
        CornerOutputs,
    )


@dataclasses.dataclass
class Pairs(Detections):
    """Detections that remember the scores of their two corners, (N, 2)."""

    corner_scores: Tensor | None = None


class Centres(NamedTuple):
    """Centres of an image, best first: points (K, 2), scores (K,), labels (K,)."""

    points: Tensor
    scores: Tensor
    labels: Tensor


@torch.no_grad()
def decode(
    core: CornerNet,
    outputs: list[CornerOutputs],
    image_sizes: list[tuple[int, int]],
    *,
    is_flipped: bool = False,
) -> list[Detections]:
    """One `Detections` per image, best first, in pixels of the network input."""
    maps = outputs[-1]
    with torch.autocast(maps.tl_heatmap.device.type, enabled=False):
        pairs, centres = find_pairs(core, maps), find_centres(core, maps)
        width, height = maps.tl_heatmap.shape[-1], maps.tl_heatmap.shape[-2]
        count = len(image_sizes)
        found = []
        for index, size in enumerate(image_sizes):
            views = [(pairs[index], centres[index])]
            if is_flipped:
                views.append(turn_back(pairs[count + index], centres[count + index], width))
            merged: Detections = Pairs.cat([each for each, _ in views])
            scale = merged.boxes.new_tensor([size[1] / width, size[0] / height])
            merged.boxes = merged.boxes * scale.repeat(2)
            points = [each for _, each in views if each is not None]
            if points:
                cells = Centres(*(torch.cat(parts) for parts in zip(*points, strict=True)))
                merged = confirm(core, merged, cells._replace(points=cells.points * scale), size)
            plain = Detections(merged.boxes, merged.scores, merged.labels)
            found.append(merge_by_soft_nms(plain, core.max_detections, core.nms))
        return found


def find_pairs(core: CornerNet, maps: CornerOutputs) -> list[Pairs]:
    """Of each image the best pairs of corners that belong together, in cells."""
    (tl, tl_points, tl_tags), (br, br_points, br_tags) = (
        _corners(core, *each)
        for each in (
            (maps.tl_heatmap, maps.tl_offsets, maps.tl_tags),
            (maps.br_heatmap, maps.br_offsets, maps.br_tags),
        )
    )
    scores = (tl.scores[:, :, None] + br.scores[:, None]) / 2  # (B, K, K)
    fits = tl.channels[:, :, None] == br.channels[:, None]
    fits &= (tl_tags[:, :, None] - br_tags[:, None]).abs().sum(-1) <= core.max_tag_distance
    fits &= (tl_points[:, :, None] <= br_points[:, None]).all(-1)
    found = []
    for index in range(len(scores)):
        first, second = fits[index].nonzero(as_tuple=True)
        best = scores[index, first, second]
        best, order = best.sort(descending=True, stable=True)
        order = order[: core.num_pairs]
        first, second = first[order], second[order]
        boxes = torch.cat((tl_points[index, first], br_points[index, second]), 1)
        corners = torch.stack((tl.scores[index, first], br.scores[index, second]), 1)
        found.append(
            Pairs(boxes, best[: core.num_pairs], tl.channels[index, first], corner_scores=corners)
        )
    return found


def _corners(
    core: CornerNet, heatmap: Tensor, offsets: Tensor, tags: Tensor | None
) -> tuple[Peaks, Tensor, Tensor]:
    """Peaks, their points (B, K, 2) in cells and their tags (B, K, T)."""
    peaks = find_peaks(heatmap.float().sigmoid(), core.num_corners)
    cells = peaks.rows * heatmap.shape[-1] + peaks.columns
    points = torch.stack((peaks.columns, peaks.rows), -1) + gather_cells(offsets.float(), cells)
    return peaks, points, points if tags is None else gather_cells(tags.float(), cells)


def find_centres(core: CornerNet, maps: CornerOutputs) -> list[Centres | None]:
    """Of each image the best centres, in cells; None of a model without them."""
    if maps.ct_heatmap is None or maps.ct_offsets is None:
        return [None] * len(maps.tl_heatmap)
    peaks, points, _ = _corners(core, maps.ct_heatmap, maps.ct_offsets, None)
    return [Centres(*each) for each in zip(points, peaks.scores, peaks.channels, strict=True)]


def turn_back(pairs: Pairs, centres: Centres | None, width: int) -> tuple[Pairs, Centres | None]:
    """What was found in a mirrored map of this width, as if it had not been mirrored.

    x -> width - x, as the authors do.
    """
    x1, y1, x2, y2 = pairs.boxes.unbind(1)
    turned = dataclasses.replace(pairs, boxes=torch.stack((width - x2, y1, width - x1, y2), 1))
    if centres is None:
        return turned, None
    x, y = centres.points.unbind(1)
    return turned, centres._replace(points=torch.stack((width - x, y), 1))


def confirm(
    core: CornerNet, found: Detections, centres: Centres, size: tuple[int, int]
) -> Detections:
    """Pairs in whose middle a centre of their class lies; the first such centre scores, too.

    (Triplets, Sec. 3.2; in the middle means strictly.)
    """
    triplets: CenterNetTriplets = core  # type: ignore[assignment]
    far, (height, width) = triplets.max_outside, size
    boxes = found.boxes
    inside = (boxes[:, :2] > -far).all(1)
    inside &= (boxes[:, 2:] < boxes.new_tensor([width + far, height + far])).all(1)
    found = found[inside]
    low, high = found.boxes[:, :2], found.boxes[:, 2:]
    small, large = triplets.centre_parts
    parts = torch.where((high - low).prod(1) <= triplets.centre_area, small, large)[:, None]
    before = (parts - 1) / 2
    first = ((parts - before) * low + before * high) / parts
    last = (before * low + (parts - before) * high) / parts
    points = centres.points[None]  # (1, K, 2)
    hits = ((points > first[:, None]) & (points < last[:, None])).all(2)
    hits &= found.labels[:, None] == centres.labels[None]
    confirmed = hits.any(1)
    nearest = hits.int().argmax(1)  # the first one
    scores = (2 * found.scores + centres.scores[nearest]) / 3
    found = dataclasses.replace(found, scores=scores)[confirmed]
    return found[found.scores.sort(descending=True, stable=True).indices]
