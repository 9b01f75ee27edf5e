"""Semantic segmentation alone in Detectron2, and UPSNet's semantic head in its own models."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from metaheads import architectures
from metaheads.architectures.upsnet import SemanticHead
from metaheads.hosts.detectron2.config import options_of
from metaheads.hosts.detectron2.models import HostedInstances
from metaheads.losses import IGNORED, known_cross_entropy


class HostedSemantic(HostedInstances):
    """A semantic architecture in Detectron2; subclasses name it in `core_class`.

    The core gets the features of MODEL.SEM_SEG_HEAD.IN_FEATURES, finest first.
    """

    @staticmethod
    def feature_names(cfg: CfgNode) -> list[str]:
        return list(cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Detectron2's inputs -> losses in training, else per image "sem_seg": (C, height, width)
        logits of the panoptic labels.

        Args:
            batched_inputs: as in `HostedInstances`; in training also "semantic" (h, w).
        """
        if self.training:
            return super().forward(batched_inputs)
        batch, geometries = self._batch(batched_inputs)
        found = self.core.decode_scores(self.raw_outputs(batch), geometries)
        return [{"sem_seg": scores} for scores in found]


@META_ARCH_REGISTRY.register()
class SemanticSegmenter(HostedSemantic):
    core_class = architectures.SemanticSegmenter


@SEM_SEG_HEADS_REGISTRY.register()
class UPSNetSemanticHead(nn.Module):
    """UPSNet's deformable head as MODEL.SEM_SEG_HEAD.NAME of Detectron2's PanopticFPN and
    SemanticSegmentor; its IN_FEATURES, NUM_CLASSES, LOSS_WEIGHT and IGNORE_VALUE count, and
    MODEL.UPSNET.HEAD_WIDTHS.

    Args:
        input_shape: of the features that it takes.
        widths: of the deformable layers.
        ignore_value: class of pixels that train nothing.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        num_classes: int,
        widths: tuple[int, ...],
        loss_weight: float,
        ignore_value: int,
    ) -> None:
        super().__init__()
        levels = sorted(input_shape.items(), key=lambda level: level[1].stride)
        self.in_features = [name for name, _ in levels]
        self.stride = levels[0][1].stride
        self.loss_weight, self.ignore_value = loss_weight, ignore_value
        self.head = SemanticHead([shape.channels for _, shape in levels], num_classes, widths)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": {name: input_shape[name] for name in node.IN_FEATURES},
            "num_classes": node.NUM_CLASSES,
            "widths": options_of(cfg, architectures.UPSNet)["head_widths"],
            "loss_weight": node.LOSS_WEIGHT,
            "ignore_value": node.IGNORE_VALUE,
        }

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Features, and in training classes (B, H, W) -> None and the loss, else logits
        (B, C, H, W) and no loss."""
        scores, _ = self.head([features[name] for name in self.in_features])
        scores = F.interpolate(
            scores.float(), scale_factor=self.stride, mode="bilinear", align_corners=False
        )
        if not self.training:
            return scores, {}
        assert targets is not None, "Detectron2 gives a head in training its targets"
        labels = targets.masked_fill(targets == self.ignore_value, IGNORED)
        return None, {"loss_sem_seg": self.loss_weight * known_cross_entropy(scores, labels)}
