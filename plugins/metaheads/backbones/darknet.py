"""Darknet-53 (YOLOv3, arXiv 1804.02767), laid out and named as in the authors' YOLACT.

Letters: B images, H, W pixels, h, w cells.
"""

from __future__ import annotations

from torch import Tensor, nn

BLOCKS = (1, 2, 8, 8, 4)


class Darknet53(nn.Module):
    """Darknet-53 without its classifier; images are expected in [0, 1] (RGB / 255).

    Args:
        out_stages: stages to return, 0 to 4 for C1 to C5.
        norm_eval: batch norms keep their running statistics in training.

    Attributes:
        channels: channels of the returned features.
        strides: their strides in pixels.

    Raises:
        ValueError: `out_stages` names other stages.
    """

    def __init__(self, *, out_stages: tuple[int, ...] = (2, 3, 4), norm_eval: bool = False) -> None:
        super().__init__()
        if not out_stages or not set(out_stages) <= set(range(len(BLOCKS))):
            raise ValueError(f"out_stages must name some of the stages 0 to 4, got {out_stages}")
        self.preconv = _conv(3, 32, 3)
        self.layers = nn.ModuleList()
        for index, blocks in enumerate(BLOCKS[: max(out_stages) + 1]):
            width = 32 * 2**index
            residuals = [_Residual(2 * width, width) for _ in range(blocks)]
            self.layers.append(nn.Sequential(_conv(width, 2 * width, 3, stride=2), *residuals))
        self.out_stages = tuple(sorted(out_stages))
        self.norm_eval = norm_eval
        self.channels = [64 * 2**index for index in self.out_stages]
        self.strides = [2 * 2**index for index in self.out_stages]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.1, nonlinearity="leaky_relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) images -> (B, channels, h, w) per stage of `out_stages`, finest first."""
        x = self.preconv(images)
        features = []
        for index, stage in enumerate(self.layers):
            x = stage(x)
            if index in self.out_stages:
                features.append(x)
        return features

    def train(self, mode: bool = True) -> Darknet53:
        """As usual, but with `norm_eval` the batch norms stay in evaluation mode."""
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


class _Residual(nn.Module):
    """1x1 to half the width, 3x3 back; the sum is not activated."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels, hidden, 1)
        self.conv2 = _conv(hidden, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)) + x


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(0.1, inplace=True),
    )
