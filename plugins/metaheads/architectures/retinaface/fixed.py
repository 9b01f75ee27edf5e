"""Detections of RetinaFace in tensors of fixed size, for exported graphs.

Letters as in network.py; n candidates and D slots of an image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from metaheads.architectures.retinaface.decode import (
    mesh_layer,
    nms_threshold,
    priors_of,
    refine_priors,
)
from metaheads.architectures.retinaface.targets import decode_points
from metaheads.boxes import decode_boxes
from metaheads.structures import FixedDetections

if TYPE_CHECKING:
    from metaheads.architectures.retinaface.network import RetinaFace, RetinaFaceOutputs


def decode_fixed(
    core: RetinaFace, outputs: RetinaFaceOutputs, image_size: tuple[int, int]
) -> FixedDetections:
    """What `decode` finds, in as many slots as `max_detections`; vertices of these alone."""
    priors = priors_of(core, outputs, image_size).expand_as(outputs.box_deltas)
    if outputs.first is not None:
        priors = refine_priors(core, outputs.first, priors[0])
    every = outputs.class_logits.softmax(2)[..., 1:].transpose(1, 2).flatten(1)  # (B, C * P)
    scores, place = _best(every, core.max_candidates)  # (B, n)
    rows, labels = place % priors.shape[1], place // priors.shape[1]
    boxes = decode_boxes(_pick(outputs.box_deltas, rows), _pick(priors, rows), core.variances)
    scores = scores.where(scores > core.score_threshold, -1.0)
    scores = scores.where(_survive(core, boxes, scores, labels), -1.0)

    scores, slots = _best(scores, core.max_detections)  # (B, D)
    rows, labels, boxes = rows.gather(1, slots), labels.gather(1, slots), _pick(boxes, slots)
    found = FixedDetections(boxes, scores, labels)
    frames = _pick(priors, rows).flatten(0, 1)  # (B * D, 4)
    if outputs.keypoint_deltas is not None:
        deltas = _pick(outputs.keypoint_deltas, rows).unflatten(2, (-1, 2))
        points = decode_points(deltas.flatten(0, 1), frames, core.variances[0])
        points = points.unflatten(0, rows.shape)
        score = scores[..., None, None].expand(-1, -1, points.shape[2], 1)
        found = found._replace(keypoints=torch.cat((points, score), -1))
    if outputs.mesh_features is not None:
        deltas = slot_mesh_deltas(core, outputs.mesh_features, rows)
        vertices = decode_points(deltas.flatten(0, 1), frames, core.variances[0])
        found = found._replace(vertices=vertices.unflatten(0, rows.shape))
    return found


def _best(scores: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """(B, N) -> the `limit` highest and their places; of equal ones the first, as in `decode`."""
    if torch.onnx.is_in_onnx_export():  # knows no stable sort, but its TopK is one
        return scores.topk(min(limit, scores.shape[1]), 1)
    values, places = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :limit], places[:, :limit]


def _pick(values: Tensor, rows: Tensor) -> Tensor:
    """(B, N, numbers) at (B, D) -> (B, D, numbers)."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[2]))


def _survive(core: RetinaFace, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """(B, n) bool: what NMS keeps of each image and class.

    All in one go, each image and class at a place of its own: a graph has no loop over images. Of
    one image and class, the place is its own, and overlaps are to the last bit those of `decode`.

    Args:
        boxes: (B, n, 4); scores, labels: (B, n); a negative score marks no candidate.
    """
    from torchvision.ops import nms

    if core.has_plus_one:
        boxes = boxes + boxes.new_tensor([0, 0, 1, 1])
    is_candidate = (scores >= 0)[..., None]
    boxes = boxes.where(is_candidate, 0.0)
    span = boxes.max() - boxes.min() + 1
    count = boxes.shape[0]
    image = torch.arange(count, device=boxes.device)[:, None]
    places = (image * core.num_classes + labels)[..., None] * span  # (B, n, 1)
    # What is no candidate is one box beyond all others, of which the first takes all the rest.
    beyond = boxes.new_tensor([0, 0, 1, 1]) + span * count * core.num_classes
    boxes = (boxes + places).where(is_candidate, beyond)
    kept = nms(boxes.flatten(0, 1), scores.flatten(), nms_threshold(core))
    return torch.zeros_like(scores.flatten()).index_fill(0, kept, 1.0).view_as(scores) > 0


def slot_mesh_deltas(core: RetinaFace, features: list[Tensor], rows: Tensor) -> Tensor:
    """(B, D, V, D') code of the meshes of the priors (B, D), as `mesh_deltas`.

    Every layer looks at every slot, so that no size depends on what was found.
    """
    found = rows.new_zeros((1, 1, 1), dtype=torch.float32)
    start = 0
    for level, maps in enumerate(features):
        weights, biases = mesh_layer(core, level)
        anchors, count = len(weights), maps.shape[-2] * maps.shape[-1]
        cells = ((rows - start) // anchors).clamp(0, count - 1)  # (B, D)
        values = _pick(maps.flatten(2).transpose(1, 2), cells)
        for anchor in range(anchors):
            is_own = (rows == start + cells * anchors + anchor)[..., None]
            found = F.linear(values, weights[anchor], biases[anchor]).where(is_own, found)
        start += count * anchors
    deltas = found.unflatten(2, (core.num_vertices, core.vertex_dimensions))
    return deltas if core.mesh_refiner is None else deltas + core.mesh_refiner(deltas)
