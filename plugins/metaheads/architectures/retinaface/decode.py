"""From raw outputs of RetinaFace to detections. Letters as in network.py; n candidates."""

from __future__ import annotations

import dataclasses
import math
import struct
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaheads.architectures.retinaface.targets import decode_points, make_priors
from metaheads.boxes import box_iou, decode_boxes, to_cxcywh
from metaheads.heatmaps import at_cells
from metaheads.structures import Detections

if TYPE_CHECKING:
    from metaheads.architectures.retinaface.network import RetinaFace, RetinaFaceOutputs

_MAX_GROWTH = math.log(1000 / 16)  # of a box over its prior, in the first stage of a cascade


def priors_of(core: RetinaFace, outputs: RetinaFaceOutputs, image_size: tuple[int, int]) -> Tensor:
    """(P, 4) cxcywh in pixels of the network input.

    Raises:
        ValueError: the backbone's features are not ceil(size / stride) large.
    """
    size = int(image_size[0]), int(image_size[1])
    # What is computed while a graph is traced is no tensor to be kept.
    make = make_priors.__wrapped__ if torch.compiler.is_compiling() else make_priors
    priors = make(size, core.strides, core.anchor_sizes, outputs.box_deltas.device)
    count = outputs.box_deltas.shape[1]
    if len(priors) != count:
        raise ValueError(
            f"an image of {size} has {len(priors)} priors, the network {count} predictions: the "
            f"features must be ceil(size / stride) large, strides={core.strides}"
        )
    return priors


@torch.no_grad()
def decode(
    core: RetinaFace, outputs: RetinaFaceOutputs, image_sizes: list[tuple[int, int]]
) -> list[Detections]:
    """One `Detections` per image, best first, in pixels of the network input."""
    priors = priors_of(core, outputs, image_sizes[0])
    with torch.autocast(outputs.box_deltas.device.type, enabled=False):
        return decode_on_priors(core, outputs, priors)


def decode_on_priors(
    core: RetinaFace, outputs: RetinaFaceOutputs, priors: Tensor
) -> list[Detections]:
    """One `Detections` per image, in the unit of `priors` (P, 4) cxcywh."""
    every = priors.expand(len(outputs.class_logits), -1, -1)
    if outputs.first is not None:
        every = refine_priors(core, outputs.first, priors)
    return [_decode_image(core, outputs, each, index) for index, each in enumerate(every)]


def _decode_image(
    core: RetinaFace, outputs: RetinaFaceOutputs, priors: Tensor, index: int
) -> Detections:
    rows, found = choose_boxes(core, outputs, priors, index)
    if outputs.keypoint_deltas is not None:
        deltas = outputs.keypoint_deltas[index, rows].float().unflatten(1, (-1, 2))
        points = decode_points(deltas, priors[rows], core.variances[0])
        score = found.scores[:, None, None].expand(-1, points.shape[1], 1)
        found.keypoints = torch.cat((points, score), -1)
    if outputs.mesh_features is not None:
        maps = [each[index : index + 1].float() for each in outputs.mesh_features]
        deltas = mesh_deltas(core, maps, torch.zeros_like(rows), rows)
        found.vertices = decode_points(deltas, priors[rows], core.variances[0])
    return found


def choose_boxes(
    core: RetinaFace, outputs: RetinaFaceOutputs, priors: Tensor, index: int
) -> tuple[Tensor, Detections]:
    """The priors that become detections of an image, and the detections' boxes, scores, labels.

    Scores first: only what is above the threshold and among the best becomes a box. A score cannot
    exceed that of its class against the background alone, which is cheaper to look at.
    """
    logits = outputs.class_logits[index].float()  # (P, 1 + C)
    margins = logits[:, 1:].amax(1) - logits[:, 0]
    rows = (margins > _logit(core.score_threshold) - 1e-3).nonzero()[:, 0]  # room for rounding
    all_scores = logits[rows].softmax(1)[:, 1:].T  # (C, n)
    labels, places = (all_scores > core.score_threshold).nonzero(as_tuple=True)
    scores, order = all_scores[labels, places].sort(descending=True, stable=True)
    order = order[: core.max_candidates]
    rows, labels, scores = rows[places[order]], labels[order], scores[: core.max_candidates]
    boxes = decode_boxes(outputs.box_deltas[index, rows].float(), priors[rows], core.variances)
    kept = suppress(core, boxes, scores, labels)
    return rows[kept], Detections(boxes[kept], scores[kept], labels[kept])


def _logit(share: float) -> float:
    """-inf from 0 down, inf from 1 up."""
    return math.log(share / (1 - share)) if 0 < share < 1 else math.copysign(math.inf, share - 0.5)


