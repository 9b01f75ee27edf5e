"""ResNet with deformable convolutions, as YOLACT++ uses it (arXiv 1912.06218, Sec. 6.2).

torchvision's ResNet (stride on the 3x3) under torchvision's names, so that its ImageNet weights,
MMDetection's and the authors' fit; deformable blocks replace `conv2`. Letters: B images, H, W
pixels, h, w cells, T taps of a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from metaheads.ops.deform_conv import deform_conv2d

NORMS = ("BN", "SyncBN", "FrozenBN", "GN")
DEPTHS = (18, 34, 50, 101, 152)


class DeformableResNet(nn.Module):
    """ResNet whose blocks may use modulated deformable convolutions; without weights of its own.

    Args:
        depth: 18, 34, 50, 101 or 152.
        out_stages: stages to return, 0 to 3 for C2 to C5.
        dcn_blocks: per stage, how many of its last blocks may be deformable.
        dcn_interval: of these, every block is whose index in the stage is a multiple of this.
        norm: BN, SyncBN, FrozenBN (fixed statistics and scale) or GN (32 groups).
        norm_eval: batch norms keep their running statistics in training.
        freeze_at: parts that do not train, from the stem on: 1 the stem, 2 also the first stage
            (Detectron2's FREEZE_AT; MMDetection's frozen_stages + 1).

    Attributes:
        channels: channels of the returned features.
        strides: their strides in pixels.

    Raises:
        ValueError: an option is outside of what is said above.
    """

    def __init__(
        self,
        *,
        depth: int = 50,
        out_stages: tuple[int, ...] = (1, 2, 3),
        dcn_blocks: tuple[int, int, int, int] = (0, 0, 0, 0),
        dcn_interval: int = 1,
        norm: str = "BN",
        norm_eval: bool = False,
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        _check(depth, out_stages, dcn_interval, norm, freeze_at)
        net = _torchvision_resnet(depth, _norm_layer(norm))
        self.conv1: nn.Module = net.conv1
        self.bn1: nn.Module = net.bn1
        self.relu, self.maxpool = net.relu, net.maxpool
        self.num_stages = max(out_stages) + 1
        for name in self._stage_names():
            setattr(self, name, getattr(net, name))
        for stage, allowed in zip(self._stages(), dcn_blocks, strict=False):
            _make_deformable(stage, allowed, dcn_interval)
        self.out_stages = tuple(sorted(out_stages))
        self.norm_eval, self.freeze_at = norm_eval, freeze_at
        self.channels = [_out_channels(self._stages()[index]) for index in self.out_stages]
        self.strides = [4 * 2**index for index in self.out_stages]
        for part in self._frozen():
            part.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> (B, channels, h, w) per stage of `out_stages`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = []
        for index, stage in enumerate(self._stages()):
            x = stage(x)
            if index in self.out_stages:
                features.append(x)
        return features

    def train(self, mode: bool = True) -> DeformableResNet:
        """As usual, but frozen parts, and with `norm_eval` all batch norms, stay in evaluation."""
        super().train(mode)
        for part in self._frozen():
            part.eval()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def _stages(self) -> list[nn.Sequential]:
        return [getattr(self, name) for name in self._stage_names()]

    def _stage_names(self) -> list[str]:
        return [f"layer{number}" for number in range(1, self.num_stages + 1)]

    def _frozen(self) -> list[nn.Module]:
        stem = [self.conv1, self.bn1] if self.freeze_at else []
        return [*stem, *self._stages()[: max(self.freeze_at - 1, 0)]]


class DeformConv2d(nn.Conv2d):
    """Modulated deformable convolution (arXiv 1811.11168), predicting its own offsets and weights.

    `conv_offset_mask` yields 3T channels: (y, x) offsets of every tap, then the taps' weights
    before the sigmoid. It begins at zero: no offset, every tap weighted by a half.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation)
        self.bias: nn.Parameter
        taps = self.kernel_size[0] * self.kernel_size[1]
        self.conv_offset_mask = nn.Conv2d(
            in_channels, 3 * taps, kernel_size, stride, padding, dilation
        )
        for parameter in (*self.conv_offset_mask.parameters(), self.bias):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, h, w); half precision is computed in float32.

        Offsets of some pixels need more digits than half precision has, and CPUs lack the op in it.
        """
        predicted = self.conv_offset_mask(x)
        exact = torch.promote_types(x.dtype, torch.float32)
        offsets, weights = predicted.to(exact).tensor_split([predicted.shape[1] * 2 // 3], 1)
        out = deform_conv2d(
            x,
            offsets,
            self.weight,
            self.bias,
            stride=(self.stride[0], self.stride[1]),
            padding=(int(self.padding[0]), int(self.padding[1])),
            dilation=(self.dilation[0], self.dilation[1]),
            modulation=weights.sigmoid(),
        )
        return out.to(predicted.dtype)


def _check(
    depth: int, out_stages: tuple[int, ...], dcn_interval: int, norm: str, freeze_at: int
) -> None:
    if depth not in DEPTHS:
        raise ValueError(f"depth must be one of {DEPTHS}, got {depth}")
    if not out_stages or not set(out_stages) <= {0, 1, 2, 3}:
        raise ValueError(f"out_stages must name some of the stages 0, 1, 2, 3, got {out_stages}")
    if dcn_interval < 1:
        raise ValueError(f"dcn_interval must be positive, got {dcn_interval}")
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {NORMS}, got {norm!r}")
    if not 0 <= freeze_at <= 5:
        raise ValueError(f"freeze_at must be between 0 (nothing) and 5 (all), got {freeze_at}")


def _torchvision_resnet(depth: int, norm_layer: Callable[[int], nn.Module]) -> Any:
    from torchvision.models import resnet

    return getattr(resnet, f"resnet{depth}")(weights=None, norm_layer=norm_layer)


def _norm_layer(norm: str) -> Callable[[int], nn.Module]:
    if norm == "FrozenBN":
        from torchvision.ops import FrozenBatchNorm2d

        return FrozenBatchNorm2d
    plain: dict[str, Callable[[int], nn.Module]] = {
        "BN": nn.BatchNorm2d,
        "SyncBN": nn.SyncBatchNorm,
        "GN": partial(nn.GroupNorm, 32),
    }
    return plain[norm]


def _make_deformable(stage: Any, allowed: int, interval: int) -> None:
    """Among the last `allowed` blocks, every `interval`-th counted from the stage's first block.

    (Authors of YOLACT++: ResNetBackbone._make_layer.)
    """
    for index, block in enumerate(stage):
        if index + allowed < len(stage) or index % interval:
            continue
        plain = block.conv2
        deformable = DeformConv2d(
            plain.in_channels,
            plain.out_channels,
            plain.kernel_size[0],
            plain.stride[0],
            plain.padding[0],
            plain.dilation[0],
        )
        nn.init.kaiming_normal_(deformable.weight, mode="fan_out", nonlinearity="relu")
        block.conv2 = deformable


def _out_channels(stage: nn.Sequential) -> int:
    last: Any = stage[-1]
    return (last.conv3 if hasattr(last, "conv3") else last.conv2).out_channels
