"""Deformable convolution, plain (arXiv 1703.06211) and modulated (arXiv 1811.11168).

torchvision has it for CPU and GPU, but its loops on CPUs are slow: sampling by torch's grid_sample
and one matrix product are 1.3 to 2.4 times as fast forward, 2.5 to 7.3 times with the backward
pass (benchmarks/deform_conv.md), and equal but for rounding. Exported graphs and GPUs take
torchvision's.
All samples of a batch are held at once, T times the input.
Letters: B images, D channels in, E out, H, W pixels, T taps of the kernel, h, w of the result.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def deform_conv2d(
    x: Tensor,
    offsets: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    modulation: Tensor | None = None,
) -> Tensor:
    """(B, D, H, W) -> (B, E, h, w), in float32 or better.

    Args:
        offsets: (B, 2T, h, w), y and x of every tap in pixels.
        weight: (E, D, kernel height, kernel width).
        modulation: (B, T, h, w), what each tap's sample is multiplied by.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    parts = [None if p is None else p.to(exact) for p in (x, offsets, weight, bias, modulation)]
    with torch.autocast(x.device.type, enabled=False):
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            found = _by_sampling(*parts, stride, padding, dilation)  # type: ignore[arg-type, call-arg]
        else:
            from torchvision.ops import deform_conv2d as by_torchvision

            x, offsets, weight, bias, modulation = parts  # type: ignore[assignment]
            found = by_torchvision(x, offsets, weight, bias, stride, padding, dilation, modulation)
    return found


def _by_sampling(
    x: Tensor,
    offsets: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    modulation: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    (batch, channels, height, width), (out_height, out_width) = x.shape, offsets.shape[-2:]
    kernel, taps = weight.shape[-2:], weight.shape[-2] * weight.shape[-1]
    places = []
    for axis, (size, count) in enumerate(zip((height, width), kernel, strict=True)):
        start = torch.arange(offsets.shape[2 + axis], device=x.device) * stride[axis]
        tap = torch.arange(count, device=x.device) * dilation[axis] - padding[axis]
        tap = tap.repeat_interleave(kernel[1]) if axis == 0 else tap.repeat(kernel[0])
        start = start[:, None] if axis == 0 else start
        position = offsets[:, axis::2] + (tap[:, None, None] + start).to(x.dtype)
        places.append((2 * position + 1) / size - 1)  # (B, T, h, w) on [-1, 1]
    grid = torch.stack(places[::-1], -1).view(batch, taps * out_height, out_width, 2)
    samples = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    samples = samples.view(batch, channels, taps, out_height * out_width)
    if modulation is not None:
        samples = samples * modulation.flatten(2)[:, None]
    found = weight.flatten(1) @ samples.flatten(1, 2)  # (B, E, h w)
    if bias is not None:
        found = found + bias[:, None]
    return found.view(batch, -1, out_height, out_width)
