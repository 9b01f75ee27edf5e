"""Our backbones in Detectron2's registry, under their own names (`MODEL.BACKBONE.NAME: DLA`).

Their options are in the nodes that `config.OPTION_NODES` names; parameters keep the names that they
have in our classes.
"""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone, build_resnet_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from metaheads import backbones
from metaheads.hosts.detectron2.config import options_of


class _Hosted:
    """Names the features of one of our backbones by their strides: 8 is "c3", 16 "c4", ...

    Stacks of an hourglass, which have the same, are "c2", "c2_1", ...
    """

    @property
    def size_divisibility(self) -> int:
        return getattr(self, "size_divisor", 0)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = super().forward(images)
        return dict(zip(self._names(), features, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        shapes = zip(self.channels, self.strides, strict=True)
        specs = [ShapeSpec(channels=channels, stride=stride) for channels, stride in shapes]
        return dict(zip(self._names(), specs, strict=True))

    def _names(self) -> list[str]:
        names: list[str] = []
        for stride in self.strides:
            name = f"c{stride.bit_length() - 1}"
            names.append(f"{name}_{len(names)}" if name in names else name)
        return names


def _register(backbone_class: type[nn.Module]) -> type[nn.Module]:
    """Under its own name."""

    @configurable
    def __init__(self, **options: Any) -> None:
        backbone_class.__init__(self, **options)

    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return options_of(cfg, backbone_class)

    members = {
        "__init__": __init__,
        "from_config": classmethod(from_config),
        "__doc__": backbone_class.__doc__,
        "__module__": __name__,
    }
    hosted = type(backbone_class.__name__, (_Hosted, backbone_class, Backbone), members)
    BACKBONE_REGISTRY.register(hosted)
    return hosted


class GapFPN(FPN):
    """Detectron2's FPN that adds the global average of its coarsest input, through a linear layer,
    to that input's lateral (UPSNet's models of COCO). Arguments as in FPN."""

    def __init__(
        self, bottom_up: Backbone, in_features: list[str], out_channels: int, **options: Any
    ) -> None:
        super().__init__(bottom_up, in_features, out_channels, **options)
        self.gap = nn.Linear(bottom_up.output_shape()[in_features[-1]].channels, out_channels)
        self.lateral_convs[0].register_forward_hook(self._add_gap)

    def _add_gap(self, _: nn.Module, inputs: tuple[Tensor], lateral: Tensor) -> Tensor:
        return lateral + self.gap(inputs[0].mean((2, 3)))[:, :, None, None]


@BACKBONE_REGISTRY.register()
def build_resnet_gap_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> GapFPN:
    """As Detectron2's build_resnet_fpn_backbone, of a GapFPN."""
    return GapFPN(
        build_resnet_backbone(cfg, input_shape),
        cfg.MODEL.FPN.IN_FEATURES,
        cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


DLA = _register(backbones.DLA)
Darknet53 = _register(backbones.Darknet53)
DeconvResNet = _register(backbones.DeconvResNet)
DeformableResNet = _register(backbones.DeformableResNet)
Hourglass = _register(backbones.Hourglass)
MobileNetV1 = _register(backbones.MobileNetV1)
SlimNet = _register(backbones.SlimNet)
