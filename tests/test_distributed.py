"""A process that trained with others ends without threads of gloo."""

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed

from metaheads.distributed import leave_process_group


class Trainer:
    """A reference cycle that holds the process group, like MMEngine's Runner."""

    def __init__(self) -> None:
        self.group = torch.distributed.group.WORLD
        torch.distributed.all_reduce(torch.ones(1))  # until then its threads may not have a name
        self.hooks = [self]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the threads' names from /proc")
def test_no_thread_of_gloo_is_left():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    Trainer()
    assert gloo_threads()
    leave_process_group()
    assert not gloo_threads()
    leave_process_group()  # nothing left to leave: no error


def gloo_threads() -> list[str]:
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    return [name for name in names if "gloo" in name]
