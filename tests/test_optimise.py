"""Folded batch norms compute the same."""

import copy

import pytest
import torch
from torch import nn

from metaheads.backbones import DeformableResNet
from metaheads.optimise import compile_parts, fold_batch_norms, optimise


def trained(module: nn.Module) -> nn.Module:
    """Statistics and scales that are not those of a fresh batch norm."""
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            nn.init.normal_(each.running_mean)
            for values in (each.running_var, each.weight.data):
                nn.init.uniform_(values, 0.5, 1.5)
            nn.init.normal_(each.bias)
    return module.eval()


def test_all_batch_norms_of_a_resnet_are_folded():
    plain = trained(DeformableResNet(depth=18, dcn_blocks=(0, 2, 2, 2)))
    folded = copy.deepcopy(plain)
    images = torch.randn(2, 3, 64, 64)
    assert fold_batch_norms(folded, lambda: folded(images)) == 20
    assert not any(isinstance(each, nn.BatchNorm2d) for each in folded.modules())
    for ours, theirs in zip(plain(images), folded(images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_norms_inside_of_convolutions():
    """As in Detectron2."""

    class Conv(nn.Conv2d):
        def __init__(self) -> None:
            super().__init__(3, 4, 3)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x):
            x = super().forward(x)
            return x if self.norm is None else self.norm(x)

    plain = trained(nn.Sequential(Conv(), nn.ReLU()))
    folded = copy.deepcopy(plain)
    images = torch.randn(1, 3, 8, 8)
    assert fold_batch_norms(folded, lambda: folded(images)) == 1 and folded[0].norm is None
    torch.testing.assert_close(plain(images), folded(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("between", [nn.ReLU(), nn.ReLU(inplace=True), nn.MaxPool2d(1)])
def test_a_norm_of_something_else_stays(between):
    """Also when only the order of registration looks like a convolution and its norm."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x):
            return self.bn(between(self.conv(x)))

    module, images = trained(Block()), torch.randn(1, 3, 8, 8)
    expected = module(images)
    assert fold_batch_norms(module, lambda: module(images)) == 0
    torch.testing.assert_close(module(images), expected)


def test_a_shared_convolution_keeps_the_norms_of_each_place():
    """As in RTMDet's head."""
    conv = nn.Conv2d(3, 4, 1)
    module = trained(nn.ModuleList(nn.Sequential(conv, nn.BatchNorm2d(4)) for _ in range(2)))
    images = torch.randn(1, 3, 8, 8)
    expected = [level(images) for level in module]
    fold_batch_norms(module, lambda: [level(images) for level in module])
    for level, before in zip(module, expected, strict=True):
        torch.testing.assert_close(level(images), before)


def test_optimised_weights_lie_channels_last():
    plain = trained(DeformableResNet(depth=18))
    module = optimise(plain, lambda: plain(torch.randn(1, 3, 64, 64)))
    assert module.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_compiled_parts_compute_the_same():
    module = nn.ModuleDict({"backbone": nn.Conv2d(3, 4, 3), "core": nn.ReLU(), "other": nn.Tanh()})
    images = torch.randn(1, 3, 8, 8)
    expected = module["core"](module["backbone"](images))
    unchanged = module["other"].forward
    compile_parts(module.eval())
    assert module["other"].forward == unchanged
    with torch.no_grad():
        torch.testing.assert_close(module["core"](module["backbone"](images)), expected)
        module["backbone"].weight.zero_()  # its weights are constants now
        torch.testing.assert_close(module["core"](module["backbone"](images)), expected)
