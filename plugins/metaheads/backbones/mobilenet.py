"""MobileNetV1 (arXiv 1704.04861) at a quarter of its width, the small backbone of RetinaFace.

Under the names of biubug6/Pytorch_Retinaface's checkpoints. Letters: B images, H, W pixels, h, w
cells.
"""

from __future__ import annotations

from torch import Tensor, nn


class MobileNetV1(nn.Module):
    """MobileNetV1 without its classifier.

    Args:
        base_channels: width of the first convolution, 32 in the paper; 8 is "x0.25".
        leaky_slope: of the activations for negative values; 0 is ReLU.

    Attributes:
        channels: channels of the returned features.
        strides: their strides in pixels.

    Raises:
        ValueError: a width that is not positive.
    """

    def __init__(self, *, base_channels: int = 8, leaky_slope: float = 0.1) -> None:
        super().__init__()
        if base_channels < 1:
            raise ValueError(f"base_channels must be positive, got {base_channels}")
        c, slope = base_channels, leaky_slope
        self.stage1 = nn.Sequential(
            convolution(3, c, stride=2, slope=slope),
            separable(c, 2 * c, slope=slope),
            separable(2 * c, 4 * c, stride=2, slope=slope),
            separable(4 * c, 4 * c, slope=slope),
            separable(4 * c, 8 * c, stride=2, slope=slope),
            separable(8 * c, 8 * c, slope=slope),
        )
        self.stage2 = nn.Sequential(
            separable(8 * c, 16 * c, stride=2, slope=slope),
            *(separable(16 * c, 16 * c, slope=slope) for _ in range(5)),
        )
        self.stage3 = nn.Sequential(
            separable(16 * c, 32 * c, stride=2, slope=slope),
            separable(32 * c, 32 * c, slope=slope),
        )
        self.leaky_slope = leaky_slope
        self.channels, self.strides = [8 * c, 16 * c, 32 * c], [8, 16, 32]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) images -> (B, channels, h, w) at strides 8, 16, 32, h = ceil(H / stride)."""
        features = []
        for stage in (self.stage1, self.stage2, self.stage3):
            images = stage(images)
            features.append(images)
        return features


def convolution(
    in_channels: int, out_channels: int, *, stride: int = 1, slope: float = 0.0
) -> nn.Sequential:
    """3x3 convolution, batch norm, activation (ReLU without a slope)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        activation(slope),
    )


def separable(
    in_channels: int, out_channels: int, *, stride: int = 1, slope: float = 0.0
) -> nn.Sequential:
    """3x3 convolution of each channel by itself, then 1x1, each with batch norm and activation."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        activation(slope),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        activation(slope),
    )


def activation(slope: float) -> nn.Module:
    """LeakyReLU, or ReLU for a slope of 0."""
    return nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)
