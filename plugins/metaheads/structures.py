"""The nouns that cross the border between the hosts and our core: small dataclasses of plain
tensors.

Letters: N objects, K keypoints, H, W pixels of an image, h, w cells of a mask. Boxes are xyxy in
continuous pixel coordinates (pixel (0, 0) covers [0, 1] x [0, 1]); sizes are (height, width),
points (x, y).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from metaheads.masks import paste_masks

T = TypeVar("T", bound="_PerObject")


class _PerObject:
    """Indexing, `cat` and `to` act on every tensor field, so that a new field touches one place."""

    def __len__(self) -> int:
        return len(self.boxes)  # type: ignore[attr-defined]

    def __getitem__(self: T, index: Any) -> T:
        """The objects that `index` (bool mask, integer indices or slice) selects."""
        return self._map(lambda tensor: tensor[index])

    def to(self: T, device: torch.device | str) -> T:
        return self._map(lambda tensor: tensor.to(device))

    def _map(self: T, function: Any) -> T:
        changes = {name: function(tensor) for name, tensor in self._tensors().items()}
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def _tensors(self) -> dict[str, Tensor]:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {field.name: getattr(self, field.name) for field in fields}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    @classmethod
    def cat(cls: type[T], parts: Sequence[T]) -> T:
        """All objects of `parts` (at least one) in order; other fields are taken from the first."""
        names = parts[0]._tensors()
        changes = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        return dataclasses.replace(parts[0], **changes)  # type: ignore[type-var]


@dataclass
class Targets(_PerObject):
    """Ground truth of one image, in pixels of the network input; an absent field is None.

    Attributes:
        image_size: (H, W) of the batched network input, padding included: what relative coordinates
            refer to.
        boxes: (N, 4).
        labels: (N,) int64, 0-based class.
        is_crowd: (N,) bool; a crowd region is neither object nor background.
        masks: (N, H, W) bool.
        keypoints: (N, K, 3): x, y, visibility (0 absent, 1 hidden, 2 visible).
        vertices: (N, V, D) of a mesh, D 2 or 3: x, y as of keypoints, and z in the same unit,
            relative to anything; NaN for an object without a mesh.
        instance_ids: (N,) int64, the same object over the frames of a video.
        semantic: (H, W) int64 panoptic labels (things 0..T-1, stuff behind them), 255 where nothing
            is known; of the whole image, not of an object.
    """

    image_size: tuple[int, int]
    boxes: Tensor
    labels: Tensor
    is_crowd: Tensor
    masks: Tensor | None = None
    keypoints: Tensor | None = None
    vertices: Tensor | None = None
    instance_ids: Tensor | None = None
    semantic: Tensor | None = None

    def to(self, device: torch.device | str) -> Targets:
        semantic = None if self.semantic is None else self.semantic.to(device)
        return dataclasses.replace(super().to(device), semantic=semantic)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = super()._tensors()
        tensors.pop("semantic", None)
        return tensors


@dataclass(frozen=True)
class Geometry:
    """How the network input lies in the original image.

    Attributes:
        input_size: (height, width) of the network input without padding.
        original_size: (height, width) of the original image.
        to_original: ((a, b, c), (d, e, f)): original x = a x + b y + c, y = d x + e y + f.
    """

    input_size: tuple[int, int]
    original_size: tuple[int, int]
    to_original: tuple[tuple[float, float, float], tuple[float, float, float]]

    @classmethod
    def from_resize(cls, input_size: tuple[int, int], original_size: tuple[int, int]) -> Geometry:
        """The original image stretched to `input_size`."""
        scale_y = original_size[0] / input_size[0]
        scale_x = original_size[1] / input_size[1]
        return cls(input_size, original_size, ((scale_x, 0.0, 0.0), (0.0, scale_y, 0.0)))

    def of_resized(self, original_size: tuple[int, int]) -> Geometry:
        """The same view of the original image stretched to another size."""
        scale_y = original_size[0] / self.original_size[0]
        scale_x = original_size[1] / self.original_size[1]
        across, down = self.to_original
        rows = tuple(x * scale_x for x in across), tuple(y * scale_y for y in down)
        return Geometry(self.input_size, original_size, rows)  # type: ignore[arg-type]

    @property
    def scale(self) -> float:
        """Pixels of the original image per pixel of the network input, the mean of both axes."""
        (a, b, _), (d, e, _) = self.to_original
        return math.sqrt(abs(a * e - b * d))

    def points_to_original(self, points: Tensor) -> Tensor:
        """(..., 2) points of the network input -> of the original image."""
        matrix = points.new_tensor(self.to_original)
        return points @ matrix[:, :2].T + matrix[:, 2]

    def boxes_to_original(self, boxes: Tensor) -> Tensor:
        """(N, 4) boxes of the network input -> the boxes around them in the original image,
        unclipped."""
        x1, y1, x2, y2 = boxes.unbind(1)
        corners = torch.stack((x1, y1, x2, y1, x2, y2, x1, y2), 1).view(-1, 4, 2)
        corners = self.points_to_original(corners)
        return torch.cat((corners.amin(1), corners.amax(1)), 1)


@dataclass
class Detections(_PerObject):
    """What was found in one image: as `decode` leaves it (network input) or finished (original
    image).

    Attributes:
        boxes: (N, 4).
        scores: (N,) in [0, 1], descending.
        labels: (N,) int64, 0-based class.
        masks: unfinished (N, h, w) probabilities over `mask_frames`; finished (N, H, W) bool.
        mask_frames: (N, 4) boxes that the unfinished masks cover.
        mask_scores: (N,) score of the mask where it differs from that of the box (mask scoring).
        keypoints: (N, K, 3): x, y, score.
        vertices: (N, V, D) of a mesh, D 2 or 3: x, y as of keypoints, and z in the same unit.
        integer_boxes: `finish` cuts the boxes to whole pixels, as the authors of YOLACT do.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None
    mask_frames: Tensor | None = None
    mask_scores: Tensor | None = None
    keypoints: Tensor | None = None
    vertices: Tensor | None = None
    integer_boxes: bool = False

    def finish(self, geometry: Geometry, mask_threshold: float = 0.5) -> Detections:
        """The detections in the original image: boxes clipped to it, masks resized once, as
        bool."""
        height, width = geometry.original_size
        boxes = geometry.boxes_to_original(self.boxes)
        boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
        masks, keypoints, vertices = self.masks, self.keypoints, self.vertices
        if masks is not None:
            assert self.mask_frames is not None, "unfinished masks need the frames they cover"
            masks = paste_masks(masks, self.mask_frames, geometry, mask_threshold)
        if keypoints is not None:
            xy = geometry.points_to_original(keypoints[..., :2])
            keypoints = torch.cat((xy, keypoints[..., 2:]), -1)
        if vertices is not None:
            xy = geometry.points_to_original(vertices[..., :2])
            vertices = torch.cat((xy, vertices[..., 2:] * geometry.scale), -1)
        return dataclasses.replace(
            self,
            boxes=boxes.trunc() if self.integer_boxes else boxes,
            masks=masks,
            mask_frames=None,
            keypoints=keypoints,
            vertices=vertices,
        )


