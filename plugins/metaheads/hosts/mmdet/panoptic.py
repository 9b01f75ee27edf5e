"""Panoptic architectures on MMDetection's RPN and RoI heads.

    model = dict(type="metaheads.UPSNet", data_preprocessor=..., backbone=..., neck=...,
                 rpn_head=..., roi_head=..., train_cfg=..., test_cfg=...,  # as of Mask R-CNN
                 core=dict(in_channels=..., strides=..., num_things=..., num_stuff=...))

Letters: B images, R proposals, T thing classes, N objects or detections, m side of mask logits,
H, W pixels of the batched input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.models.necks import FPN
from mmdet.structures import DetDataSample, SampleList
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from metaheads import architectures
from metaheads.architectures.upsnet.regions import pool_inclusive, round_anchors
from metaheads.augment import check_views
from metaheads.hosts.mmdet.models import (
    HostedInstances,
    to_geometry,
    to_instance_data,
    to_targets,
)
from metaheads.hosts.mmdet.registry import MODELS
from metaheads.losses import check_finite
from metaheads.structures import Detections, Geometry, PanopticSegmentation, RegionOutputs, Targets


class HostedPanoptic(HostedInstances):
    """A panoptic architecture in MMDetection; subclasses name it in `core_class`.

    Args:
        rpn_head, roi_head, train_cfg, test_cfg: as of MMDetection's Mask R-CNN; `test_cfg.rcnn` is
            not used, the core selects the detections.
        others: as in `HostedInstances`; the core gets as many of the neck's features as its
            `in_channels` say.
    """

    def __init__(
        self,
        *,
        rpn_head: dict,
        roi_head: dict,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        **hosted: Any,
    ) -> None:
        super().__init__(**hosted)
        self.train_cfg, self.test_cfg = train_cfg or {}, test_cfg or {}
        check_views(self.core, flip=self.test_cfg.get("flip", False), scales=(1.0,))
        rpn = {"num_classes": 1, **rpn_head, "train_cfg": self.train_cfg.get("rpn")}
        self.rpn_head = MODELS.build({**rpn, "test_cfg": self.test_cfg.get("rpn")})
        roi = {**roi_head, "train_cfg": self.train_cfg.get("rcnn")}
        self.roi_head = MODELS.build({**roi, "test_cfg": self.test_cfg.get("rcnn")})
        self.num_levels = len(hosted["core"]["in_channels"])
        if self.core.inclusive_boxes:
            self._use_inclusive_boxes()

    def _use_inclusive_boxes(self) -> None:
        anchors = self.rpn_head.prior_generator
        cells = zip(anchors.base_anchors, anchors.strides, strict=True)
        anchors.base_anchors = [round_anchors(each, stride) for each, (stride, _) in cells]
        for part in (self.roi_head.bbox_roi_extractor, self.roi_head.mask_roi_extractor):
            for layer in part.roi_layers:
                pool_inclusive(layer)

    def raw_outputs(self, images: Tensor, boxes: list[Tensor] | None = None) -> RegionOutputs:
        """(B, 3, H, W) normalised images, and of each boxes (R, 4) -> all raw outputs."""
        features = self.extract_feat(images)
        logits, deltas = self.rpn_head(features)
        outputs = self.core(features[: self.num_levels])
        if boxes is None:
            return RegionOutputs(outputs, logits, deltas)
        rois = bbox2roi(boxes)
        found = self.roi_head._bbox_forward(features, rois)
        masks = self.roi_head._mask_forward(features, rois)["mask_preds"]
        return RegionOutputs(outputs, logits, deltas, found["cls_score"], found["bbox_pred"], masks)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Any]:
        """The weighted losses of a batch: of RPN, RoI heads and core.

        Raises:
            FloatingPointError: a loss of the core is not finite.
        """
        size = (batch_inputs.shape[-2], batch_inputs.shape[-1])
        targets = [to_targets(sample, size, batch_inputs.device) for sample in batch_data_samples]
        features = self.extract_feat(batch_inputs)
        of_rpn = [_without_classes(sample) for sample in batch_data_samples]
        proposal_cfg = self.train_cfg.get("rpn_proposal", self.test_cfg.get("rpn"))
        losses, proposals = self.rpn_head.loss_and_predict(
            features, of_rpn, proposal_cfg=proposal_cfg
        )
        losses |= self.roi_head.loss(features, proposals, batch_data_samples)
        objects = [target[~target.is_crowd] for target in targets]
        masks = self.masks_of(features, objects)
        own = self.core.losses(self.core(features[: self.num_levels]), targets, masks)
        check_finite(own, [sample.img_path for sample in batch_data_samples], targets)
        return {**losses, **own}

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Adds `pred_panoptic_seg`, as MMDetection's Panoptic FPN gives it (label + 1000 x number,
        void is the number of classes), `pred_instances` and our own `segmentation` to the
        samples."""
        geometries = [to_geometry(sample, rescale) for sample in batch_data_samples]
        features = self.extract_feat(batch_inputs)
        proposals = self.rpn_head.predict(features, batch_data_samples, rescale=False)
        found = self._detect(features, [each.bboxes for each in proposals], geometries)
        masks = self.masks_of(features, found)
        outputs = self.core(features[: self.num_levels])
        segmentations = self.core.decode(outputs, found, masks, geometries)
        for sample, segmentation, each, mask, geometry in zip(
            batch_data_samples, segmentations, found, masks, geometries, strict=True
        ):
            each.masks, each.mask_frames = mask.sigmoid(), each.boxes
            sample.pred_instances = to_instance_data(each.finish(geometry))
            total = self.core.num_things + self.core.num_stuff
            sample.pred_panoptic_seg = PixelData(sem_seg=to_label_map(segmentation, total)[None])
            sample.set_field(segmentation, "segmentation")
        return batch_data_samples

    def _detect(
        self, features: list[Tensor], proposals: list[Tensor], geometries: list[Geometry]
    ) -> list[Detections]:
        counts, rois = [len(each) for each in proposals], bbox2roi(proposals)
        result = self.roi_head._bbox_forward(features, rois)
        probabilities = result["cls_score"].softmax(1)[:, :-1].split(counts)
        boxes = self.roi_head.bbox_head.bbox_coder.decode(rois[:, 1:], result["bbox_pred"])
        boxes = boxes.view(len(rois), -1, 4)
        found = []
        for each, probability, geometry in zip(
            boxes.split(counts), probabilities, geometries, strict=True
        ):
            found.append(self.core.select(each, probability, geometry.input_size))
        return found

    def masks_of(
        self, features: list[Tensor], objects: Sequence[Targets | Detections]
    ) -> list[Tensor]:
        """Of each image the mask logits (N, m, m) of its objects, in their own class."""
        rois = bbox2roi([each.boxes for each in objects])
        logits = self.roi_head._mask_forward(features, rois)["mask_preds"]
        labels = torch.cat([each.labels for each in objects])
        own = logits[torch.arange(len(logits), device=logits.device), labels]
        return list(own.split([len(each) for each in objects]))


