"""Making a trained network faster without changing what it computes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_batch_norms(module: nn.Module) -> int:
    """Puts the batch norms of a network in evaluation mode into the convolutions before them.

    A batch norm belongs to the convolution that is registered just before it in the same parent, as
    in all ResNets, or that holds it as `norm` (Detectron2). Others stay, and so do those of a
    convolution that several places share, each with a norm of its own.

    Returns:
        How many were folded.
    """
    uses = Counter(id(each) for _, each in module.named_modules(remove_duplicate=False))
    count = 0
    for parent in [*module.modules()]:
        norm = getattr(parent, "norm", None)
        if isinstance(parent, nn.Conv2d) and uses[id(parent)] == 1 and _is_foldable(parent, norm):
            _fold(parent, norm)
            parent.norm = None  # type: ignore[assignment]
            count += 1
        before: nn.Module | None = None
        for name, child in parent.named_children():
            is_own = isinstance(before, nn.Conv2d) and uses[id(before)] == 1
            if is_own and _is_foldable(before, child):
                _fold(before, child)
                setattr(parent, name, nn.Identity())
                count += 1
            before = child
    return count


def optimise(module: nn.Module) -> nn.Module:
    """Folds batch norms and lays the weights out channels last; results agree to about 1e-4."""
    fold_batch_norms(module.eval())
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def compile_parts(module: nn.Module) -> None:
    """torch.compile for backbone, neck and our heads; the compiler runs at the first image."""
    for name in ("backbone", "neck", "core"):
        part = getattr(module, name, None)
        if part is not None:
            part.forward = torch.compile(part.forward)


def _is_foldable(conv: Any, norm: Any) -> bool:
    has_statistics = getattr(norm, "running_mean", None) is not None
    is_norm = isinstance(norm, nn.BatchNorm2d) or type(norm).__name__ == "FrozenBatchNorm2d"
    return is_norm and has_statistics and norm.running_mean.numel() == conv.out_channels


@torch.no_grad()
def _fold(conv: Any, norm: Any) -> None:
    weight, bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
