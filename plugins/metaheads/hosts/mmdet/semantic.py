"""Semantic segmentation alone in MMDetection, and UPSNet's semantic head in its Panoptic FPN.

model = dict(type="metaheads.SemanticSegmenter", data_preprocessor=..., backbone=..., neck=...,
             core=dict(in_channels=..., strides=..., num_classes=..., head="fcn"))
model = dict(type="PanopticFPN", ...,
             semantic_head=dict(type="metaheads.UPSNetSemanticHead", widths=(128, 128), ...))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.models.seg_heads import PanopticFPNHead
from mmdet.models.seg_heads.base_semantic_head import BaseSemanticHead
from mmdet.structures import SampleList
from mmengine.structures import PixelData
from torch import Tensor

from metaheads import architectures
from metaheads.architectures.upsnet import SemanticHead
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


@MODELS.register_module()
class UPSNetSemanticHead(PanopticFPNHead):
    """UPSNet's deformable head on P2 to P5 in the place of Panoptic FPN's; classes (all things
    together are one) and loss stay MMDetection's.

    Args:
        in_channels: of every level.
        widths: of the deformable layers.
        others: as of PanopticFPNHead.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        widths: tuple[int, ...],
        num_things_classes: int,
        num_stuff_classes: int,
        loss_seg: dict,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            num_things_classes,
            num_stuff_classes,
            end_level=0,  # without its levels
            loss_seg=loss_seg,
            init_cfg=init_cfg,
        )
        del self.conv_logits
        self.head = SemanticHead([in_channels] * 4, self.num_classes, tuple(widths))

    def init_weights(self) -> None:
        BaseSemanticHead.init_weights(self)

    def forward(self, x: Sequence[Tensor]) -> dict[str, Tensor]:
        """Features, finest first -> seg_preds (B, S + 1, h, w), and seg_feats they are made of."""
        scores, features = self.head(list(x[:4]))
        return {"seg_preds": scores, "seg_feats": features}
