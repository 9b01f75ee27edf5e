"""Prediction with an MMDetection model, for `metaheads.load`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import Tensor

from metaheads import weights
from metaheads.api import InputFormat, core_probes, necks
from metaheads.hosts.mmdet.config import at_scales, class_names, load_config
from metaheads.hosts.mmdet.data import FixedResize, TestView
from metaheads.hosts.mmdet.models import TestTimeAugmentation
from metaheads.hosts.mmdet.panoptic import HostedPanoptic
from metaheads.hosts.mmdet.registry import MODELS
from metaheads.hosts.mmdet.semantic import HostedSemantic
from metaheads.profiling import Probe
from metaheads.structures import Detections, PanopticSegmentation, Segment
from metaheads.weights.files import of_file

_SIZED = (FixedResize, TestView)  # what gives images the network's size


class HostedModel:
    """An MMDetection model (ours or the host's) with the pipeline of its test data."""

    def __init__(self, cfg: Config, module: torch.nn.Module) -> None:
        self.module = module
        dataset = cfg.test_dataloader.dataset
        self.class_names = list(class_names(dataset))
        steps = [step for step in dataset.pipeline if "Annotations" not in step.type]
        self._steps = [dict(steps[0], type="mmdet.LoadImageFromNDArray"), *steps[1:]]
        self._pipeline = Compose(copy.deepcopy(self._steps))
        ours = (step for step in self._pipeline.transforms if isinstance(step, _SIZED))
        size = next((step.size for step in ours), None)
        self.input_format = _input_format(module.data_preprocessor, size)
        self.num_things = _num_things(module)

    def detect(self, images: list[np.ndarray], scales: Sequence[float] = ()) -> list[Detections]:
        """(H, W, 3) uint8 RGB each -> finished detections; of our models at these scales."""
        samples = self._predict(images, scales)
        if self.num_things is not None and "pred_instances" not in samples[0]:
            # MMDetection's Panoptic FPN
            return [self._to_segmentation(each).things() for each in samples]
        return [to_detections(each.pred_instances) for each in samples]

    def segment(self, images: list[np.ndarray]) -> list[PanopticSegmentation]:
        """(H, W, 3) uint8 RGB each -> segmentations; of panoptic and semantic models."""
        return [self._to_segmentation(each) for each in self._predict(images)]

    def _predict(
        self, images: list[np.ndarray], scales: Sequence[float] = ()
    ) -> list[DetDataSample]:
        pipeline, model = self._pipeline, self.module
        if scales:
            pipeline = Compose(copy.deepcopy(at_scales(self._steps, scales)))
            model = TestTimeAugmentation(self.module, num_views=len(scales))
        data = [
            pipeline({"img": np.ascontiguousarray(image[..., ::-1]), "img_id": 0, "img_path": ""})
            for image in images
        ]
        return model.test_step(pseudo_collate(data))

    def _to_segmentation(self, sample: DetDataSample) -> PanopticSegmentation:
        if "segmentation" in sample:  # ours
            return sample.segmentation
        if "pred_sem_seg" in sample:
            return PanopticSegmentation.from_labels(sample.pred_sem_seg.sem_seg[0])
        head = self.module.panoptic_fusion_head
        counts = head.num_things_classes, head.num_stuff_classes
        return to_segmentation(sample.pred_panoptic_seg.sem_seg[0], *counts)

    def probes(self) -> list[Probe]:
        module = self.module
        found: list[Probe] = [
            (self, "_pipeline", "preprocess"),
            (module.data_preprocessor, "forward", "preprocess"),
            (module, "predict", "heads"),
            (module.backbone, "forward", "backbone"),
            *((part, "forward", "neck") for part in necks(module)),
        ]
        if hasattr(module, "panoptic_fusion_head"):
            found.append((module.panoptic_fusion_head, "predict", "decode"))
        for name, part in module.named_modules():  # MMDetection's heads
            if hasattr(part, "predict_by_feat"):
                found.append((part, "predict_by_feat", "masks" if "mask" in name else "decode"))
        return found + core_probes(module)

    def checkpoint(self) -> dict[str, Any]:
        """The weights, and the class names where `init_detector` looks for them."""
        meta = {"dataset_meta": {"classes": self.class_names}}
        return {"meta": meta, "state_dict": self.module.state_dict()}


def _num_things(module: Any) -> int | None:
    """How many classes of a panoptic model are things, none of a semantic one; None of others."""
    if isinstance(module, HostedSemantic):
        return 0
    if isinstance(module, HostedPanoptic):
        return module.core.num_things
    head = getattr(module, "panoptic_fusion_head", None)  # MMDetection's own
    return None if head is None else head.num_things_classes


def _input_format(preprocessor: Any, size: tuple[int, int] | None) -> InputFormat:
    mean, std = (tuple(getattr(preprocessor, name).flatten().tolist()) for name in ("mean", "std"))
    swapped = getattr(preprocessor, "_channel_conversion", False)  # MMDetection reads BGR
    return InputFormat(size and tuple(size), mean, std, "RGB" if swapped else "BGR")


def build(
    path: Path, checkpoint: str | Path | None, device: str, trust_checkpoint: bool
) -> HostedModel:
    """The model of a config with a checkpoint of either host, in evaluation mode.

    Raises:
        ValueError: no config of MMDetection, or a checkpoint that does not fit it.
    """
    register_all_modules()
    cfg = load_config(path, [], work_dir=None)
    module = MODELS.build(cfg.model)
    if checkpoint is not None:
        state = weights.read_checkpoint(checkpoint, trust=trust_checkpoint)
        with of_file(checkpoint):
            weights.load_into(module, state)
    return HostedModel(cfg, module.to(device).eval())


def to_detections(instances) -> Detections:
    """MMDetection's predictions, in the original image -> finished detections."""
    return Detections(
        boxes=instances.bboxes,
        scores=instances.scores,
        labels=instances.labels,
        masks=instances.get("masks"),
        mask_scores=instances.get("mask_scores"),
        keypoints=instances.get("keypoints"),
        vertices=instances.get("vertices"),
    )


def to_segmentation(values: Tensor, num_things: int, num_stuff: int) -> PanopticSegmentation:
    """MMDetection's (H, W) label + INSTANCE_OFFSET x number, higher labels void -> our own; the
    things have no scores."""
    found, places = values.unique(return_inverse=True)
    ids, segments = torch.zeros_like(found, dtype=torch.int32), []
    for place, value in enumerate(found.tolist()):
        label = value % INSTANCE_OFFSET
        if label < num_things + num_stuff:
            segments.append(Segment(len(segments) + 1, label, label < num_things))
            ids[place] = len(segments)
    return PanopticSegmentation(ids[places], segments)
