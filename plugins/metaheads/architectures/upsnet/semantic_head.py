"""The semantic head of UPSNet (Sec. 3.2): one deformable subnet for all levels of the pyramid.

Letters: B images, C classes, h, w cells of the finest level.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaheads.ops.deform_conv import deform_conv2d

NORMS = ("none", "GN")


class SemanticHead(nn.Module):
    """Deformable 3x3 layers shared by P2 to P5, brought to the finest level, concatenated, scored.

    Args:
        in_channels: channels of every level.
        num_classes: C.
        widths: of the layers.
        norm: "none" (UPSNet: convolutions with bias) or "GN" (VPSNet: 32 groups, no bias).

    Raises:
        ValueError: levels of different width, or an unknown norm.
    """

    def __init__(
        self,
        in_channels: list[int],
        num_classes: int,
        widths: tuple[int, ...] = (256, 128, 128),
        norm: str = "none",
    ) -> None:
        super().__init__()
        if len(set(in_channels)) != 1:
            raise ValueError(f"the levels must have one width, got in_channels={in_channels}")
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {NORMS}, got {norm!r}")
        layers: list[nn.Module] = []
        for before, width in zip((in_channels[0], *widths), widths, strict=False):
            layers += [DeformableConv2d(before, width, bias=norm == "none")]
            layers += [nn.GroupNorm(32, width)] if norm == "GN" else []
            layers += [nn.ReLU()]
        self.subnet = nn.Sequential(*layers)
        self.score = nn.Conv2d(len(in_channels) * widths[-1], num_classes, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Levels (B, channels, h / 2^i, w / 2^i) -> logits (B, C, h, w), and what they are made of,
        (B, levels x last width, h, w)."""
        parts = []
        for level, feature in enumerate(features):
            part = self.subnet(feature)
            if level:
                part = F.interpolate(
                    part, scale_factor=2**level, mode="bilinear", align_corners=False
                )
            parts.append(part)
        height, width = parts[0].shape[-2:]
        # Levels of odd sizes reach a little further than the finest one.
        joined = torch.cat([part[..., :height, :width] for part in parts], 1)
        return self.score(joined), joined


class DeformableConv2d(nn.Conv2d):
    """Deformable 3x3 convolution (arXiv 1703.06211), predicting its own offsets, (y, x) per tap."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.conv_offset = nn.Conv2d(in_channels, 18, 3, padding=1)
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h, w); half precision is computed in float32."""
        return deform_conv2d(x, self.conv_offset(x), self.weight, self.bias).to(x.dtype)
