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


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor without a graph over all processes, each of which must call this."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    summed = value.float().clone()
    torch.distributed.all_reduce(summed)
    return summed / torch.distributed.get_world_size()
