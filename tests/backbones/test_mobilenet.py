"""The small backbones of the face detectors."""

from __future__ import annotations

import pytest
import torch

from metaheads.backbones import MobileNetV1, SlimNet


@pytest.mark.parametrize("size", [(64, 96), (61, 91), (640, 480)])
@pytest.mark.parametrize("backbone", [MobileNetV1(), SlimNet(), SlimNet(use_rfb=True)])
def test_features_are_rounded_up(backbone, size):
    with torch.no_grad():
        features = backbone.eval()(torch.randn(1, 3, *size))
    assert [each.shape[1] for each in features] == backbone.channels
    for each, stride in zip(features, backbone.strides, strict=True):
        assert tuple(each.shape[2:]) == tuple(-(-side // stride) for side in size)


def test_widths_and_activations():
    wide = MobileNetV1(base_channels=32, leaky_slope=0.0)
    assert wide.channels == [256, 512, 1024]
    assert any(isinstance(each, torch.nn.ReLU) for each in wide.modules())
    assert not any(isinstance(each, torch.nn.LeakyReLU) for each in wide.modules())
    slopes = {m.negative_slope for m in MobileNetV1().modules() if hasattr(m, "negative_slope")}
    assert slopes == {0.1}
    with pytest.raises(ValueError, match="base_channels must be positive"):
        MobileNetV1(base_channels=0)


def test_the_receptive_field_block_adds_parameters():
    plain, field = (sum(p.numel() for p in SlimNet(use_rfb=u).parameters()) for u in (False, True))
    assert field - plain == 16_104
