"""MMDetection's own checkpoints of the keypoint detectors, in our models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("mmdet", reason="MMDetection is not installed")

from tests.golden.yolact import Network  # noqa: E402

from metaheads.architectures import CenterNetPoints, CornerNet  # noqa: E402
from metaheads.backbones import DeconvResNet, Hourglass  # noqa: E402
from metaheads.weights import find_importer, load_into  # noqa: E402


def build(config: dict) -> nn.Module:
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    model = MODELS.build(config).eval()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.4, 0.6) if tensor.ndim == 1 else nn.init.normal_(
                tensor, std=0.05
            )
    return model


def ours(theirs: nn.Module, name: str, backbone: nn.Module, core: nn.Module) -> Network:
    importer = find_importer(theirs.state_dict())
    assert importer is not None and importer.name == name
    state, coverage = importer.convert(theirs.state_dict())
    network = Network(backbone, core).eval()
    assert not load_into(network, state).missing and not coverage.unused
    return network


@pytest.mark.parametrize("use_dcn", [False, True])
@torch.no_grad()
def test_centernet(use_dcn):
    theirs = build(
        dict(
            type="CenterNet",
            backbone=dict(type="ResNet", depth=18, norm_cfg=dict(type="BN")),
            neck=dict(
                type="CTResNetNeck",
                in_channels=512,
                num_deconv_filters=(256, 128, 64),
                num_deconv_kernels=(4, 4, 4),
                use_dcn=use_dcn,
            ),
            bbox_head=dict(type="CenterNetHead", num_classes=5, in_channels=64, feat_channels=64),
        )
    )
    convolution = "deformable" if use_dcn else "plain"
    backbone = DeconvResNet(deconv_channels=(256, 128, 64), convolution=convolution)
    core = CenterNetPoints([64], [4], num_classes=5)
    network = ours(theirs, "mmdet_centernet", backbone, core)
    images = torch.randn(1, 3, 64, 96)
    heatmap, sizes, offsets = (each[0] for each in theirs.bbox_head(theirs.extract_feat(images)))
    (found,) = network.core(network.backbone(images))
    torch.testing.assert_close(found.heatmap.sigmoid(), heatmap, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.sizes, sizes, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.offsets, offsets, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_cornernet():
    channels, blocks = (256, 256, 384), (1, 1, 2)
    theirs = build(
        dict(
            type="CornerNet",
            backbone=dict(
                type="HourglassNet",
                downsample_times=2,
                num_stacks=2,
                stage_channels=channels,
                stage_blocks=blocks,
                feat_channel=256,
            ),
            neck=None,
            bbox_head=dict(
                type="CornerHead",
                num_classes=5,
                in_channels=256,
                num_feat_levels=2,
                corner_emb_channels=1,
            ),
        )
    )
    backbone = Hourglass(num_stacks=2, channels=channels, blocks=blocks)
    core = CornerNet([256, 256], [4, 4], num_classes=5)
    network = ours(theirs, "mmdet_cornernet", backbone, core)
    images = torch.randn(1, 3, 64, 96)
    expected = [each[-1] for each in theirs.bbox_head(theirs.extract_feat(images))]
    (found,) = network.core(network.backbone(images))
    names = ("tl_heatmap", "br_heatmap", "tl_tags", "br_tags", "tl_offsets", "br_offsets")
    for name, value in zip(names, expected, strict=True):
        torch.testing.assert_close(getattr(found, name), value, rtol=1e-3, atol=1e-3, msg=name)
