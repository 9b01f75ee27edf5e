"""Prediction with an MMDetection model, for `metaheads.load`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from metaheads import weights
from metaheads.api import NO_DETECTIONS, InputFormat, core_probes, necks
from metaheads.hosts.mmdet.config import at_scales, class_names, load_config
from metaheads.hosts.mmdet.data import FixedResize, TestView
from metaheads.hosts.mmdet.models import TestTimeAugmentation
from metaheads.hosts.mmdet.registry import MODELS
from metaheads.hosts.mmdet.semantic import HostedSemantic
from metaheads.profiling import Probe
from metaheads.structures import Detections
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

    def detect(self, images: list[np.ndarray], scales: Sequence[float] = ()) -> list[Detections]:
        """(H, W, 3) uint8 RGB each -> finished detections; of our models at these scales."""
        pipeline, model = self._pipeline, self.module
        if scales:
            pipeline = Compose(copy.deepcopy(at_scales(self._steps, scales)))
            model = TestTimeAugmentation(self.module, num_views=len(scales))
        data = [
            pipeline({"img": np.ascontiguousarray(image[..., ::-1]), "img_id": 0, "img_path": ""})
            for image in images
        ]
        found = model.test_step(pseudo_collate(data))
        return [to_detections(each.pred_instances) for each in found]

    def probes(self) -> list[Probe]:
        module = self.module
        found: list[Probe] = [
            (self, "_pipeline", "preprocess"),
            (module.data_preprocessor, "forward", "preprocess"),
            (module, "predict", "heads"),
            (module.backbone, "forward", "backbone"),
            *((part, "forward", "neck") for part in necks(module)),
        ]
        for name, part in module.named_modules():  # MMDetection's heads
            if hasattr(part, "predict_by_feat"):
                found.append((part, "predict_by_feat", "masks" if "mask" in name else "decode"))
        return found + core_probes(module)

    def checkpoint(self) -> dict[str, Any]:
        """The weights, and the class names where `init_detector` looks for them."""
        meta = {"dataset_meta": {"classes": self.class_names}}
        return {"meta": meta, "state_dict": self.module.state_dict()}


def _input_format(preprocessor: Any, size: tuple[int, int] | None) -> InputFormat:
    mean, std = (tuple(getattr(preprocessor, name).flatten().tolist()) for name in ("mean", "std"))
    swapped = getattr(preprocessor, "_channel_conversion", False)  # MMDetection reads BGR
    return InputFormat(size and tuple(size), mean, std, "RGB" if swapped else "BGR")


def build(
    path: Path, checkpoint: str | Path | None, device: str, trust_checkpoint: bool
) -> HostedModel:
    """The model of a config with a checkpoint of either host, in evaluation mode.

    Raises:
        ValueError: a model that gives no detections.
    """
    register_all_modules()
    cfg = load_config(path, [], work_dir=None)
    module = MODELS.build(cfg.model)
    if isinstance(module, HostedSemantic):
        raise ValueError(f"{path}: {NO_DETECTIONS}")
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
    )
