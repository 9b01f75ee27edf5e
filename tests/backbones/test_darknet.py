from __future__ import annotations

import pytest
import torch

from metaheads.backbones import Darknet53


def test_shapes_and_size():
    with torch.device("meta"):
        backbone = Darknet53(out_stages=(0, 2, 3, 4))
        features = backbone(torch.empty(1, 3, 64, 96))
    assert backbone.channels == [64, 256, 512, 1024] == [f.shape[1] for f in features]
    assert backbone.strides == [2, 8, 16, 32] == [64 // f.shape[2] for f in features]
    # 52 convolutions and their norms: Darknet-53 without its classifier.
    convolutions = [m for m in backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 52
    assert sum(p.numel() for p in backbone.parameters()) == 40_584_928


def test_names_are_the_authors():
    with torch.device("meta"):
        names = set(Darknet53().state_dict())
    assert {
        "preconv.0.weight",
        "preconv.1.running_var",
        "layers.0.0.0.weight",
        "layers.4.4.conv2.1.bias",
    } <= names


def test_residual_by_hand():
    """A block whose second convolution yields v adds LeakyReLU(v) and does not activate the sum."""
    block = Darknet53(out_stages=(0,)).eval().layers[0][1]
    torch.nn.init.zeros_(block.conv2[1].weight)
    torch.nn.init.constant_(block.conv2[1].bias, -2.0)
    x = torch.randn(1, 64, 4, 4)
    torch.testing.assert_close(block(x), x - 0.2)


def test_stages_that_nobody_asked_for_are_not_there():
    backbone = Darknet53(out_stages=(1,)).eval()
    features = backbone(torch.rand(1, 3, 32, 32))
    assert features[0].shape == (1, 128, 8, 8)
    features[0].sum().backward()
    assert all(p.grad is not None for p in backbone.parameters()), "DDP refuses the others"


def test_norm_eval_and_gradients():
    backbone = Darknet53(norm_eval=True).train()
    assert not backbone.preconv[1].training
    sum(f.mean() for f in backbone(torch.rand(1, 3, 32, 32))).backward()
    assert all(p.grad.isfinite().all() for p in backbone.parameters())


def test_wrong_stages_are_refused():
    with pytest.raises(ValueError, match="out_stages"):
        Darknet53(out_stages=(5,))
