"""Semantic segmentation alone in MMDetection.

model = dict(type="metaheads.SemanticSegmenter", data_preprocessor=..., backbone=..., neck=...,
             core=dict(in_channels=..., strides=..., num_classes=..., head="fcn"))
"""

from __future__ import annotations

from typing import Any

from mmdet.structures import SampleList
from mmengine.structures import PixelData
from torch import Tensor

from metaheads import architectures
from metaheads.hosts.mmdet.models import HostedInstances, to_geometry
from metaheads.hosts.mmdet.registry import MODELS


class HostedSemantic(HostedInstances):
    """A semantic architecture in MMDetection; subclasses name it in `core_class`.

    Args:
        all: as in `HostedInstances`; the core gets as many of the features as its `in_channels`
            say.
    """

    def __init__(self, *, core: dict, **hosted: Any) -> None:
        super().__init__(core=core, **hosted)
        self.num_levels = len(core["in_channels"])

    def extract_feat(self, batch_inputs: Tensor) -> list[Tensor]:
        return super().extract_feat(batch_inputs)[: self.num_levels]

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Adds `pred_sem_seg` to the samples: (1, H, W) int64 panoptic labels, in the original
        image (with `rescale`) or the input."""
        geometries = [to_geometry(sample, rescale) for sample in batch_data_samples]
        found = self.core.decode(self.raw_outputs(batch_inputs), geometries)
        for sample, labels in zip(batch_data_samples, found, strict=True):
            sample.pred_sem_seg = PixelData(sem_seg=labels[None])
        return batch_data_samples


@MODELS.register_module()
class SemanticSegmenter(HostedSemantic):
    core_class = architectures.SemanticSegmenter
