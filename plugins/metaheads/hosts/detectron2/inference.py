"""Prediction with a Detectron2 model, for `metaheads.load`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms
from detectron2.modeling.meta_arch import dense_detector, panoptic_fpn, rcnn
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Instances

from metaheads.api import InputFormat, core_probes, necks
from metaheads.hosts.detectron2.config import test_size
from metaheads.hosts.detectron2.datasets import class_names, panoptic_class_names
from metaheads.hosts.detectron2.panoptic import HostedPanoptic
from metaheads.hosts.detectron2.semantic import HostedSemantic
from metaheads.hosts.detectron2.train import build_model, load_config
from metaheads.profiling import Probe
from metaheads.structures import Detections, PanopticSegmentation, Segment

# Each has the function under its own name.
_POSTPROCESSING = (
    (rcnn, "detector_postprocess", "masks"),
    (dense_detector, "detector_postprocess", "masks"),
    (panoptic_fpn, "detector_postprocess", "masks"),
    (panoptic_fpn, "sem_seg_postprocess", "masks"),
    (panoptic_fpn, "combine_semantic_and_instance_outputs", "decode"),
)
_DECODING = ("predict_proposals", "inference_single_image")  # of RPN, of dense detectors


class HostedModel:
    """A Detectron2 model (ours or the host's) with the test-time geometry of its config."""

    def __init__(self, cfg: CfgNode, module: torch.nn.Module) -> None:
        self.module = module
        self.num_things = _num_things(cfg, module)
        is_panoptic = self.num_things is not None
        self.class_names = (panoptic_class_names if is_panoptic else class_names)(cfg)
        mean, std = tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD)
        self.input_format = InputFormat(test_size(cfg), mean, std, cfg.INPUT.FORMAT)
        smallest, largest = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
        self._resize = transforms.ResizeShortestEdge(smallest, largest)  # 0: nothing

    def detect(self, images: list[np.ndarray], scales: Sequence[float] = ()) -> list[Detections]:
        """(H, W, 3) uint8 RGB each -> finished detections; of our models at these scales."""
        inputs = [self._prepare(image) for image in images]
        if scales:
            return self.module.predict(inputs, scales)
        return [to_detections(each["instances"]) for each in self.module(inputs)]

    def segment(self, images: list[np.ndarray]) -> list[PanopticSegmentation]:
        """(H, W, 3) uint8 RGB each -> segmentations; of panoptic and semantic models."""
        outputs = self.module([self._prepare(image) for image in images])
        return [to_segmentation(each, self.num_things) for each in outputs]

    def _prepare(self, image: np.ndarray) -> dict[str, Any]:
        height, width = image.shape[:2]
        if self.input_format.channels == "BGR":
            image = image[..., ::-1]
        image = self._resize.get_transform(image).apply_image(image)
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return {"image": pixels, "height": height, "width": width}

    def probes(self) -> list[Probe]:
        module = self.module
        found: list[Probe] = [
            (self, "_prepare", "preprocess"),
            (module, "forward", "heads"),
            *((part, "forward", "neck") for part in necks(module)),
        ]
        body = getattr(module.backbone, "bottom_up", None)
        if body is not None:  # a pyramid around it
            found.append((module.backbone, "forward", "neck"))
        found.append((body or module.backbone, "forward", "backbone"))
        for name in ("_network_image", "_pad", "preprocess_image"):
            if hasattr(module, name):
                found.append((module, name, "preprocess"))
        for part in module.modules():
            found += [(part, name, "decode") for name in _DECODING if hasattr(part, name)]
            if isinstance(part, FastRCNNOutputLayers):
                found.append((part, "inference", "decode"))
        return [*found, *_POSTPROCESSING, *core_probes(module)]

    def checkpoint(self) -> dict[str, Any]:
        """The weights, as DetectionCheckpointer reads them."""
        return {"model": self.module.state_dict()}


def _num_things(cfg: CfgNode, module: torch.nn.Module) -> int | None:
    """How many classes of a panoptic model are things, none of a semantic one; None of others."""
    if isinstance(module, HostedSemantic):
        return 0
    is_panoptic = isinstance(module, HostedPanoptic | panoptic_fpn.PanopticFPN)
    return cfg.MODEL.ROI_HEADS.NUM_CLASSES if is_panoptic else None


def build(
    path: Path, checkpoint: str | Path | None, device: str, trust_checkpoint: bool
) -> HostedModel:
    """The model of a config with a checkpoint of either host, in evaluation mode.

    Raises:
        ValueError: a LazyConfig, which does not say how an image becomes the model's input.
    """
    if path.suffix == ".py":
        raise ValueError(f"{path} is a LazyConfig; prediction needs a .yaml config")
    cfg = load_config(path, [("MODEL.DEVICE", device)])
    if checkpoint is None:
        cfg.MODEL.WEIGHTS = ""
    module = build_model(cfg, checkpoint, trust_checkpoint=trust_checkpoint)
    return HostedModel(cfg, module)


def to_detections(instances: Instances) -> Detections:
    """Detectron2's predictions in the original image -> finished detections."""
    fields = instances.get_fields()
    return Detections(
        boxes=instances.pred_boxes.tensor,
        scores=instances.scores,
        labels=instances.pred_classes,
        masks=fields.get("pred_masks"),
        mask_scores=fields.get("mask_scores"),
        keypoints=_keypoints(fields),
        vertices=fields.get("pred_vertices"),
    )


def to_segmentation(output: dict[str, Any], num_things: int) -> PanopticSegmentation:
    """What a panoptic model, ours or Detectron2's own, or a semantic one gives of an image -> our
    segmentation."""
    if "segmentation" in output:
        return output["segmentation"]
    if "panoptic_seg" not in output:
        return PanopticSegmentation.from_labels(output["sem_seg"].argmax(0))
    ids, infos = output["panoptic_seg"]
    segments = []
    for each in infos:
        is_thing, label = bool(each["isthing"]), each["category_id"]
        label = label if is_thing else label - 1 + num_things  # its stuff counts from 1
        segments.append(Segment(each["id"], label, is_thing, each.get("score")))
    return PanopticSegmentation(ids.int(), segments)


def _keypoints(fields: dict[str, Any]) -> torch.Tensor | None:
    """As a file has them: Detectron2 adds half a pixel; its own heads add the score of a map."""
    found = fields.get("pred_keypoints")
    return None if found is None else found[..., :3] - found.new_tensor([0.5, 0.5, 0])
