"""Panoptic architectures on Detectron2's RPN and RoI heads.

Letters: B images, R proposals, T thing classes, N objects or detections, m side of mask logits,
H, W pixels of the batched input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_proposal_generator, build_roi_heads
from detectron2.structures import BitMasks, Boxes, ImageList, Instances
from torch import Tensor, nn

from metaheads import architectures
from metaheads.architectures.upsnet.regions import pool_inclusive, round_anchors
from metaheads.hosts.detectron2.models import (
    HostedInstances,
    original_size,
    spell_image,
    to_instances,
    to_targets,
)
from metaheads.losses import check_finite
from metaheads.structures import Detections, Geometry, PanopticSegmentation, RegionOutputs, Targets


class HostedPanoptic(HostedInstances):
    """A panoptic architecture in Detectron2; subclasses name it in `core_class`.

    Args:
        proposal_generator, roi_heads: Detectron2's RPN and StandardROIHeads with a mask head.
        others: as in `HostedInstances`.
    """

    @configurable
    def __init__(
        self, *, proposal_generator: nn.Module, roi_heads: nn.Module, **hosted: Any
    ) -> None:
        super().__init__(**hosted)
        self.proposal_generator, self.roi_heads = proposal_generator, roi_heads
        if self.core.inclusive_boxes:
            self._use_inclusive_boxes()

    def _use_inclusive_boxes(self) -> None:
        anchors = self.proposal_generator.anchor_generator
        for cells, stride in zip(anchors.cell_anchors, anchors.strides, strict=True):
            cells.copy_(round_anchors(cells, stride) - anchors.offset * stride)
        for pooler in (self.roi_heads.box_pooler, self.roi_heads.mask_pooler):
            for layer in pooler.level_poolers:
                pool_inclusive(layer)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        hosted = super().from_config(cfg)
        shapes = hosted["backbone"].output_shape()
        return {
            **hosted,
            "proposal_generator": build_proposal_generator(cfg, shapes),
            "roi_heads": build_roi_heads(cfg, shapes),
        }

    @staticmethod
    def feature_names(cfg: CfgNode) -> list[str]:
        return list(cfg.MODEL.ROI_HEADS.IN_FEATURES)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Detectron2's inputs -> losses in training, else per image "panoptic_seg" (ids (H, W),
        segments_info), as Panoptic FPN gives them, "instances", and "segmentation", our own.

        Args:
            batched_inputs: as in `HostedInstances`; in training also "semantic" (h, w).
        """
        if self.training:
            return self._losses(batched_inputs)
        batch, geometries = self._batch(batched_inputs)
        results = []
        for inputs, (segmentation, found) in zip(
            batched_inputs, self._segment(batch, geometries), strict=True
        ):
            results.append(
                {
                    "panoptic_seg": to_panoptic_seg(segmentation, self.core.num_things),
                    "instances": to_instances(found, original_size(inputs)),
                    "segmentation": segmentation,
                }
            )
        return results

    def raw_outputs(self, images: Tensor, boxes: list[Tensor] | None = None) -> RegionOutputs:
        """(B, 3, H, W) normalised images, and of each boxes (R, 4) -> all raw outputs."""
        features = self.backbone(images)
        rpn = self.proposal_generator
        logits, deltas = rpn.rpn_head([features[name] for name in rpn.in_features])
        outputs = self.core([features[name] for name in self.features])
        if boxes is None:
            return RegionOutputs(outputs, logits, deltas)
        classes, box_deltas = self._classify(features, boxes)
        return RegionOutputs(
            outputs, logits, deltas, classes, box_deltas, self._mask_logits(features, boxes)
        )

    def _losses(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch, geometries = self._batch(batched_inputs)
        size = (batch.shape[-2], batch.shape[-1])
        targets = [
            to_targets(
                each["instances"].to(self.device),
                geometry.input_size,
                size,
                semantic=each["semantic"].to(self.device),
            )
            for each, geometry in zip(batched_inputs, geometries, strict=True)
        ]
        features = self.backbone(batch)
        images = ImageList(batch, [geometry.input_size for geometry in geometries])
        truth = [to_truth(target) for target in targets]
        proposals, losses = self.proposal_generator(images, features, truth)
        losses |= self.roi_heads(images, features, proposals, truth)[1]
        objects = [target[~target.is_crowd] for target in targets]
        masks = self.masks_of(features, objects)
        own = self.core.losses(
            self.core([features[name] for name in self.features]), targets, masks
        )
        check_finite(own, [spell_image(each) for each in batched_inputs], targets)
        return {**losses, **own}

    def _segment(
        self, batch: Tensor, geometries: list[Geometry]
    ) -> list[tuple[PanopticSegmentation, Detections]]:
        features = self.backbone(batch)
        images = ImageList(batch, [geometry.input_size for geometry in geometries])
        proposals, _ = self.proposal_generator(images, features, None)
        boxes = [each.proposal_boxes.tensor for each in proposals]
        found = self._detect(features, boxes, geometries)
        masks = self.masks_of(features, found)
        outputs = self.core([features[name] for name in self.features])
        segmentations = self.core.decode(outputs, found, masks, geometries)
        results = []
        for segmentation, each, mask, geometry in zip(
            segmentations, found, masks, geometries, strict=True
        ):
            each.masks, each.mask_frames = mask.sigmoid(), each.boxes
            results.append((segmentation, each.finish(geometry)))
        return results

    def _detect(
        self, features: dict[str, Tensor], proposals: list[Tensor], geometries: list[Geometry]
    ) -> list[Detections]:
        counts = [len(each) for each in proposals]
        logits, deltas = self._classify(features, proposals)
        predictor = self.roi_heads.box_predictor
        boxes = predictor.box2box_transform.apply_deltas(deltas, torch.cat(proposals))
        probabilities = logits.softmax(1)[:, :-1].split(counts)
        found = []
        for each, probability, geometry in zip(
            boxes.split(counts), probabilities, geometries, strict=True
        ):
            each = each.unflatten(1, (-1, 4))
            found.append(self.core.select(each, probability, geometry.input_size))
        return found

    def _classify(self, features: dict[str, Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        heads = self.roi_heads
        levels = [features[name] for name in heads.box_in_features]
        pooled = heads.box_pooler(levels, [Boxes(each) for each in boxes])
        return heads.box_predictor(heads.box_head(pooled))

    def _mask_logits(self, features: dict[str, Tensor], boxes: Sequence[Tensor]) -> Tensor:
        heads = self.roi_heads
        levels = [features[name] for name in heads.mask_in_features]
        pooled = heads.mask_pooler(levels, [Boxes(each) for each in boxes])
        return heads.mask_head.layers(pooled)

    def masks_of(
        self, features: dict[str, Tensor], objects: Sequence[Targets | Detections]
    ) -> list[Tensor]:
        """Of each image the mask logits (N, m, m) of its objects, in their own class."""
        logits = self._mask_logits(features, [each.boxes for each in objects])
        labels = torch.cat([each.labels for each in objects])
        own = logits[torch.arange(len(logits), device=logits.device), labels]
        return list(own.split([len(each) for each in objects]))


@META_ARCH_REGISTRY.register()
class UPSNet(HostedPanoptic):
    core_class = architectures.UPSNet


def to_truth(targets: Targets) -> Instances:
    """Our targets -> Detectron2's ground truth, without crowds."""
    objects = targets[~targets.is_crowd]
    instances = Instances(targets.image_size)
    instances.gt_boxes = Boxes(objects.boxes)
    instances.gt_classes = objects.labels
    instances.gt_masks = BitMasks(objects.masks)
    return instances


def to_panoptic_seg(
    segmentation: PanopticSegmentation, num_things: int
) -> tuple[Tensor, list[dict[str, Any]]]:
    """As Detectron2's Panoptic FPN gives it: stuff classes count from 1, as 0 means things."""
    segments = [
        {
            "id": each.id,
            "isthing": each.is_thing,
            "category_id": each.label if each.is_thing else each.label - num_things + 1,
            **({"score": each.score} if each.is_thing else {}),
        }
        for each in segmentation.segments
    ]
    return segmentation.ids, segments
