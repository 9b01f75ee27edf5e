"""Semantic segmentation alone in Detectron2."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

from metaheads import architectures
from metaheads.hosts.detectron2.models import HostedInstances


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
