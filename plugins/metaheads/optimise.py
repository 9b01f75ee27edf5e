"""Making a trained network faster without changing what it computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_batch_norms(module: nn.Module, run: Callable[[], Any]) -> int:
    """Puts the batch norms of a network in evaluation mode into the convolutions before them.

    A run of the network shows which batch norm gets just what a convolution gives; a convolution of
    Detectron2 holds its own as `norm`. Others stay, and so do those of a convolution that several
    places share, each with a norm of its own.

    Args:
        module: the network.
        run: predicts with it once.

    Returns:
        How many were folded.
    """
    uses = Counter(id(each) for _, each in module.named_modules(remove_duplicate=False))
    places = _places(module)
    count = 0
    for parent in [*module.modules()]:
        norm = getattr(parent, "norm", None)
        if isinstance(parent, nn.Conv2d) and uses[id(parent)] == 1 and _is_foldable(parent, norm):
            _fold(parent, norm)
            parent.norm = None  # type: ignore[assignment]
            count += 1
    for conv, norm in _followers(module, run):
        if uses[id(conv)] == uses[id(norm)] == 1 and _is_foldable(conv, norm):
            _fold(conv, norm)
            parent, name = places[id(norm)]
            setattr(parent, name, nn.Identity())
            count += 1
    return count


def optimise(module: nn.Module, run: Callable[[], Any]) -> nn.Module:
    """Folds batch norms and lays the weights out channels last; results agree to about 1e-4.

    The layout stays where mmcv's RoIAlign is: it reads other layouts as if they were channels
    first.
    """
    fold_batch_norms(module.eval(), run)
    if has_mmcv_regions(module):
        return module
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def has_mmcv_regions(module: nn.Module) -> bool:
    """Whether mmcv's RoIAlign is in it."""
    return any(type(part).__module__ == "mmcv.ops.roi_align" for part in module.modules())


def _places(module: nn.Module) -> dict[int, tuple[nn.Module, str]]:
    """Where each module is registered: id -> (parent, name)."""
    return {
        id(child): (parent, name)
        for parent in module.modules()
        for name, child in parent.named_children()
    }


@torch.no_grad()
def _followers(module: nn.Module, run: Callable[[], Any]) -> list[tuple[Any, Any]]:
    """(convolution, norm) where the norm's input is the convolution's output, unchanged."""
    given: dict[int, tuple[nn.Module, Tensor, int]] = {}
    calls: Counter[int] = Counter()
    pairs: list[tuple[Any, Any]] = []

    def after(part: nn.Module, _: Any, output: Tensor) -> None:
        calls[id(part)] += 1
        given[id(output)] = (part, output, output._version)  # holds it: no id comes twice

    def before(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        conv, output, version = given.get(id(inputs[0]), (None, inputs[0], -1))
        if conv is not None and output._version == version:
            pairs.append((conv, part))

    handles = []
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            handles.append(part.register_forward_hook(after))
        elif _has_statistics(part):
            handles.append(part.register_forward_pre_hook(before))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return [(conv, norm) for conv, norm in pairs if calls[id(conv)] == 1]


def compile_parts(module: nn.Module) -> None:
    """torch.compile for backbone, neck and our heads; the compiler runs at the first image.

    For prediction only: weights become constants, laid out for the compiled code ("freezing").
    """
    from torch._inductor import config as inductor

    for name in ("backbone", "neck", "core"):
        part = getattr(module, name, None)
        if part is not None:
            # Set while it traces, at the first call: torch.compile(options=...) would be too late.
            part.forward = inductor.patch(freezing=True)(torch.compile(part.forward))


def _has_statistics(part: Any) -> bool:
    is_norm = isinstance(part, nn.BatchNorm2d) or type(part).__name__ == "FrozenBatchNorm2d"
    return is_norm and getattr(part, "running_mean", None) is not None


def _is_foldable(conv: Any, norm: Any) -> bool:
    return _has_statistics(norm) and norm.running_mean.numel() == conv.out_channels


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
