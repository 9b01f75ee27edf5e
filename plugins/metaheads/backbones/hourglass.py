"""The hourglass of CornerNet (arXiv 1808.01244, Sec. 4.1): strided residuals instead of pooling.

Hourglass-104 is two stacks, Hourglass-52 one; under the names of the authors' checkpoints. Letters:
B images, H, W pixels, h, w cells, S stacks.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Hourglass(nn.Module):
    """Stacked hourglasses at a quarter of the input's resolution.

    Args:
        num_stacks: hourglasses in a row.
        channels: width at each level, finest first; each level halves the resolution.
        blocks: residuals at each level.
        stem_channels: width after the first convolution.
        feature_channels: width of the features that leave a stack.

    Attributes:
        channels: channels of the returned features, one per stack.
        strides: their strides in pixels, 4 each.

    Raises:
        ValueError: fewer than two levels, or lists of different lengths.
    """

    def __init__(
        self,
        *,
        num_stacks: int = 2,
        channels: tuple[int, ...] = (256, 256, 384, 384, 384, 512),
        blocks: tuple[int, ...] = (2, 2, 2, 2, 2, 4),
        stem_channels: int = 128,
        feature_channels: int = 256,
    ) -> None:
        super().__init__()
        if len(channels) != len(blocks) or len(channels) < 2 or num_stacks < 1:
            raise ValueError(
                "Hourglass needs a stack and as many channels as blocks, at least two; got "
                f"num_stacks={num_stacks}, channels={channels}, blocks={blocks}"
            )
        width = channels[0]
        self.pre = nn.Sequential(
            ConvNorm(3, stem_channels, 7, stride=2), Residual(stem_channels, width, stride=2)
        )
        self.kps = nn.ModuleList(_Level(channels, blocks) for _ in range(num_stacks))
        self.cnvs = nn.ModuleList(ConvNorm(width, feature_channels, 3) for _ in range(num_stacks))
        between = range(num_stacks - 1)
        self.inters = nn.ModuleList(Residual(width, width) for _ in between)
        self.inters_ = nn.ModuleList(_project(width, width) for _ in between)
        self.cnvs_ = nn.ModuleList(_project(feature_channels, width) for _ in between)
        self.channels = [feature_channels] * num_stacks
        self.strides = [4] * num_stacks

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> S features (B, feature_channels, h, w), the last one
        best."""
        x = self.pre(images)
        features = []
        for index, (hourglass, convolution) in enumerate(zip(self.kps, self.cnvs, strict=True)):
            feature = convolution(hourglass(x))
            features.append(feature)
            if index < len(self.inters):
                x = F.relu(self.inters_[index](x) + self.cnvs_[index](feature))
                x = self.inters[index](x)
        return features


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        padding = (kernel - 1) // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Residual(nn.Module):
    """Two 3x3 convolutions; the shortcut is a 1x1 where width or resolution change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        is_same = stride == 1 and in_channels == out_channels
        self.skip = nn.Sequential() if is_same else _project(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.skip(x))


class _Level(nn.Module):
    """One level of an hourglass: what stays at this resolution plus what comes back from below."""

    def __init__(self, channels: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        here, below = channels[:2]
        self.up1 = _residuals(here, here, blocks[0])
        self.low1 = _residuals(here, below, blocks[0], stride=2)
        self.low2: nn.Module = (
            _Level(channels[1:], blocks[1:])
            if len(channels) > 2
            else _residuals(below, below, blocks[1])
        )
        # The width changes in the last of them.
        self.low3 = nn.Sequential(
            *(Residual(below, below) for _ in range(blocks[0] - 1)), Residual(below, here)
        )

    def forward(self, x: Tensor) -> Tensor:
        up = self.up1(x)
        low = self.low3(self.low2(self.low1(x)))
        return up + F.interpolate(low, size=up.shape[-2:], mode="nearest")


def _residuals(in_channels: int, out_channels: int, count: int, stride: int = 1) -> nn.Sequential:
    rest = (Residual(out_channels, out_channels) for _ in range(count - 1))
    return nn.Sequential(Residual(in_channels, out_channels, stride), *rest)


def _project(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )
