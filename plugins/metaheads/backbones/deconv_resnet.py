"""ResNet with deconvolutions up to stride 4, as CenterNet uses it (arXiv 1904.07850, Sec. 5).

Under the names of CenterNet's checkpoints. Letters: B images, H, W pixels, h, w cells.
"""

from __future__ import annotations

from torch import Tensor, nn

from metaheads.backbones.resnet import DeformableResNet, DeformConv2d

CONVOLUTIONS = ("none", "plain", "deformable")


class DeconvResNet(DeformableResNet):
    """ResNet whose last feature is brought back to stride 4 by deconvolutions.

    Args:
        depth: 18, 34, 50, 101 or 152.
        deconv_channels: width after each deconvolution.
        convolution: a 3x3 convolution before each: "none" (the authors' res_18), "plain"
            (MMDetection's CenterNet without DCN) or "deformable" (the authors' resdcn_18).
        norm, norm_eval, freeze_at: as in `DeformableResNet`.

    Attributes:
        channels: [the last of deconv_channels].
        strides: [4] for three deconvolutions.
        size_divisor: of which the input's sides must be multiples.

    Raises:
        ValueError: an option is outside of what is said above.
    """

    size_divisor = 32

    def __init__(
        self,
        *,
        depth: int = 18,
        deconv_channels: tuple[int, ...] = (256, 256, 256),
        convolution: str = "none",
        norm: str = "BN",
        norm_eval: bool = False,
        freeze_at: int = 0,
    ) -> None:
        super().__init__(
            depth=depth, out_stages=(3,), norm=norm, norm_eval=norm_eval, freeze_at=freeze_at
        )
        if convolution not in CONVOLUTIONS:
            raise ValueError(f"convolution must be one of {CONVOLUTIONS}, got {convolution!r}")
        layers: list[nn.Module] = []
        width = self.channels[0]
        for channels in deconv_channels:
            if convolution != "none":
                layers += [_convolution(convolution, width, channels), nn.BatchNorm2d(channels)]
                layers += [nn.ReLU()]
                width = channels
            layers += [nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(channels), nn.ReLU()]
            width = channels
        self.deconv_layers = nn.Sequential(*layers)
        self.channels, self.strides = [width], [32 // 2 ** len(deconv_channels)]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images, sizes multiples of 32 -> [(B, channels, h, w)]."""
        return [self.deconv_layers(super().forward(images)[0])]


def _convolution(kind: str, in_channels: int, out_channels: int) -> nn.Module:
    if kind == "deformable":
        return DeformConv2d(in_channels, out_channels)
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
