"""The two backbones of biubug6/Face-Detector-1MB-with-landmark: "slim" and "RFB".

Under the names of its checkpoints. Letters: B images, H, W pixels, h, w cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metaheads.backbones.mobilenet import convolution, separable


class SlimNet(nn.Module):
    """Thirteen small convolutions, and one more level at stride 64 without batch norms.

    Args:
        use_rfb: a receptive field block stands in the place of the eighth convolution ("RFB").

    Attributes:
        channels: channels of the returned features.
        strides: their strides in pixels.
    """

    def __init__(self, *, use_rfb: bool = False) -> None:
        super().__init__()
        self.conv1 = convolution(3, 16, stride=2)
        self.conv2 = separable(16, 32)
        self.conv3 = separable(32, 32, stride=2)
        self.conv4 = separable(32, 32)
        self.conv5 = separable(32, 64, stride=2)
        self.conv6 = separable(64, 64)
        self.conv7 = separable(64, 64)
        self.conv8: nn.Module = ReceptiveFieldBlock(64) if use_rfb else separable(64, 64)
        self.conv9 = separable(64, 128, stride=2)
        self.conv10 = separable(128, 128)
        self.conv11 = separable(128, 128)
        self.conv12 = separable(128, 256, stride=2)
        self.conv13 = separable(256, 256)
        narrow_then_wide = nn.Sequential(
            nn.Conv2d(64, 64, 3, 2, 1, groups=64), nn.ReLU(inplace=True), nn.Conv2d(64, 256, 1)
        )
        self.conv14 = nn.Sequential(
            nn.Conv2d(256, 64, 1), nn.ReLU(inplace=True), narrow_then_wide, nn.ReLU(inplace=True)
        )
        self.channels, self.strides = [64, 128, 256, 256], [8, 16, 32, 64]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) images -> (B, channels, h, w) at strides 8, 16, 32, 64."""
        features = []
        for number in range(1, 15):
            images = getattr(self, f"conv{number}")(images)
            if number in (8, 11, 13, 14):
                features.append(images)
        return features


class ReceptiveFieldBlock(nn.Module):
    """Three branches of growing dilation beside a shortcut (RFB, arXiv 1711.07767).

    As in the 1MB repository: an eighth of the channels within, a scale of 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = channels // 8
        wide, middle = 2 * narrow, narrow // 2 * 3
        self.branch0 = nn.Sequential(
            _Convolution(channels, narrow, 1, relu=False),
            _Convolution(narrow, wide, 3),
            _Convolution(wide, wide, 3, dilation=2, relu=False),
        )
        self.branch1 = nn.Sequential(
            _Convolution(channels, narrow, 1, relu=False),
            _Convolution(narrow, wide, 3),
            _Convolution(wide, wide, 3, dilation=3, relu=False),
        )
        self.branch2 = nn.Sequential(
            _Convolution(channels, narrow, 1, relu=False),
            _Convolution(narrow, middle, 3),
            _Convolution(middle, wide, 3),
            _Convolution(wide, wide, 3, dilation=5, relu=False),
        )
        self.ConvLinear = _Convolution(3 * wide, channels, 1, relu=False)
        self.shortcut = _Convolution(channels, channels, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        branches = torch.cat((self.branch0(x), self.branch1(x), self.branch2(x)), 1)
        return (self.ConvLinear(branches) + self.shortcut(x)).relu_()


class _Convolution(nn.Module):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        dilation: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels, momentum=0.01)
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))
