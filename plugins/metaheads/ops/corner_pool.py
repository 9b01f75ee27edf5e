"""Corner pooling (CornerNet, Sec. 3.4): the running maximum along rows or columns.

No form is the fastest everywhere (benchmarks/keypoint_decode.md): on CPUs rows are compared one
after the other, where columns lie apart in memory; along rows it is torch.cummax in a training, and
without gradients maxima over distances that double, as in exported graphs, which have no cummax. On
GPUs it is torch.cummax.
Letters: B images, D channels, h, w cells.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# direction -> axis, and whether the maximum runs from the far end.
DIRECTIONS = {"top": (-2, True), "bottom": (-2, False), "left": (-1, True), "right": (-1, False)}


def corner_pool(maps: Tensor, direction: str, *, is_compatible: bool = False) -> Tensor:
    """(B, D, h, w) -> (B, D, h, w): "top" is the maximum of all cells from here to the bottom,
    "bottom" from the top to here, "left" from here to the right end, "right" from the left end to
    here.

    Args:
        is_compatible: the gradient of equal maxima goes to the one that is met first, as in the
            authors' code; otherwise to any of them. (Behind a ReLU equal maxima are zeros, which
            hand no gradient on.)
    """
    axis, is_reversed = DIRECTIONS[direction]
    if torch.compiler.is_compiling():
        return _doubling(maps, axis, is_reversed)
    if is_compatible and axis == -1:
        turned = maps.transpose(-1, -2).contiguous()
        return _RunningMax.apply(turned, is_reversed).transpose(-1, -2)
    if axis == -2 and (is_compatible or not maps.is_cuda):
        return _RunningMax.apply(maps, is_reversed)
    if not (maps.is_cuda or (maps.requires_grad and torch.is_grad_enabled())):
        return _doubling_in_place(maps, is_reversed)
    return running_max(maps, axis, is_reversed)


class _RunningMax(torch.autograd.Function):
    """Along the rows, one after the other; no copy of the whole in between."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, is_reversed: bool) -> Tensor:
        pooled = torch.empty_like(maps)
        order = _order(maps.shape[-2], is_reversed)
        pooled[..., order[0], :] = maps[..., order[0], :]
        for last, here in zip(order, order[1:], strict=False):
            torch.maximum(pooled[..., last, :], maps[..., here, :], out=pooled[..., here, :])
        ctx.is_reversed = is_reversed
        ctx.save_for_backward(pooled)
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (pooled,) = ctx.saved_tensors
        order = _order(pooled.shape[-2], ctx.is_reversed)
        found = torch.empty_like(grad)
        carried = torch.zeros_like(grad[..., 0, :])
        for last, here in zip(reversed(order[:-1]), reversed(order[1:]), strict=True):
            carried += grad[..., here, :]
            # A maximum that rose is this cell's own; one that stayed is that of a cell before.
            rose = pooled[..., here, :] > pooled[..., last, :]
            torch.mul(carried, rose, out=found[..., here, :])
            carried.masked_fill_(rose, 0.0)
        found[..., order[0], :] = carried + grad[..., order[0], :]
        return found, None


def _order(count: int, is_reversed: bool) -> list[int]:
    return list(range(count))[:: -1 if is_reversed else 1]


def running_max(maps: Tensor, axis: int, is_reversed: bool) -> Tensor:
    """Along an axis, from its far end if reversed, by torch.cummax."""
    if not is_reversed:
        return maps.cummax(axis).values
    return maps.flip(axis).cummax(axis).values.flip(axis)


def _doubling_in_place(maps: Tensor, is_reversed: bool) -> Tensor:
    """`_doubling` along the columns, without gradients, by turns in two tensors."""
    pooled, other = maps.clone(memory_format=torch.contiguous_format), torch.empty_like(maps)
    count, distance = maps.shape[-1], 1
    while distance < count:
        near, far = slice(None, -distance), slice(distance, None)
        risen, kept = (near, slice(-distance, None)) if is_reversed else (far, slice(distance))
        torch.maximum(pooled[..., near], pooled[..., far], out=other[..., risen])
        other[..., kept] = pooled[..., kept]
        pooled, other = other, pooled
        distance *= 2
    return pooled


def _doubling(maps: Tensor, axis: int, is_reversed: bool) -> Tensor:
    """Maxima over 2, 4, 8, ... cells."""
    count, distance = maps.shape[axis], 1
    while distance < count:
        kept = maps.narrow(axis, count - distance if is_reversed else 0, distance)
        near = maps.narrow(axis, 0, count - distance)
        far = maps.narrow(axis, distance, count - distance)
        risen = torch.maximum(near, far)
        maps = torch.cat((risen, kept) if is_reversed else (kept, risen), axis)
        distance *= 2
    return maps
