"""The network of YOLACT: FPN, prototypes, prediction head, mask scoring.

Letters: B images, C classes, P priors, K prototypes, A anchors of a cell, G objects, H, W pixels of
the network input, h, w cells. Class 0 of the logits is the background; labels are 0-based without
it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaheads.architectures.yolact.decode import decode, decode_fixed
from metaheads.architectures.yolact.losses import losses
from metaheads.architectures.yolact.targets import make_priors
from metaheads.structures import Detections, FixedDetections, Targets

NMS_KINDS = ("fast", "fast_cross_class", "traditional")


class YolactOutputs(NamedTuple):
    """Raw outputs, priors ordered by level, row, column, scale, ratio.

    box_deltas (B, P, 4) SSD code with variances 0.1, 0.2; class_logits (B, P, 1 + C);
    mask_coefficients (B, P, K) in (-1, 1); prototypes (B, K, h, w) not negative; semantic_logits
    (B, C, h, w) at the finest level, for training; priors (P, 4) cxcywh in [0, 1] of the network
    input.
    """

    box_deltas: Tensor
    class_logits: Tensor
    mask_coefficients: Tensor
    prototypes: Tensor
    semantic_logits: Tensor
    priors: Tensor


class Yolact(nn.Module):
    """YOLACT, and with `use_mask_scoring` and deformable backbone blocks YOLACT++.

    Args:
        in_channels: channels of the backbone's features, finest first (C3, C4, C5).
        strides: their strides in pixels; only their order is used.
        num_classes: without background.
        max_size: input size in pixels that normalises the anchors on both axes, whatever the
            input's.
        anchor_scales: per FPN level (the features' levels, then the extra ones) the scales in
            pixels.
        anchor_ratios: width / height, in the order of the head's channels.
        use_square_anchors: height = width (a slip of the authors that the published weights depend
            on).
        fpn_channels: width of FPN, prototype network and head.
        num_extra_levels: levels made by stride-2 convolutions of the last one.
        num_prototypes: prototypes, and coefficients of a prior.
        positive_iou: priors that overlap an object at least so much are positive.
        negative_iou: priors that overlap no object so much are negative; between them neutral.
        crowd_iou: negatives of which more than this share lies in a crowd region are neutral.
        negatives_per_positive: hardest negatives that train the class loss, per positive.
        max_mask_positives: positives of an image that train the mask loss, drawn at random.
        min_box_size: smaller objects (pixels of the network input) do not train.
        box_weight, class_weight, mask_weight, semantic_weight, mask_score_weight: weights of the
            losses.
        use_mask_scoring: predict each mask's IoU and rescore by it (YOLACT++).
        min_scored_area: smaller masks (cells) do not train the mask score.
        rescore_boxes: the mask's IoU scales the box's score too, not only the mask's.
        score_threshold: priors whose best class does not exceed it are dropped before the NMS.
        filter_class_scores: drop every class score up to the threshold; without it all classes of a
            kept prior compete, as in the authors' evaluation (+0.2 mask AP by their account).
        nms: "fast" per class, "fast_cross_class", or "traditional" (greedy, boxes one pixel wider).
        nms_iou: overlap from which on boxes suppress each other.
        nms_candidates: best boxes (per class) that enter Fast NMS.
        max_detections: detections of an image.
        crop_masks: cut the masks to their boxes.
        integer_boxes: cut final boxes to whole pixels, as the authors do.

    Raises:
        ValueError: an option is out of its range, or the lists disagree in length.
    """

    # Layers whose size follows num_classes, with the number of outputs they add for the background.
    CLASS_LAYERS = (("head.conf_layer", 1), ("semantic_seg_conv", 0), ("mask_iou_net.layers.10", 0))

    def __init__(
        self,
        in_channels: list[int],
        strides: list[int],
        *,
        num_classes: int = 80,
        max_size: int = 550,
        anchor_scales: tuple[tuple[float, ...], ...] = (
            (24.0,),
            (48.0,),
            (96.0,),
            (192.0,),
            (384.0,),
        ),
        anchor_ratios: tuple[float, ...] = (1.0, 0.5, 2.0),
        use_square_anchors: bool = True,
        fpn_channels: int = 256,
        num_extra_levels: int = 2,
        num_prototypes: int = 32,
        positive_iou: float = 0.5,
        negative_iou: float = 0.4,
        crowd_iou: float = 0.7,
        negatives_per_positive: int = 3,
        max_mask_positives: int = 100,
        min_box_size: float = 1.0,
        box_weight: float = 1.5,
        class_weight: float = 1.0,
        mask_weight: float = 6.125,
        semantic_weight: float = 1.0,
        mask_score_weight: float = 25.0,
        use_mask_scoring: bool = False,
        min_scored_area: float = 25.0,
        rescore_boxes: bool = False,
        score_threshold: float = 0.05,
        filter_class_scores: bool = False,
        nms: str = "fast",
        nms_iou: float = 0.5,
        nms_candidates: int = 200,
        max_detections: int = 100,
        crop_masks: bool = True,
        integer_boxes: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.max_size = max_size
        self.anchor_scales = anchor_scales
        self.anchor_ratios = anchor_ratios
        self.use_square_anchors = use_square_anchors
        self.positive_iou = positive_iou
        self.negative_iou = negative_iou
        self.crowd_iou = crowd_iou
        self.negatives_per_positive = negatives_per_positive
        self.max_mask_positives = max_mask_positives
        self.min_box_size = min_box_size
        self.box_weight = box_weight
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.semantic_weight = semantic_weight
        self.mask_score_weight = mask_score_weight
        self.min_scored_area = min_scored_area
        self.rescore_boxes = rescore_boxes
        self.score_threshold = score_threshold
        self.filter_class_scores = filter_class_scores
        self.nms = nms
        self.nms_iou = nms_iou
        self.nms_candidates = nms_candidates
        self.max_detections = max_detections
        self.crop_masks = crop_masks
        self.integer_boxes = integer_boxes
        self._check(in_channels, strides, num_extra_levels)

        anchors = len(anchor_scales[0]) * len(anchor_ratios)
        self.fpn = YolactFPN(
            in_channels, out_channels=fpn_channels, num_extra_levels=num_extra_levels
        )
        self.proto_net = _prototype_network(fpn_channels, num_prototypes)
        self.head = PredictionHead(fpn_channels, anchors, num_classes, num_prototypes)
        self.semantic_seg_conv = nn.Conv2d(fpn_channels, num_classes, 1)
        self.mask_iou_net = MaskIoUNet(num_classes) if use_mask_scoring else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        self._priors: dict[tuple, Tensor] = {}

    def forward(self, features: list[Tensor]) -> YolactOutputs:
        """Features (B, channels, h, w), finest first -> raw outputs."""
        levels = self.fpn(features)
        boxes, classes, coefficients = zip(*[self.head(level) for level in levels], strict=True)
        return YolactOutputs(
            torch.cat(boxes, 1),
            torch.cat(classes, 1),
            torch.cat(coefficients, 1),
            F.relu(self.proto_net(levels[0])),
            self.semantic_seg_conv(levels[0]),
            self.priors([tuple(level.shape[-2:]) for level in levels], levels[0].device),
        )

    def priors(self, level_sizes: list[tuple[int, int]], device: torch.device) -> Tensor:
        """(P, 4) cxcywh in [0, 1] for levels of these sizes (height, width); kept for the next
        call."""
        key = (*level_sizes, device)
        if key not in self._priors:
            priors = make_priors(
                level_sizes,
                self.anchor_scales,
                self.anchor_ratios,
                self.max_size,
                use_square_anchors=self.use_square_anchors,
            )
            self._priors = {key: priors.to(device)}
        return self._priors[key]

    def losses(self, outputs: YolactOutputs, targets: list[Targets]) -> dict[str, Tensor]:
        """loss_box, loss_class, loss_mask, loss_semantic and, with mask scoring, loss_mask_score.

        All but the semantic one are divided by the positives of this process's batch, the semantic
        one by its images; always finite, and every parameter has a gradient, with or without
        objects.
        """
        return losses(self, outputs, targets)

    def decode(
        self, outputs: YolactOutputs, image_sizes: list[tuple[int, int]]
    ) -> list[Detections]:
        """Detections in pixels of the network input, masks unfinished at the prototypes'
        resolution.

        Args:
            outputs: raw outputs of a batch.
            image_sizes: per image (H, W) that relative coordinates refer to: the batched input's
                size.
        """
        return decode(self, outputs, image_sizes)

    def decode_fixed(self, outputs: YolactOutputs, image_size: tuple[int, int]) -> FixedDetections:
        """As `decode`, in tensors of fixed size, for exported graphs.

        Raises:
            ValueError: nms="traditional", which has no fixed size.
        """
        return decode_fixed(self, outputs, image_size)

    def _check(self, in_channels: list[int], strides: list[int], num_extra_levels: int) -> None:
        levels = len(in_channels) + num_extra_levels
        if list(strides) != sorted(strides) or len(strides) != len(in_channels):
            raise ValueError(
                "Yolact needs one stride per feature, finest first; "
                f"got in_channels={in_channels}, strides={strides}"
            )
        if len(self.anchor_scales) != levels or len({len(s) for s in self.anchor_scales}) != 1:
            raise ValueError(
                f"anchor_scales needs one list of equal length for each of the {levels} levels "
                f"({len(in_channels)} features + num_extra_levels), got {self.anchor_scales}"
            )
        if self.nms not in NMS_KINDS:
            raise ValueError(f"nms must be one of {NMS_KINDS}, got {self.nms!r}")
        for name in ("num_classes", "max_size", "max_detections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.negative_iou <= self.positive_iou <= 1:
            raise ValueError(
                f"0 <= negative_iou <= positive_iou <= 1 must hold, got negative_iou="
                f"{self.negative_iou}, positive_iou={self.positive_iou}"
            )


class YolactFPN(nn.Module):
    """The authors' feature pyramid: bilinear top-down path, ReLU after the 3x3 convolutions.

    The extra levels are stride-2 convolutions of the last (ReLU'd) level, without a ReLU of their
    own. `lat_layers` and `pred_layers` begin with the coarsest level, as in the authors'
    checkpoints.
    """

    def __init__(
        self, in_channels: list[int], *, out_channels: int = 256, num_extra_levels: int = 2
    ) -> None:
        super().__init__()
        width = out_channels
        self.lat_layers = nn.ModuleList(nn.Conv2d(c, width, 1) for c in reversed(in_channels))
        self.pred_layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in in_channels)
        self.downsample_layers = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(num_extra_levels)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Features, finest first -> levels of equal width, finest first."""
        levels: list[Tensor] = []
        merged = None
        for feature, lateral, smooth in zip(
            reversed(features), self.lat_layers, self.pred_layers, strict=True
        ):
            size = feature.shape[-2:]
            top = 0 if merged is None else F.interpolate(merged, size=size, mode="bilinear")
            merged = lateral(feature) + top
            levels.insert(0, F.relu(smooth(merged)))
        for downsample in self.downsample_layers:
            levels.append(downsample(levels[-1]))
        return levels


class PredictionHead(nn.Module):
    """Boxes, classes and coefficients of all anchors of a level; one head serves all levels."""

    def __init__(self, channels: int, anchors: int, num_classes: int, num_prototypes: int) -> None:
        super().__init__()
        self.upfeature = nn.Conv2d(channels, channels, 3, padding=1)
        self.bbox_layer = nn.Conv2d(channels, anchors * 4, 3, padding=1)
        self.conf_layer = nn.Conv2d(channels, anchors * (num_classes + 1), 3, padding=1)
        self.mask_layer = nn.Conv2d(channels, anchors * num_prototypes, 3, padding=1)
        self.anchors = anchors

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, channels, h, w) -> (B, hwA, 4), (B, hwA, 1 + C), (B, hwA, K)."""
        hidden = F.relu(self.upfeature(level))
        boxes, classes, coefficients = (
            self._per_prior(layer(hidden))
            for layer in (self.bbox_layer, self.conf_layer, self.mask_layer)
        )
        return boxes, classes, coefficients.tanh()

    def _per_prior(self, maps: Tensor) -> Tensor:
        batch, channels = maps.shape[:2]
        return maps.permute(0, 2, 3, 1).reshape(batch, -1, channels // self.anchors)


class MaskIoUNet(nn.Module):
    """Predicts the IoU of a mask with its object, for every class (YOLACT++, Sec. 6.1)."""

    WIDTHS = (8, 16, 32, 64, 128)
    MIN_SIZE = 63

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width in self.WIDTHS:
            layers += [nn.Conv2d(channels, width, 3, stride=2), nn.ReLU()]
            channels = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, num_classes, 1), nn.ReLU())

    def forward(self, masks: Tensor) -> Tensor:
        """(G, h, w) cropped probabilities -> (G, C) IoUs.

        Raises:
            ValueError: masks smaller than 63 x 63, which the unpadded convolutions use up.
        """
        if min(masks.shape[-2:]) < self.MIN_SIZE:
            raise ValueError(
                f"use_mask_scoring needs prototypes of at least {self.MIN_SIZE}x{self.MIN_SIZE} "
                f"cells, got {tuple(masks.shape[-2:])}: use an input of 250 pixels or more, "
                "or switch it off"
            )
        precision = next(self.parameters()).dtype  # the masks are float32, the model may be half
        return self.layers(masks[:, None].to(precision)).amax((2, 3)).to(masks.dtype)


def _prototype_network(channels: int, num_prototypes: int) -> nn.Sequential:
    """The protonet with the authors' layer indices; its last ReLU is applied by the caller."""

    def conv() -> nn.Conv2d:
        return nn.Conv2d(channels, channels, 3, padding=1)

    return nn.Sequential(
        *(conv(), nn.ReLU(), conv(), nn.ReLU(), conv(), nn.ReLU()),
        *(nn.Upsample(scale_factor=2, mode="bilinear"), nn.ReLU()),
        *(conv(), nn.ReLU(), nn.Conv2d(channels, num_prototypes, 1)),
    )