def suppress(core: RetinaFace, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """Rows of what NMS keeps of each class, best first, at most `max_detections`.

    Args:
        boxes: (n, 4); scores: (n,); labels: (n,).
    """
    from torchvision.ops import batched_nms, nms

    if core.has_plus_one:
        boxes = boxes + boxes.new_tensor([0, 0, 1, 1])
    if core.num_classes == 1:  # there is nothing to keep apart
        return nms(boxes, scores, nms_threshold(core))[: core.max_detections]
    return batched_nms(boxes, scores, labels, nms_threshold(core))[: core.max_detections]


def nms_threshold(core: RetinaFace) -> float:
    """As float32 has it: torchvision compares in double, and an equal overlap stays."""
    return struct.unpack("f", struct.pack("f", core.nms_iou))[0]


def refine_priors(core: RetinaFace, first: RetinaFaceOutputs, priors: Tensor) -> Tensor:
    """(P, 4) priors -> (B, P, 4) cxcywh: the boxes of the first stage, as constants."""
    limit = _MAX_GROWTH / core.variances[1]
    deltas = first.box_deltas.detach().float()
    deltas = torch.cat((deltas[..., :2], deltas[..., 2:].clamp(-limit, limit)), -1)
    return to_cxcywh(decode_boxes(deltas, priors, core.variances))


def mesh_deltas(core: RetinaFace, features: list[Tensor], images: Tensor, rows: Tensor) -> Tensor:
    """(n, V, D): the code of the meshes of some priors.

    The 1x1 convolution as a linear layer of these priors' cells: of all it would be too much.

    Args:
        features: per level (B, channels, h, w).
        images: (n,) of the batch.
        rows: (n,) priors.
    """
    found, places = [], []
    start = 0
    for level, maps in enumerate(features):
        weights, biases = mesh_layer(core, level)
        anchors = len(weights)
        count = maps.shape[-2] * maps.shape[-1] * anchors
        inside = (rows >= start) & (rows < start + count)
        for anchor in range(anchors):
            place = (inside & ((rows - start) % anchors == anchor)).nonzero()[:, 0]
            cells = at_cells(maps, images[place], (rows[place] - start) // anchors)
            found.append(F.linear(cells, weights[anchor], biases[anchor]))
            places.append(place)
        start += count
    values = torch.cat(found)[torch.cat(places).argsort()]
    values = values.unflatten(1, (core.num_vertices, core.vertex_dimensions))
    return values if core.mesh_refiner is None else values + core.mesh_refiner(values)


def mesh_layer(core: RetinaFace, level: int) -> tuple[Tensor, Tensor]:
    """Weights (A, V * D, channels) and biases (A, V * D) of a level's mesh head."""
    heads, anchors = core.mesh_heads, core.num_anchors[level]
    head = heads[level if len(heads) > 1 else 0]
    assert isinstance(head, nn.Conv2d) and head.bias is not None
    weights = head.weight.flatten(1).unflatten(0, (anchors, -1))
    return weights, head.bias.unflatten(0, (anchors, -1))


def merge_flipped(
    core: RetinaFace, found: list[Detections], image_sizes: list[tuple[int, int]]
) -> list[Detections]:
    """Detections of images and then of the same ones mirrored -> those of the images."""
    upright, mirrored = found[: len(image_sizes)], found[len(image_sizes) :]
    return [
        merge_by_voting(core, Detections.cat([one, mirror(core, other, size[1])]))
        for one, other, size in zip(upright, mirrored, image_sizes, strict=True)
    ]


def mirror(core: RetinaFace, found: Detections, width: int) -> Detections:
    """Detections in the mirror of an image of this width -> in the image.

    Raises:
        ValueError: meshes, without `mesh_file`.
    """
    x1, y1, x2, y2 = found.boxes.unbind(1)
    keypoints, vertices = found.keypoints, found.vertices
    if keypoints is not None:
        order = list(range(core.num_keypoints))
        for first, second in core.keypoint_pairs:
            order[first], order[second] = second, first
        keypoints = _mirror_points(keypoints[:, order], width)
    if vertices is not None:
        if core.mesh is None:
            raise ValueError("mirrors of meshes need mesh_file: it says what a mirror swaps")
        flip = torch.from_numpy(core.mesh.flip).to(vertices.device)
        vertices = _mirror_points(vertices[:, flip], width)
    boxes = torch.stack((width - x2, y1, width - x1, y2), 1)
    return dataclasses.replace(found, boxes=boxes, keypoints=keypoints, vertices=vertices)


def _mirror_points(points: Tensor, width: int) -> Tensor:
    return torch.cat((width - points[..., :1], points[..., 1:]), -1)


def merge_by_voting(core: RetinaFace, found: Detections) -> Detections:
    """NMS over the detections of several views; each kept box becomes the mean, weighted by the
    scores, of those that it suppressed and itself (box voting, arXiv 1505.01749, as in the paper).
    """
    kept = suppress(core, found.boxes, found.scores, found.labels)
    if not len(kept):
        return found[kept]
    overlaps = box_iou(found.boxes, found.boxes[kept])  # (n, kept)
    votes = (overlaps > core.nms_iou) & (found.labels[:, None] == found.labels[kept])
    votes[kept] = torch.eye(len(kept), dtype=torch.bool, device=votes.device)
    owner = votes.long().argmax(1)  # the best that it overlaps
    weights = found.scores * votes.any(1)
    total = weights.new_zeros(len(kept)).index_add(0, owner, weights)
    boxes = found.boxes.new_zeros(len(kept), 4)
    boxes = boxes.index_add(0, owner, found.boxes * weights[:, None]) / total[:, None]
    return dataclasses.replace(found[kept], boxes=boxes)
