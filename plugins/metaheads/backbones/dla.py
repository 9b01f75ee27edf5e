"""DLA-34 with deformable up-sampling, the backbone of CenterNet (arXiv 1707.06484, 1904.07850).

Under the names of CenterNet's checkpoints, without the two layers that nothing there uses. Letters:
B images, H, W pixels, h, w cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaheads.backbones.resnet import DeformConv2d


class DLA(nn.Module):
    """Deep layer aggregation whose levels are merged at stride 4; without weights of its own.

    Args:
        levels: residual blocks' depth of each level, strides 1, 2, 4, ...; DLA-34 by default.
        channels: width of each level.

    Attributes:
        channels: [width of the stride-4 feature].
        strides: [4].
        size_divisor: of which the input's sides must be multiples.

    Raises:
        ValueError: lists of other lengths than six.
    """

    size_divisor = 32

    def __init__(
        self,
        *,
        levels: tuple[int, ...] = (1, 1, 1, 2, 2, 1),
        channels: tuple[int, ...] = (16, 32, 64, 128, 256, 512),
    ) -> None:
        super().__init__()
        if len(levels) != 6 or len(channels) != 6:
            raise ValueError(f"DLA has six levels, got levels={levels}, channels={channels}")
        self.base = _Base(levels, channels)
        self.dla_up = _DLAUp(channels[2:])
        self.ida_up = _IDAUp(channels[2], channels[2:5], (1, 2, 4))
        self.channels, self.strides = [channels[2]], [4]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images, sizes multiples of 32 -> [(B, channels, h, w)]."""
        levels = self.dla_up(self.base(images)[2:])
        return [self.ida_up(levels[:3])[-1]]


class _Base(nn.Module):
    def __init__(self, levels: tuple[int, ...], channels: tuple[int, ...]) -> None:
        super().__init__()
        self.base_layer = _convolutions(3, channels[0], 1, kernel=7)
        self.level0 = _convolutions(channels[0], channels[0], levels[0])
        self.level1 = _convolutions(channels[0], channels[1], levels[1], stride=2)
        for index in range(2, 6):
            # From level 3 on, the level's input joins its last aggregation as well.
            tree = _Tree(levels[index], channels[index - 1], channels[index], index > 2)
            setattr(self, f"level{index}", tree)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.base_layer(images)
        features = []
        for index in range(6):
            x = getattr(self, f"level{index}")(x)
            features.append(x)
        return features


class _Tree(nn.Module):
    """Hierarchical aggregation of residual blocks (Sec. 3.2); the first one strides."""

    def __init__(
        self,
        depth: int,
        in_channels: int,
        out_channels: int,
        keeps_input: bool,
        stride: int = 2,
        root_channels: int = 0,
    ) -> None:
        super().__init__()
        root_channels = root_channels or 2 * out_channels
        if keeps_input:
            root_channels += in_channels
        self.keeps_input, self.stride = keeps_input, stride
        if depth == 1:
            self.tree1: nn.Module = _Block(in_channels, out_channels, stride)
            self.tree2: nn.Module = _Block(out_channels, out_channels)
            self.root = _Root(root_channels, out_channels)
        else:
            self.tree1 = _Tree(depth - 1, in_channels, out_channels, False, stride)
            wider = root_channels + out_channels
            self.tree2 = _Tree(depth - 1, out_channels, out_channels, False, 1, wider)
        # The authors' deeper trees have this layer, too, without using it.
        self.project = None
        if depth == 1 and in_channels != out_channels:
            self.project = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )
        self.depth = depth

    def forward(self, x: Tensor, children: tuple[Tensor, ...] = ()) -> Tensor:
        bottom = F.max_pool2d(x, self.stride) if self.stride > 1 else x
        if self.keeps_input:
            children = (*children, bottom)
        if self.depth > 1:
            first = self.tree1(x)
            return self.tree2(first, (*children, first))
        residual = bottom if self.project is None else self.project(bottom)
        first = self.tree1(x, residual)
        second = self.tree2(first, first)
        return self.root(second, first, *children)


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + residual)


class _Root(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, *children: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(torch.cat(children, 1))))


class _DLAUp(nn.Module):
    """Merges the levels step by step, from the coarsest on."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        widths = list(channels)
        for index in range(len(channels) - 1):
            place = -index - 2
            factors = (1, *[2] * (index + 1))
            merged = _IDAUp(channels[place], tuple(widths[place:]), factors)
            setattr(self, f"ida_{index}", merged)
            widths[place + 1 :] = [channels[place]] * (index + 1)
        self.count = len(channels) - 1

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Levels, finest first -> levels of the widths of the finest ones, finest first."""
        levels = list(levels)
        merged = [levels[-1]]
        for index in range(self.count):
            start = len(levels) - index - 2
            levels[start:] = getattr(self, f"ida_{index}")(levels[start:])
            merged.insert(0, levels[-1])
        return merged


class _IDAUp(nn.Module):
    """Up-samples each level but the first to its resolution and merges it with the one before."""

    def __init__(self, width: int, channels: tuple[int, ...], factors: tuple[int, ...]) -> None:
        super().__init__()
        for index in range(1, len(channels)):
            factor = factors[index]
            setattr(self, f"proj_{index}", _DeformBlock(channels[index], width))
            setattr(self, f"up_{index}", _up_sampling(width, factor))
            setattr(self, f"node_{index}", _DeformBlock(width, width))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        levels = list(levels)
        for index in range(1, len(levels)):
            project, up, node = (
                getattr(self, f"{name}_{index}") for name in ("proj", "up", "node")
            )
            levels[index] = node(up(project(levels[index])) + levels[index - 1])
        return levels


class _DeformBlock(nn.Module):
    """Deformable convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = DeformConv2d(in_channels, out_channels)
        self.actf = nn.Sequential(nn.BatchNorm2d(out_channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.actf(self.conv(x))


def _up_sampling(channels: int, factor: int) -> nn.ConvTranspose2d:
    """Each channel alone, beginning as bilinear interpolation."""
    layer = nn.ConvTranspose2d(
        channels, channels, 2 * factor, factor, factor // 2, groups=channels, bias=False
    )
    place = torch.arange(2 * factor) - (factor - 0.5)
    weights = 1 - place.abs() / factor
    layer.weight.data[:] = weights[:, None] * weights
    return layer


def _convolutions(
    in_channels: int, out_channels: int, count: int, stride: int = 1, kernel: int = 3
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(count):
        layers += [
            nn.Conv2d(
                in_channels if index == 0 else out_channels,
                out_channels,
                kernel,
                stride if index == 0 else 1,
                kernel // 2,
                bias=False,
            ),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)
