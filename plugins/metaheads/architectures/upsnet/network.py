"""UPSNet: A Unified Panoptic Segmentation Network (arXiv 1901.03784).

What is learned here is the semantic head; boxes and masks are the host's RPN and RoI heads, whose
results come in as plain tensors. The panoptic head has no parameters. Written from the paper.

Letters: B images, S stuff and T thing classes, C = S + T channels of the semantic scores, stuff
first, N objects or detections, R proposals, m side of mask logits, h, w cells at stride 4, H, W
pixels of the network input.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from metaheads.architectures.upsnet import losses as upsnet_losses
from metaheads.architectures.upsnet.decode import decode, select
from metaheads.architectures.upsnet.semantic_head import SemanticHead
from metaheads.structures import Detections, Geometry, PanopticSegmentation, Targets

FUSIONS = ("panoptic", "heuristic")


class UPSNetOutputs(NamedTuple):
    """semantic (B, C, h, w): logits; semantic_features (B, levels x width, h, w): what they are
    made of."""

    semantic: Tensor
    semantic_features: Tensor


class UPSNet(nn.Module):
    """The semantic and the panoptic head of UPSNet, on P2 to P5.

    Args:
        in_channels: channels of the features.
        strides: their strides, 4, 8, 16, 32.
        num_things, num_stuff: T and S.
        head_widths: of the deformable layers (Cityscapes: 128, 128).
        keep_fraction: of the objects stay instances in the panoptic loss, the others train the
            unknown channel; 1: there is no such channel.
        semantic_weight, semantic_roi_weight, panoptic_weight: of the losses; 0 leaves the last two
            out.
        score_threshold, nms_threshold, max_detections: a pair of proposal and class whose
            probability is higher counts; one NMS for all classes.
        max_overlap: instances covered by better ones of their class to more than this are dropped.
        stuff_majority: an instance of whose pixels the semantic head calls so many one stuff class
            becomes that.
        stuff_area_limit: stuff of fewer pixels of the original image becomes void.
        fusion: "panoptic" for the panoptic head; "heuristic" pastes instances in the order of their
            scores over the semantic scores' stuff (the usual way of Panoptic FPN).
        inclusive_boxes: anchors, RoIAlign and clipping as the authors' weights learned them, whose
            boxes hold both corners' pixels (regions.py).
        dummy_instance: where nothing is detected, an instance with logits of zero takes part, as in
            the authors' code, and becomes the last stuff class where it wins.

    Raises:
        ValueError: other strides, counts below 1, or an unknown fusion.
    """

    semantic_roi_size = 28

    def __init__(
        self,
        in_channels: list[int],
        strides: list[int],
        *,
        num_things: int = 80,
        num_stuff: int = 53,
        head_widths: tuple[int, ...] = (256, 128, 128),
        keep_fraction: float = 0.7,
        semantic_weight: float = 0.2,
        semantic_roi_weight: float = 0.04,
        panoptic_weight: float = 0.1,
        score_threshold: float = 0.6,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
        max_overlap: float = 0.3,
        stuff_majority: float = 0.5,
        stuff_area_limit: int = 4096,
        fusion: str = "panoptic",
        inclusive_boxes: bool = False,
        dummy_instance: bool = False,
    ) -> None:
        super().__init__()
        if list(strides) != [4 * 2**level for level in range(len(strides))]:
            raise ValueError(f"UPSNet needs features of strides 4, 8, ...; got {strides}")
        if min(num_things, num_stuff, max_detections) < 1:
            raise ValueError("num_things, num_stuff and max_detections must be positive")
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {FUSIONS}, got {fusion!r}")
        self.num_things, self.num_stuff = num_things, num_stuff
        self.keep_fraction = keep_fraction
        self.semantic_weight, self.semantic_roi_weight = semantic_weight, semantic_roi_weight
        self.panoptic_weight = panoptic_weight
        self.score_threshold, self.nms_threshold = score_threshold, nms_threshold
        self.max_detections, self.max_overlap = max_detections, max_overlap
        self.stuff_majority, self.stuff_area_limit = stuff_majority, stuff_area_limit
        self.fusion, self.inclusive_boxes = fusion, inclusive_boxes
        self.dummy_instance = dummy_instance
        self.semantic_head = SemanticHead(list(in_channels), num_things + num_stuff, head_widths)

    def forward(self, features: list[Tensor]) -> UPSNetOutputs:
        """Features (B, channels, h / 2^i, w / 2^i), finest first -> raw outputs."""
        return UPSNetOutputs(*self.semantic_head(features))

    def losses(
        self, outputs: UPSNetOutputs, targets: list[Targets], masks: list[Tensor]
    ) -> dict[str, Tensor]:
        """loss_semantic, loss_semantic_roi, loss_panoptic; always finite.

        Args:
            targets: with semantic labels and masks.
            masks: of each image the mask logits (N, m, m) of its objects that are no crowd, in
                their own class, with a graph into the mask head.
        """
        return upsnet_losses.losses(self, outputs, targets, masks)

    def select(self, boxes: Tensor, probabilities: Tensor, size: tuple[int, int]) -> Detections:
        """Pairs of proposal and class that count, clipped, after the NMS, best first.

        Args:
            boxes: (R, T, 4), of each proposal and class, in pixels of the network input.
            probabilities: (R, T), without the background's.
            size: (height, width) of the network input without padding.
        """
        return select(self, boxes, probabilities, size)

    def decode(
        self,
        outputs: UPSNetOutputs,
        detections: list[Detections],
        masks: list[Tensor],
        geometries: list[Geometry],
    ) -> list[PanopticSegmentation]:
        """Of each image the segmentation in its original size.

        Args:
            detections: in pixels of the network input, best first.
            masks: of each image the mask logits (N, m, m) of the detections, in their own class.
            geometries: how the network inputs lie in the original images (a stretch).
        """
        return [
            decode(self, outputs.semantic[index], found, masks[index], geometries[index])
            for index, found in enumerate(detections)
        ]
