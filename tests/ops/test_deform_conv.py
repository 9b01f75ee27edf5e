from __future__ import annotations

import pytest
import torch
from torchvision.ops import deform_conv2d as by_torchvision

from metaheads.ops.deform_conv import deform_conv2d


@pytest.mark.parametrize("is_modulated", [False, True])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation"),
    [
        ((9, 7), (3, 3), (1, 1), (1, 1), (1, 1)),
        ((9, 7), (3, 3), (2, 2), (1, 1), (1, 1)),
        ((12, 11), (3, 1), (1, 2), (2, 0), (2, 1)),
        ((1, 5), (3, 3), (1, 1), (1, 1), (1, 1)),
        ((1, 1), (3, 3), (1, 1), (1, 1), (1, 1)),
    ],
)
def test_equals_torchvision(size, kernel, stride, padding, dilation, is_modulated):
    """In double precision, also far outside of the map, and with all gradients."""
    torch.manual_seed(0)
    x = torch.randn(2, 5, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 5, *kernel, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    taps = kernel[0] * kernel[1]
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    ]
    offsets = (3 * torch.randn(2, 2 * taps, *out, dtype=torch.float64)).requires_grad_()
    modulation = None
    if is_modulated:
        modulation = torch.rand(2, taps, *out, dtype=torch.float64, requires_grad=True)
    given = [each for each in (x, offsets, weight, bias, modulation) if each is not None]
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    ours = deform_conv2d(x, offsets, weight, bias, modulation=modulation, **options)
    theirs = by_torchvision(x, offsets, weight, bias, mask=modulation, **options)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(each.square().sum(), given) for each in (ours, theirs)]
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_half_precision_is_computed_in_float():
    x, offsets = torch.randn(1, 2, 4, 4), torch.randn(1, 18, 4, 4)
    weight = torch.randn(3, 2, 3, 3)
    found = deform_conv2d(x.bfloat16(), offsets, weight)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, deform_conv2d(x.bfloat16().float(), offsets, weight))
