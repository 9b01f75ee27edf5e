"""The network of RetinaFace.

Letters: B images, P priors of all levels, C classes, K keypoints, V vertices, D their dimensions,
A anchors of a cell, h, w cells. Priors go by level (finest first), row, column, anchor.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaheads.architectures.retinaface.decode import decode, merge_by_voting, merge_flipped
from metaheads.architectures.retinaface.fixed import decode_fixed
from metaheads.architectures.retinaface.graph import ChebyshevConv
from metaheads.architectures.retinaface.losses import losses
from metaheads.backbones.mobilenet import activation
from metaheads.backbones.resnet import DeformConv2d
from metaheads.configs import data_path
from metaheads.mesh import MeshTopology
from metaheads.structures import Detections, FixedDetections, Targets

HEADS = ("linear", "separable")


class RetinaFaceOutputs(NamedTuple):
    """Raw outputs.

    class_logits (B, P, 1 + C), background first; box_deltas (B, P, 4) SSD code; keypoint_deltas
    (B, P, 2K), x0, y0, x1, ... from the prior's centre in parts of its size over the first
    variance; mesh_features, per level (B, channels, h, w), from which the vertices of chosen priors
    are computed; first: of a cascade the outputs of its first stage.
    """

    class_logits: Tensor
    box_deltas: Tensor
    keypoint_deltas: Tensor | None = None
    mesh_features: list[Tensor] | None = None
    first: RetinaFaceOutputs | None = None


class RetinaFace(nn.Module):
    """RetinaFace on the features of a backbone, which needs no pyramid of its own.

    Args:
        in_channels, strides: of the features, finest first.
        num_classes: classes; faces are one.
        num_keypoints: keypoints of each object, 0 for none.
        keypoint_pairs: those that a mirror swaps.
        num_vertices: vertices of each object's mesh, 0 for none.
        vertex_dimensions: 2 or 3.
        mesh_file: JSON of the mesh (`metaheads.mesh`) for edge losses and mirrors in tests, below
            the folder $METAHEADS_DATA if it is relative; "": neither.
        graph_order: polynomials of a graph convolution that refines the vertices over the mesh's
            edges; 0: none.
        anchor_sizes: sides of the square anchors of each level in pixels.
        pyramid_channels: width of the pyramid and its context modules; 0: the heads look at the
            features themselves (1MB repository).
        extra_levels: coarser levels, by 3x3 convolutions of stride 2 on the last feature.
        leaky_slope: of the activations in pyramid and context modules; 0 is ReLU.
        is_deformable: their 3x3 convolutions are deformable.
        head: "linear" (1x1) or "separable" (3x3 of each channel and 1x1, but on the coarsest level
            a plain 3x3; 1MB repository).
        has_shared_heads: one head for all levels.
        positive_iou, negative_iou: priors are positive from the one on, background below the other;
            for each stage: two stages make a cascade, whose second regresses from the boxes of the
            first and looks at the same pyramid through context modules of its own.
        best_prior_iou: the best prior of an object is positive from this on.
        crowd_iof: priors that lie in a crowd by more than this share are no background.
        negatives_per_positive: hardest negatives of each image.
        is_compatible: matching and mining with the faults of biubug6's code.
        class_weight, box_weight, keypoint_weight, vertex_weight, edge_weight: of the losses.
        keypoint_beta: error, in units of the code, from which on the loss of the points is linear;
            the authors' 1 is a tenth of a prior.
        variances: of the box code: centres and points, sizes.
        score_threshold: lowest score of a detection.
        max_candidates: best priors that take part in NMS.
        nms_iou: a box that overlaps a better one more goes.
        has_plus_one: NMS takes sides one pixel longer, as biubug6's code.
        max_detections: detections of an image.

    Raises:
        ValueError: options that do not fit together or are out of range.
    """

    def __init__(
        self,
        in_channels: list[int],
        strides: list[int],
        *,
        num_classes: int = 1,
        num_keypoints: int = 5,
        keypoint_pairs: tuple[tuple[int, int], ...] = ((0, 1), (3, 4)),
        num_vertices: int = 0,
        vertex_dimensions: int = 3,
        mesh_file: str = "",
        graph_order: int = 0,
        anchor_sizes: tuple[tuple[float, ...], ...] = ((16, 32), (64, 128), (256, 512)),
        pyramid_channels: int = 64,
        extra_levels: int = 0,
        leaky_slope: float = 0.1,
        is_deformable: bool = False,
        head: str = "linear",
        has_shared_heads: bool = False,
        positive_iou: tuple[float, ...] = (0.35,),
        negative_iou: tuple[float, ...] = (0.35,),
        best_prior_iou: float = 0.2,
        crowd_iof: float = 0.35,
        negatives_per_positive: int = 7,
        is_compatible: bool = False,
        class_weight: float = 1.0,
        box_weight: float = 2.0,
        keypoint_weight: float = 1.0,
        keypoint_beta: float = 1.0,
        vertex_weight: float = 1.0,
        edge_weight: float = 1.0,
        variances: tuple[float, float] = (0.1, 0.2),
        score_threshold: float = 0.02,
        max_candidates: int = 5000,
        nms_iou: float = 0.4,
        has_plus_one: bool = True,
        max_detections: int = 750,
    ) -> None:
        super().__init__()
        self.strides = (*strides, *(strides[-1] * 2**n for n in range(1, extra_levels + 1)))
        self.anchor_sizes = anchor_sizes
        self.num_anchors = tuple(len(sizes) for sizes in anchor_sizes)
        self.num_classes, self.num_keypoints = num_classes, num_keypoints
        self.keypoint_pairs = keypoint_pairs if num_keypoints else ()
        self.num_vertices, self.vertex_dimensions = num_vertices, vertex_dimensions
        self.mesh_file = mesh_file
        self.leaky_slope = leaky_slope
        self.positive_iou, self.negative_iou = positive_iou, negative_iou
        self.best_prior_iou, self.crowd_iof = best_prior_iou, crowd_iof
        self.negatives_per_positive, self.is_compatible = negatives_per_positive, is_compatible
        self.class_weight, self.box_weight = class_weight, box_weight
        self.keypoint_weight = keypoint_weight
        self.keypoint_beta = keypoint_beta
        self.vertex_weight, self.edge_weight = vertex_weight, edge_weight
        self.variances = variances
        self.score_threshold, self.max_candidates = score_threshold, max_candidates
        self.nms_iou, self.has_plus_one = nms_iou, has_plus_one
        self.max_detections = max_detections
        _check(self, head, pyramid_channels, extra_levels, has_shared_heads)

        widths = list(in_channels)
        self.fpn: Pyramid | None = None
        if pyramid_channels:
            layer = functools.partial(_layer, slope=leaky_slope, is_deformable=is_deformable)
            self.fpn = Pyramid(in_channels, pyramid_channels, extra_levels, layer)
            widths = [pyramid_channels] * len(self.strides)
        outputs = [{"scores": 1 + num_classes, "boxes": 4}] * len(positive_iou)
        outputs[-1] = {**outputs[-1], "keypoints": 2 * num_keypoints}
        self.stages = nn.ModuleList(
            Stage(
                widths,
                self.num_anchors,
                numbers,
                context=layer if pyramid_channels else None,
                is_separable=head == "separable",
                is_shared=has_shared_heads,
            )
            for numbers in outputs
        )
        count = num_vertices * vertex_dimensions
        levels = list(zip(widths, self.num_anchors, strict=True)) if count else []
        self.mesh_heads = nn.ModuleList(
            nn.Conv2d(width, anchors * count, 1)
            for width, anchors in levels[: 1 if has_shared_heads else None]
        )
        self.mesh_refiner: ChebyshevConv | None = None
        if graph_order and count:
            if self.mesh is None:
                raise ValueError("graph_order needs mesh_file, whose edges the convolution follows")
            self.mesh_refiner = ChebyshevConv(
                self.mesh.edges, num_vertices, vertex_dimensions, vertex_dimensions, graph_order
            )
        # Layers whose size follows num_classes, with the outputs they add for the background.
        self.CLASS_LAYERS = tuple(
            (f"stages.{index}.heads.scores.{name}", 1)
            for index, stage in enumerate(self.stages)
            for name in stage.last_layers("scores")  # type: ignore[operator]
        )

    def forward(self, features: list[Tensor]) -> RetinaFaceOutputs:
        """Features (B, channels, h, w), finest first -> raw outputs."""
        levels = features if self.fpn is None else self.fpn(features)
        found = None
        for stage in self.stages:
            predicted, contexts = stage(levels)
            found = RetinaFaceOutputs(
                predicted["scores"],
                predicted["boxes"],
                predicted.get("keypoints"),
                contexts if self.num_vertices and stage is self.stages[-1] else None,
                found,
            )
        assert found is not None
        return found

    def losses(self, outputs: RetinaFaceOutputs, targets: list[Targets]) -> dict[str, Tensor]:
        """loss_class, loss_box, loss_keypoints, loss_mesh_vertices, loss_mesh_edges, and of a
        cascade loss_first_class and loss_first_box.

        All but the mesh's are sums over the batch, divided by its positives, for the keypoints by
        those that have some; of the mesh it is a mean over coordinates, or edges. Always finite,
        and every parameter has a gradient.
        """
        return losses(self, outputs, targets)

    def decode(
        self, outputs: RetinaFaceOutputs, image_sizes: list[tuple[int, int]]
    ) -> list[Detections]:
        """The detections of each image after NMS, in pixels of the network input, boxes not
        clipped; the score of a keypoint is that of its object."""
        return decode(self, outputs, image_sizes)

    def decode_fixed(
        self, outputs: RetinaFaceOutputs, image_size: tuple[int, int]
    ) -> FixedDetections:
        """What `decode` finds, in tensors of fixed size, for exported graphs."""
        return decode_fixed(self, outputs, image_size)

    def candidates(
        self,
        outputs: RetinaFaceOutputs,
        image_sizes: list[tuple[int, int]],
        is_flipped: bool = False,
    ) -> list[Detections]:
        """What `merge_views` merges; see `metaheads.augment`."""
        if is_flipped:
            return merge_flipped(self, decode(self, outputs, image_sizes * 2), image_sizes)
        return decode(self, outputs, image_sizes)

    def merge_views(self, views: list[Detections]) -> Detections:
        """All views of an image -> its detections: of several by NMS and box voting."""
        return views[0] if len(views) == 1 else merge_by_voting(self, Detections.cat(views))

    def check_training(self) -> None:
        """Reads the mesh, which otherwise the first loss does; to predict it is not needed.

        Raises:
            FileNotFoundError, ValueError: as `mesh`.
        """
        if self.num_vertices:
            _ = self.mesh

    @functools.cached_property
    def mesh(self) -> MeshTopology | None:
        """The topology in `mesh_file`; read when it is needed first.

        Raises:
            FileNotFoundError, ValueError: no such file, or one for another mesh.
        """
        if not self.mesh_file:
            return None
        mesh = MeshTopology.from_json(data_path(self.mesh_file))
        found = mesh.num_vertices, mesh.dimensions
        if found != (self.num_vertices, self.vertex_dimensions):
            raise ValueError(
                f"mesh_file {self.mesh_file} is of {found[0]} vertices in {found[1]} dimensions, "
                f"but the model has num_vertices={self.num_vertices}, "
                f"vertex_dimensions={self.vertex_dimensions}: make them equal"
            )
        return mesh


class Pyramid(nn.Module):
    """biubug6's feature pyramid: what is merged goes on to the finer level; any size works."""

    def __init__(
        self, in_channels: list[int], channels: int, extra_levels: int, layer: functools.partial
    ) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            layer(c, channels, kernel=1, is_deformable=False) for c in in_channels
        )
        self.extra = nn.ModuleList(
            layer(in_channels[-1] if n == 0 else channels, channels, stride=2, is_deformable=False)
            for n in range(extra_levels)
        )
        self.merges = nn.ModuleList(
            layer(channels, channels) for _ in range(len(in_channels) + extra_levels - 1)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Features -> (B, channels, h, w) of every level, finest first."""
        levels = [lateral(each) for lateral, each in zip(self.laterals, features, strict=True)]
        coarsest = features[-1]
        for layer in self.extra:
            coarsest = layer(coarsest)
            levels.append(coarsest)
        for index in reversed(range(len(levels) - 1)):
            above = F.interpolate(levels[index + 1], size=levels[index].shape[-2:], mode="nearest")
            levels[index] = self.merges[index](levels[index] + above)
        return levels


class Context(nn.Module):
    """Context module of SSH (arXiv 1708.03979): 3x3, 5x5 and 7x7 made of 3x3 convolutions."""

    def __init__(self, channels: int, layer: functools.partial) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.conv3X3 = layer(channels, half, is_active=False)
        self.conv5X5_1 = layer(channels, quarter)
        self.conv5X5_2 = layer(quarter, quarter, is_active=False)
        self.conv7X7_2 = layer(quarter, quarter)
        self.conv7x7_3 = layer(quarter, quarter, is_active=False)

    def forward(self, x: Tensor) -> Tensor:
        shared = self.conv5X5_1(x)
        parts = self.conv3X3(x), self.conv5X5_2(shared), self.conv7x7_3(self.conv7X7_2(shared))
        return torch.cat(parts, 1).relu()


class Stage(nn.Module):
    """Context modules and heads of all levels.

    Args:
        widths: channels of the levels.
        num_anchors: A of each level.
        outputs: what a head predicts of each prior -> how many numbers; 0 is left out.
        context: makes the layers of the context modules; None: there are none.
    """

    def __init__(
        self,
        widths: list[int],
        num_anchors: tuple[int, ...],
        outputs: dict[str, int],
        *,
        context: functools.partial | None,
        is_separable: bool,
        is_shared: bool,
    ) -> None:
        super().__init__()
        self.contexts = nn.ModuleList(Context(w, context) for w in widths if context is not None)
        self.numbers = {name: number for name, number in outputs.items() if number}
        levels = list(zip(widths, num_anchors, strict=True))[: 1 if is_shared else None]
        self.heads = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    _head(width, anchors * number, is_separable, index == len(widths) - 1)
                    for index, (width, anchors) in enumerate(levels)
                )
                for name, number in self.numbers.items()
            }
        )

    def forward(self, levels: list[Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Levels (B, channels, h, w) -> (B, P, numbers) of each head, and the context features."""
        if self.contexts:
            levels = [each(level) for each, level in zip(self.contexts, levels, strict=True)]
        found = {}
        for name, number in self.numbers.items():
            maps = [of_level(self.heads[name], i)(level) for i, level in enumerate(levels)]
            flat = [each.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, number)) for each in maps]
            found[name] = torch.cat(flat, 1)
        return found, levels

    def last_layers(self, name: str) -> list[str]:
        """The layers of a head that give its numbers."""
        heads: list[nn.Module] = list(self.heads[name])  # type: ignore[call-overload]
        return [f"{i}.2" if isinstance(h, nn.Sequential) else str(i) for i, h in enumerate(heads)]