@MODELS.register_module()
class GapFPN(FPN):
    """MMDetection's FPN that adds the global average of its coarsest input, through a linear layer,
    to that input's lateral (UPSNet's models of COCO). Options as in FPN."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.gap = nn.Linear(self.in_channels[-1], self.out_channels)
        self.lateral_convs[-1].register_forward_hook(self._add_gap)

    def _add_gap(self, _: nn.Module, inputs: tuple[Tensor], lateral: Tensor) -> Tensor:
        return lateral + self.gap(inputs[0].mean((2, 3)))[:, :, None, None]


@MODELS.register_module()
class UPSNet(HostedPanoptic):
    core_class = architectures.UPSNet


def _without_classes(sample: DetDataSample) -> DetDataSample:
    """What the RPN learns of an image: boxes of one class; masks and maps are not copied."""
    truth = sample.gt_instances
    boxes = InstanceData(bboxes=truth.bboxes, labels=torch.zeros_like(truth.labels))
    found = DetDataSample(metainfo=sample.metainfo, gt_instances=boxes)
    found.ignored_instances = sample.ignored_instances
    return found


def to_label_map(segmentation: PanopticSegmentation, void: int) -> Tensor:
    """(H, W) int64 labels + INSTANCE_OFFSET x number of a thing; `void` elsewhere."""
    ids = segmentation.ids.long()
    table = torch.full((int(ids.max()) + 1,), void, device=ids.device)
    number = 0
    for segment in segmentation.segments:
        number += segment.is_thing
        table[segment.id] = segment.label + INSTANCE_OFFSET * number * segment.is_thing
    return table[ids]
