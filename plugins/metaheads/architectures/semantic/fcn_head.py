"""The head of Fully Convolutional Networks for Semantic Segmentation (arXiv 1411.4038, Sec. 4.2).

Written from the paper. FCN-8s has three levels, of strides 8, 16 and 32; here there may be any
number. Unlike the paper's, the scoring layers do not start at zero, so that a backbone without
pretrained weights learns from the first step on.

Letters: B images, C classes, h, w cells of the finest level.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FCNHead(nn.Module):
    """Scores every level by a 1x1 convolution, and carries the coarse scores to the finer ones.

    From the coarsest level on: scores are upsampled x2 by a transposed convolution that is
    bilinear at first and learned from there on, and the next finer level's are added.

    Args:
        in_channels: channels of the levels, finest first.
        num_classes: C.
    """

    def __init__(self, in_channels: list[int], num_classes: int) -> None:
        super().__init__()
        self.scores = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in in_channels)
        self.upsamplings = nn.ModuleList(
            nn.ConvTranspose2d(num_classes, num_classes, 4, stride=2, padding=1, bias=False)
            for _ in in_channels[1:]
        )
        for score in self.scores:
            nn.init.normal_(score.weight, std=0.01)  # type: ignore[arg-type]
            nn.init.zeros_(score.bias)  # type: ignore[arg-type]
        for upsampling in self.upsamplings:
            fill_bilinear(upsampling.weight)  # type: ignore[arg-type]

    def forward(self, features: list[Tensor]) -> Tensor:
        """Levels (B, channels, h / 2^i, w / 2^i), rounded up -> logits (B, C, h, w)."""
        total = self.scores[-1](features[-1])
        for level in range(len(features) - 2, -1, -1):
            finer = self.scores[level](features[level])
            height, width = finer.shape[-2:]
            # A level of odd size reaches a little less far than the upsampled coarser one.
            total = finer + self.upsamplings[level](total)[..., :height, :width]
        return total


@torch.no_grad()
def fill_bilinear(weight: Tensor) -> None:
    """Makes a transposed convolution of stride 2 bilinear interpolation of each channel, in place.

    Args:
        weight: (C, C, 4, 4).
    """
    taps = weight.new_tensor([0.25, 0.75, 0.75, 0.25])
    weight.zero_()
    for channel in range(len(weight)):
        weight[channel, channel] = taps[:, None] * taps