class Segment(NamedTuple):
    """A segment of a panoptic segmentation.

    label: things 0..T-1 as in the detector, stuff T..T+S-1; score: of things.
    """

    id: int
    label: int
    is_thing: bool
    score: float | None = None


@dataclass
class PanopticSegmentation:
    """What every pixel of an image belongs to.

    Attributes:
        ids: (H, W) int32, ids of segments; 0 is void.
        segments: those in `ids`.
        is_unknown: (H, W) bool, void pixels that a model calls an object of no known class.
    """

    ids: Tensor
    segments: list[Segment]
    is_unknown: Tensor | None = None

    @classmethod
    def from_labels(cls, labels: Tensor) -> PanopticSegmentation:
        """What a semantic model says: a segment for each class, none of them a thing, as nobody
        tells its objects apart.

        Args:
            labels: (H, W) panoptic labels.
        """
        segments = [Segment(each + 1, each, False) for each in labels.unique().tolist()]
        return cls((labels + 1).int(), segments)

    def __len__(self) -> int:
        return len(self.segments)

    def to(self, device: torch.device | str) -> PanopticSegmentation:
        unknown = None if self.is_unknown is None else self.is_unknown.to(device)
        return PanopticSegmentation(self.ids.to(device), self.segments, unknown)

    def keep(self, is_kept: Callable[[Segment], bool]) -> PanopticSegmentation:
        """The segments for which `is_kept` is true; the others become void."""
        kept = [each for each in self.segments if is_kept(each)]
        gone = {each.id for each in self.segments} - {each.id for each in kept}
        is_gone = torch.isin(self.ids, self.ids.new_tensor(sorted(gone)))
        return PanopticSegmentation(self.ids.masked_fill(is_gone, 0), kept, self.is_unknown)

    def things(self) -> Detections:
        """The things as finished detections, best first; their scores are 1 where there are none.

        The boxes lie around the pixels.
        """
        scores = [(1.0 if e.score is None else e.score, e) for e in self.segments if e.is_thing]
        scores.sort(key=lambda pair: -pair[0])
        ids = self.ids.new_tensor([each.id for _, each in scores])
        masks = self.ids == ids[:, None, None]  # (N, H, W)
        sides = []
        for occupied in (masks.any(1).int(), masks.any(2).int()):  # (N, W), (N, H)
            sides += [occupied.argmax(1), occupied.shape[1] - occupied.flip(1).argmax(1)]
        left, right, top, bottom = sides
        return Detections(
            boxes=torch.stack((left, top, right, bottom), 1).float(),
            scores=masks.new_tensor([score for score, _ in scores], dtype=torch.float32),
            labels=masks.new_tensor([each.label for _, each in scores], dtype=torch.int64),
            masks=masks,
        )


class RegionOutputs(NamedTuple):
    """Raw outputs of an architecture on a host's RPN and RoI heads: the core's, and theirs.

    rpn_logits, rpn_deltas: per level; of R given boxes and T classes: class_logits (R, T + 1),
    background last; box_deltas (R, 4 T); mask_logits (R, T, m, m).
    """

    core: Any
    rpn_logits: list[Tensor]
    rpn_deltas: list[Tensor]
    class_logits: Tensor | None = None
    box_deltas: Tensor | None = None
    mask_logits: Tensor | None = None


class FixedDetections(NamedTuple):
    """Detections of a batch in tensors of fixed size, for exported graphs; D slots of an image.

    Pixels of the network input. `scores` (B, D) descend; a slot that is empty has -1 there and
    anything elsewhere. boxes (B, D, 4), labels (B, D) int64, masks (B, D, h, w) probabilities over
    the whole network input, mask_scores (B, D), keypoints (B, D, K, 3), vertices (B, D, V, 2 or 3).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None
    mask_scores: Tensor | None = None
    keypoints: Tensor | None = None
    vertices: Tensor | None = None

    def of_image(self, index: int) -> Detections:
        """The filled slots of one image, masks unfinished."""
        filled = self.scores[index] >= 0
        fields = {n: t[index][filled] for n, t in self._asdict().items() if t is not None}
        return Detections(**fields)
