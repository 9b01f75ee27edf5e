"""The end of a process that trained with others."""

from __future__ import annotations

import gc

import torch.distributed


def leave_process_group() -> None:
    """Destroys the process group, if there is one, and joins its threads.

    A trainer is often a reference cycle, and its DistributedDataParallel holds the process group. A
    thread of gloo that outlives the interpreter aborts the process ("terminate called without an
    active exception") when it wants to release a Python object.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()
