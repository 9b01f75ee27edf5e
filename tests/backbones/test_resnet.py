from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet50

from metaheads.backbones.resnet import DeformableResNet, DeformConv2d
from metaheads.options import check_options, option_defaults


def deformable_blocks(backbone: DeformableResNet) -> list[str]:
    return [n for n, m in backbone.named_modules() if isinstance(m, DeformConv2d)]


@pytest.mark.parametrize("build", [resnet18, resnet50])
def test_torchvision_weights_fit_and_give_its_features(build):
    theirs = build(weights=None).eval()
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    depth = int(build.__name__.removeprefix("resnet"))
    backbone = DeformableResNet(depth=depth, out_stages=(0, 1, 2, 3)).eval()
    backbone.load_state_dict(state)
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        features = backbone(image)
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
        for index, feature in enumerate(features):
            x = getattr(theirs, f"layer{index + 1}")(x)
            assert torch.equal(feature, x)


@pytest.mark.parametrize(
    ("depth", "stages", "channels"),
    [(18, (1, 2, 3), [128, 256, 512]), (50, (0, 2), [256, 1024]), (101, (3,), [2048])],
)
def test_channels_and_strides_are_those_of_the_features(depth, stages, channels):
    with torch.device("meta"):
        backbone = DeformableResNet(depth=depth, out_stages=stages)
        features = backbone(torch.empty(1, 3, 64, 128))
    assert backbone.channels == channels == [feature.shape[1] for feature in features]
    assert backbone.strides == [64 // feature.shape[2] for feature in features]


@pytest.mark.parametrize(
    ("depth", "blocks", "interval", "expected"),
    [
        (50, (0, 4, 6, 3), 1, {2: range(4), 3: range(6), 4: range(3)}),
        (101, (0, 4, 23, 3), 3, {2: (0, 3), 3: range(0, 23, 3), 4: (0,)}),
        (50, (0, 0, 2, 1), 1, {3: (4, 5), 4: (2,)}),
        (50, (0, 0, 5, 0), 2, {3: (2, 4)}),
    ],
)
def test_which_blocks_are_deformable(depth, blocks, interval, expected):
    with torch.device("meta"):
        backbone = DeformableResNet(depth=depth, dcn_blocks=blocks, dcn_interval=interval)
    names = [f"layer{layer}.{block}.conv2" for layer, found in expected.items() for block in found]
    assert deformable_blocks(backbone) == names


def test_names_of_a_deformable_block_are_the_authors():
    with torch.device("meta"):
        backbone = DeformableResNet(dcn_blocks=(0, 0, 0, 3))
    names = [n for n in backbone.state_dict() if n.startswith("layer4.2.conv2.")]
    assert names == [
        f"layer4.2.conv2.{name}"
        for name in ("weight", "bias", "conv_offset_mask.weight", "conv_offset_mask.bias")
    ]
    assert backbone.layer4[2].conv2.conv_offset_mask.out_channels == 27
    assert backbone.layer4[0].conv2.stride == (2, 2)


def test_deformable_convolution_begins_as_half_a_plain_one():
    layer = DeformConv2d(4, 6, stride=2)
    x = torch.randn(2, 4, 9, 8)
    plain = nn.functional.conv2d(x, layer.weight, stride=2, padding=1)
    torch.testing.assert_close(layer(x), plain / 2)


def test_deformable_convolution_shifts_by_its_offsets():
    """Offsets (y, x) per tap: all taps one down and two to the right read a shifted picture."""
    layer = DeformConv2d(1, 1, kernel_size=1, padding=0)
    nn.init.ones_(layer.weight)
    layer.conv_offset_mask.bias.data = torch.tensor([1.0, 2.0, 100.0])
    x = torch.arange(30.0).view(1, 1, 5, 6)
    expected = torch.zeros(5, 6)
    expected[:4, :4] = x[0, 0, 1:, 2:]
    torch.testing.assert_close(layer(x)[0, 0], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast(dtype):
    layer = DeformConv2d(4, 6)
    nn.init.normal_(layer.conv_offset_mask.weight, std=0.1)
    x = torch.randn(1, 4, 7, 7)
    exact = layer(x)
    with torch.autocast("cpu", dtype):
        mixed = layer(x)
    mixed.sum().backward()
    assert mixed.dtype == dtype
    torch.testing.assert_close(mixed.float(), exact, atol=0.1, rtol=0.1)
    assert all(p.grad.isfinite().all() for p in layer.parameters())
    half = layer.to(dtype)(x.to(dtype))
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), exact, atol=0.1, rtol=0.1)


def test_double_precision_stays_double():
    layer = DeformConv2d(2, 2).double()
    assert layer(torch.randn(1, 2, 4, 4, dtype=torch.float64)).dtype == torch.float64


def test_every_parameter_of_a_deformable_network_learns():
    backbone = DeformableResNet(depth=18, dcn_blocks=(0, 1, 1, 1))
    sum(f.square().mean() for f in backbone(torch.randn(1, 3, 64, 64))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


def test_frozen_parts_and_norms():
    backbone = DeformableResNet(depth=18, freeze_at=2).train()
    trains = {n.split(".")[0] for n, p in backbone.named_parameters() if p.requires_grad}
    assert trains == {"layer2", "layer3", "layer4"}
    assert not backbone.bn1.training and not backbone.layer1[0].bn1.training
    assert backbone.layer2[0].bn1.training
    still = DeformableResNet(depth=18, norm_eval=True).train()
    assert still.training and not still.layer4[1].bn2.training
    assert all(p.requires_grad for p in still.parameters())


@pytest.mark.parametrize("norm", ["BN", "SyncBN", "FrozenBN", "GN"])
def test_norms(norm):
    backbone = DeformableResNet(depth=18, norm=norm).eval()
    assert [f.shape[1] for f in backbone(torch.randn(1, 3, 32, 32))] == [128, 256, 512]
    trainable = [n for n, p in backbone.named_parameters() if "bn1." in n and p.requires_grad]
    assert bool(trainable) == (norm != "FrozenBN")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"depth": 20}, "depth"),
        ({"out_stages": (4,)}, "out_stages"),
        ({"out_stages": ()}, "out_stages"),
        ({"dcn_interval": 0}, "dcn_interval"),
        ({"norm": "LN"}, "norm"),
        ({"freeze_at": 6}, "freeze_at"),
    ],
)
def test_wrong_options_are_refused_by_name(options, word):
    with pytest.raises(ValueError, match=f"^{word} "):
        DeformableResNet(**options)


def test_options_pass_the_hosts_check():
    defaults = option_defaults(DeformableResNet)
    assert check_options(DeformableResNet, defaults) == defaults
    assert check_options(DeformableResNet, {"dcn_blocks": [0, 4, 6, 3]}) == {
        "dcn_blocks": (0, 4, 6, 3)
    }


def test_stages_that_nobody_asked_for_are_not_there():
    backbone = DeformableResNet(depth=18, out_stages=(0, 1), dcn_blocks=(0, 1, 1, 1))
    sum(f.sum() for f in backbone(torch.rand(1, 3, 32, 32))).backward()
    assert all(p.grad is not None for p in backbone.parameters()), "DDP refuses the others"
