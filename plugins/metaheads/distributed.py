"""Processes that train together: what they share, and how they end."""

from __future__ import annotations

import gc

import torch.distributed
from torch import Tensor


def leave_process_group() -> None:
    """Destroys the process group, if there is one, and joins its threads.

    A trainer is often a reference cycle, and its DistributedDataParallel holds the process group. A
    thread of gloo that outlives the interpreter aborts the process ("terminate called without an
    active exception") when it wants to release a Python object.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()


def mean_count(count: Tensor) -> Tensor:
    """The mean of a count over all processes, for losses that are divided by it.

    Their sum is taken for 1 at least: the mean of the losses is then that of the whole batch, also
    where nobody has anything to count. Every process must call this, or none.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return count.clamp(min=1)
    summed = count.float()
    torch.distributed.all_reduce(summed)
    return summed.clamp(min=1) / torch.distributed.get_world_size()