def of_level(heads: nn.Module, level: int) -> nn.Module:
    """The head of a level, of one for each level or of one for all."""
    assert isinstance(heads, nn.ModuleList)
    return heads[level if len(heads) > 1 else 0]


def _layer(
    in_channels: int,
    out_channels: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    slope: float,
    is_deformable: bool,
    is_active: bool = True,
) -> nn.Sequential:
    """Convolution, batch norm and, if `is_active`, activation."""
    if is_deformable:
        conv: nn.Module = DeformConv2d(in_channels, out_channels, kernel, stride, kernel // 2)
    else:
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    layers = [conv, nn.BatchNorm2d(out_channels)]
    return nn.Sequential(*layers, activation(slope)) if is_active else nn.Sequential(*layers)


def _head(in_channels: int, out_channels: int, is_separable: bool, is_coarsest: bool) -> nn.Module:
    if not is_separable:
        return nn.Conv2d(in_channels, out_channels, 1)
    if is_coarsest:
        return nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, out_channels, 1),
    )


def _check(
    core: RetinaFace, head: str, pyramid_channels: int, extra_levels: int, is_shared: bool
) -> None:
    if head not in HEADS:
        raise ValueError(f"head must be one of {HEADS}, got {head!r}")
    if len(core.anchor_sizes) != len(core.strides) or not all(core.num_anchors):
        raise ValueError(
            f"anchor_sizes must name sizes for each of the strides {core.strides}, got "
            f"{core.anchor_sizes}"
        )
    if pyramid_channels % 4 or pyramid_channels < 0:
        raise ValueError(f"pyramid_channels must be a multiple of 4 or 0, got {pyramid_channels}")
    if extra_levels < 0 or (extra_levels and not pyramid_channels):
        raise ValueError(f"extra_levels need a pyramid (pyramid_channels), got {extra_levels}")
    if is_shared and (len(set(core.num_anchors)) > 1 or not pyramid_channels):
        raise ValueError(
            "has_shared_heads needs a pyramid and as many anchor_sizes on each level, got "
            f"{core.anchor_sizes}"
        )
    stages = list(zip(core.positive_iou, core.negative_iou, strict=False))
    same = len(core.positive_iou) == len(core.negative_iou)
    if not same or len(stages) not in (1, 2) or any(not 0 < n <= p <= 1 for p, n in stages):
        raise ValueError(
            "positive_iou and negative_iou name a threshold for one stage or two, the negative one "
            f"not above the positive; got {core.positive_iou}, {core.negative_iou}"
        )
    numbers = core.num_keypoints, core.num_vertices, core.num_classes - 1, core.max_detections - 1
    if min(numbers) < 0 or core.vertex_dimensions not in (2, 3):
        raise ValueError(
            "num_keypoints and num_vertices must not be negative, num_classes and max_detections "
            "positive, vertex_dimensions 2 or 3; got "
            f"{core.num_keypoints}, {core.num_vertices}, {core.num_classes}, "
            f"{core.max_detections}, {core.vertex_dimensions}"
        )
    if max((max(pair) for pair in core.keypoint_pairs), default=-1) >= core.num_keypoints:
        raise ValueError(
            f"keypoint_pairs {core.keypoint_pairs} name keypoints that are not among the "
            f"{core.num_keypoints}"
        )
