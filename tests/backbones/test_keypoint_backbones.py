"""Hourglass, DLA and DeconvResNet: sizes as published, shapes, gradients."""

from __future__ import annotations

import pytest
import torch

from metaheads.backbones import DLA, DeconvResNet, Hourglass

SMALL = dict(channels=(16, 16, 24, 32), blocks=(1, 1, 1, 2), stem_channels=8, feature_channels=16)
# Kind -> small network, stacks, of what its input must be a multiple.
BACKBONES = {
    "hourglass": (lambda: Hourglass(num_stacks=2, **SMALL), 2, 1),
    "dla": (lambda: DLA(channels=(8, 8, 16, 16, 24, 32)), 1, 32),
    "none": (lambda: DeconvResNet(deconv_channels=(16, 16, 16)), 1, 32),
    "plain": (lambda: DeconvResNet(deconv_channels=(16, 16, 16), convolution="plain"), 1, 32),
    "deformable": (
        lambda: DeconvResNet(depth=50, deconv_channels=(16, 16, 16), convolution="deformable"),
        1,
        32,
    ),
}


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("num_stacks", "parameters"), [(2, 187_700_352), (1, 93_662_848)])
def test_hourglass_104_and_52_are_as_large_as_the_authors(num_stacks, parameters):
    """MMDetection's single hourglass has a residual more, which nothing uses."""
    with torch.device("meta"):
        hourglass = Hourglass(num_stacks=num_stacks)
    assert count(hourglass) == parameters
    assert hourglass.channels == [256] * num_stacks and hourglass.strides == [4] * num_stacks


def test_dla_34_is_as_large_as_the_authors_without_what_they_do_not_use():
    """Theirs, with heads for 80 classes, has 19,675,892 parameters, 41,728 of them unused."""
    heads = sum(64 * 9 * 256 + 256 + 257 * outputs for outputs in (80, 2, 2))
    assert count(DLA()) + heads == 19_675_892 - 41_728


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        (dict(), 15_820_372),
        (dict(deconv_channels=(256, 128, 64), convolution="deformable"), 14_437_349),
    ],
)
def test_resnets_are_as_large_as_the_authors(options, parameters):
    backbone = DeconvResNet(**options)
    width = backbone.channels[0]
    heads = sum(width * 9 * 64 + 64 + 65 * outputs for outputs in (80, 2, 2))
    assert count(backbone) + heads == parameters


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("size", [(64, 96), (127, 127), (75, 101), (33, 2)])
def test_features_of_any_size_are_a_quarter(kind, size):
    build, stacks, multiple = BACKBONES[kind]
    height, width = (-(-side // multiple) * multiple for side in size)
    with torch.no_grad():
        features = build().eval()(torch.randn(1, 3, height, width))
    expected = (1, 16, (height + 3) // 4, (width + 3) // 4)
    assert [tuple(each.shape) for each in features] == [expected] * stacks


@pytest.mark.parametrize("kind", BACKBONES)
def test_every_parameter_has_a_gradient(kind):
    backbone = BACKBONES[kind][0]()
    sum(each.square().sum() for each in backbone(torch.randn(2, 3, 64, 64))).backward()
    assert not [name for name, each in backbone.named_parameters() if each.grad is None]
    assert all(each.requires_grad for each in backbone.parameters())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Hourglass(channels=(8, 16), blocks=(1,)), "as many channels as blocks"),
        (lambda: Hourglass(num_stacks=0), "needs a stack"),
        (lambda: DLA(levels=(1, 1)), "six levels"),
        (lambda: DeconvResNet(convolution="dcn"), "convolution must be one of"),
    ],
)
def test_wrong_options_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
