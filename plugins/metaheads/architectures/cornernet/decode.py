"""From raw outputs of CornerNet to detections.

Letters as in network.py; K corners of a kind, P pairs, N boxes.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from metaheads.augment import merge_by_soft_nms
from metaheads.heatmaps import Peaks, find_peaks, gather_cells
from metaheads.ops.soft_nms import soft_nms_fixed
from metaheads.structures import Detections, FixedDetections, Geometry

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
    """Centres of an image, best first: points (..., K, 2), scores (..., K), labels (..., K)."""

    points: Tensor
    scores: Tensor
    labels: Tensor


@dataclasses.dataclass
class CornerCandidates:
    """Pairs of a view of an image, and perhaps centres, before anything confirms or merges them.

    Attributes:
        max_outside: boxes that reach so many pixels of the view out of the image are dropped.
    """

    pairs: Pairs
    centres: Centres | None = None
    max_outside: float = float("inf")

    def finish(self, geometry: Geometry) -> CornerCandidates:
        """In the original image: clipped to it, and without boxes that reach too far out."""
        boxes = geometry.boxes_to_original(self.pairs.boxes)
        size = boxes.new_tensor(geometry.original_size[::-1])
        (across, _, _), (_, down, _) = geometry.to_original
        is_near = _is_near(boxes, size, boxes.new_tensor([across, down]) * self.max_outside)
        pairs = dataclasses.replace(self.pairs, boxes=_clip(boxes, size.repeat(2)))[is_near]
        centres = self.centres
        if centres is not None:
            points = geometry.points_to_original(centres.points)
            centres = centres._replace(points=_clip(points, size))
        return CornerCandidates(pairs, centres, self.max_outside)


def _is_near(boxes: Tensor, size: Tensor, margin: Tensor) -> Tensor:
    return (boxes[..., :2] > -margin).all(-1) & (boxes[..., 2:] < size + margin).all(-1)


def _clip(values: Tensor, limit: Tensor) -> Tensor:
    return values.clamp(min=0).minimum(limit)


@torch.no_grad()
def candidates(
    core: CornerNet, outputs: list[CornerOutputs], image_sizes: list[tuple[int, int]], flip: bool
) -> list[CornerCandidates]:
    """What each image shows, in pixels of the network input; with `flip` its mirror, too."""
    maps = outputs[-1]
    width, height = maps.tl_heatmap.shape[-1], maps.tl_heatmap.shape[-2]
    with torch.autocast(maps.tl_heatmap.device.type, enabled=False):
        pairs, centres = find_pairs(core, maps), find_centres(core, maps)
    count, found = len(image_sizes), []
    for index, size in enumerate(image_sizes):
        views = [(pairs[index], centres[index])]
        if flip:
            views.append(turn_back(pairs[count + index], centres[count + index], width))
        merged: Pairs = Pairs.cat([each for each, _ in views])
        scale = merged.boxes.new_tensor([size[1] / width, size[0] / height])
        merged.boxes = merged.boxes * scale.repeat(2)
        points = [each for _, each in views if each is not None]
        both = None
        if points:
            both = Centres(*(torch.cat(parts) for parts in zip(*points, strict=True)))
            both = both._replace(points=both.points * scale)
        found.append(CornerCandidates(merged, both, core.max_outside))
    return found


def merge_views(core: CornerNet, views: list[CornerCandidates]) -> Detections:
    """One soft-NMS of all pairs, of triplets those that a centre of the first view confirms.

    Of several views, boxes move towards those that they overlap (the authors' soft_nms_merge).
    """
    found: Pairs = Pairs.cat([each.pairs for each in views])
    if views[0].centres is not None:
        scores, is_confirmed = confirm(
            core, found.boxes, found.scores, found.labels, views[0].centres
        )
        found = dataclasses.replace(found, scores=scores)[is_confirmed]
        found = found[found.scores.sort(descending=True, stable=True).indices]
    plain = Detections(found.boxes, found.scores, found.labels)
    votes = found.corner_scores if len(views) > 1 else None
    return merge_by_soft_nms(plain, core.max_detections, core.nms, votes)


def decode(
    core: CornerNet, outputs: list[CornerOutputs], image_sizes: list[tuple[int, int]]
) -> list[Detections]:
    """One `Detections` per image, best first, in pixels of the network input."""
    return [
        merge_views(core, [each.finish(Geometry.from_resize(size, size))])
        for each, size in zip(
            candidates(core, outputs, image_sizes, False), image_sizes, strict=True
        )
    ]


def decode_fixed(
    core: CornerNet, outputs: list[CornerOutputs], image_size: tuple[int, int]
) -> FixedDetections:
    """As `decode`, in tensors of fixed size."""
    maps = outputs[-1]
    boxes, scores, labels, _ = _pair_up(core, maps)
    height, width = maps.tl_heatmap.shape[-2:]
    scale = boxes.new_tensor([image_size[1] / width, image_size[0] / height])
    size = boxes.new_tensor([image_size[1], image_size[0]])
    boxes = boxes * scale.repeat(2)
    margin = torch.full_like(size, core.max_outside)
    is_kept = (scores >= 0) & _is_near(boxes, size, margin)
    boxes = _clip(boxes, size.repeat(2))
    centres = _centres(core, maps)
    if centres is not None:
        centres = centres._replace(points=_clip(centres.points * scale, size))
        scores, is_confirmed = confirm(core, boxes, scores, labels, centres)
        is_kept &= is_confirmed
    scores = scores.where(is_kept, -1.0)
    rows, scores = soft_nms_fixed(boxes, scores, labels, core.max_detections, method=core.nms)
    boxes = boxes.gather(1, rows[..., None].expand(-1, -1, 4))
    return FixedDetections(boxes, scores, labels.gather(1, rows))


def find_pairs(core: CornerNet, maps: CornerOutputs) -> list[Pairs]:
    """Of each image the best pairs of corners that belong together, in cells."""
    boxes, scores, labels, corners = _pair_up(core, maps)
    is_pair = scores >= 0
    return [
        Pairs(boxes[i][rows], scores[i][rows], labels[i][rows], corner_scores=corners[i][rows])
        for i, rows in enumerate(is_pair)
    ]


def _pair_up(core: CornerNet, maps: CornerOutputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best pairs: boxes (B, P, 4) in cells, scores (B, P), -1 where there is none, labels
    (B, P), scores of the corners (B, P, 2)."""
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
    count = scores.shape[2]
    scores = scores.where(fits, -1.0).flatten(1)
    scores, places = scores.topk(min(core.num_pairs, scores.shape[1]), 1)
    first, second = places // count, places % count
    corners = tl_points, br_points
    boxes = torch.cat(
        [
            points.gather(1, rows[..., None].expand(-1, -1, 2))
            for points, rows in zip(corners, (first, second), strict=True)
        ],
        2,
    )
    corner_scores = torch.stack((tl.scores.gather(1, first), br.scores.gather(1, second)), 2)
    return boxes, scores, tl.channels.gather(1, first), corner_scores


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
    found = _centres(core, maps)
    if found is None:
        return [None] * len(maps.tl_heatmap)
    return [Centres(*each) for each in zip(*found, strict=True)]


def _centres(core: CornerNet, maps: CornerOutputs) -> Centres | None:
    if maps.ct_heatmap is None or maps.ct_offsets is None:
        return None
    peaks, points, _ = _corners(core, maps.ct_heatmap, maps.ct_offsets, None)
    return Centres(points, peaks.scores, peaks.channels)


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
    core: CornerNet, boxes: Tensor, scores: Tensor, labels: Tensor, centres: Centres
) -> tuple[Tensor, Tensor]:
    """Pairs in whose middle a centre of their class lies; the first such centre scores, too.

    (Triplets, Sec. 3.2; in the middle means strictly.)

    Args:
        boxes, scores, labels: (..., P, 4), (..., P), (..., P).

    Returns:
        (..., P) scores, and whether a centre confirms.
    """
    triplets: CenterNetTriplets = core  # type: ignore[assignment]
    low, high = boxes[..., :2], boxes[..., 2:]
    small, large = triplets.centre_parts
    parts = torch.where((high - low).prod(-1) <= triplets.centre_area, small, large)[..., None]
    before = (parts - 1) / 2
    first = ((parts - before) * low + before * high) / parts
    last = (before * low + (parts - before) * high) / parts
    points = centres.points[..., None, :, :]  # (..., 1, K, 2)
    hits = ((points > first[..., None, :]) & (points < last[..., None, :])).all(-1)
    hits &= labels[..., None] == centres.labels[..., None, :]  # (..., P, K)
    nearest = hits.int().argmax(-1)  # the first one
    return (2 * scores + centres.scores.gather(-1, nearest)) / 3, hits.any(-1)
