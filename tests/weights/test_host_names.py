"""The names of the real ResNets of both hosts, and that the renamed weights compute the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from metaheads.backbones import DeformableResNet
from metaheads.weights import load_into


def detectron2_resnet(depth: int, norm: str) -> nn.Module:
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    from detectron2.config import get_cfg
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import build_resnet_backbone

    cfg = get_cfg()
    resnets = cfg.MODEL.RESNETS
    resnets.DEPTH, resnets.NORM, resnets.STRIDE_IN_1X1 = depth, norm, False
    resnets.OUT_FEATURES = ["res3", "res4", "res5"]
    if depth == 18:
        resnets.RES2_OUT_CHANNELS = 64
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    return build_resnet_backbone(cfg, ShapeSpec(channels=3))


def mmdet_resnet(depth: int, norm: str) -> nn.Module:
    pytest.importorskip("mmdet", reason="MMDetection is not installed")
    from mmdet.models.backbones import ResNet

    norm_cfg = {"type": norm, "requires_grad": True, **({"num_groups": 32} if norm == "GN" else {})}
    return ResNet(depth=depth, norm_cfg=norm_cfg, norm_eval=False, out_indices=(1, 2, 3))


def our_resnet(depth: int, norm: str) -> nn.Module:
    return DeformableResNet(depth=depth, norm=norm)


def features(backbone: nn.Module, image: Tensor) -> list[Tensor]:
    backbone.eval()  # MMDetection's returns nothing
    with torch.no_grad():
        found = backbone(image)
    return list(found.values()) if isinstance(found, dict) else list(found)


def randomise(model: nn.Module) -> None:
    """Values that tell every norm from the others."""
    for name, tensor in model.state_dict().items():
        if name.endswith(("weight", "running_var")) and tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(("bias", "running_mean")):
            tensor.normal_(std=0.1)


@pytest.mark.parametrize(("depth", "norm"), [(18, "GN"), (18, "BN"), (50, "BN")])
@pytest.mark.parametrize("target", [detectron2_resnet, mmdet_resnet], ids=["detectron2", "mmdet"])
@pytest.mark.parametrize(
    "source", [our_resnet, detectron2_resnet, mmdet_resnet], ids=["ours", "detectron2", "mmdet"]
)
def test_resnet_moves(source, target, depth, norm):
    one = nn.ModuleDict({"backbone": source(depth, norm)})
    other = nn.ModuleDict({"backbone": target(depth, norm)})
    randomise(one)
    load_into(other, one.state_dict())
    image = torch.randn(1, 3, 64, 64)
    pairs = zip(features(one["backbone"], image), features(other["backbone"], image), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
