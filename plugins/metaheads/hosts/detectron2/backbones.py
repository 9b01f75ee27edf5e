"""Our backbones in Detectron2's registry: `MODEL.BACKBONE.NAME: DeformableResNet` or `Darknet53`.

Their options are MODEL.DEFORMABLE_RESNET.* and MODEL.DARKNET.*; parameters keep the names that they
have in our classes.
"""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor

from metaheads import backbones
from metaheads.hosts.detectron2.config import options_of


class _Hosted:
    """Names the features of one of our backbones by their strides: 8 is "c3", 16 "c4", ..."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = super().forward(images)
        return dict(zip(self._names(), features, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        shapes = zip(self.channels, self.strides, strict=True)
        specs = [ShapeSpec(channels=channels, stride=stride) for channels, stride in shapes]
        return dict(zip(self._names(), specs, strict=True))

    def _names(self) -> list[str]:
        return [f"c{stride.bit_length() - 1}" for stride in self.strides]


@BACKBONE_REGISTRY.register()
class DeformableResNet(_Hosted, backbones.DeformableResNet, Backbone):
    @configurable
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return options_of(cfg, backbones.DeformableResNet)


@BACKBONE_REGISTRY.register()
class Darknet53(_Hosted, backbones.Darknet53, Backbone):
    @configurable
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return options_of(cfg, backbones.Darknet53)
