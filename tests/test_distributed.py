"""Processes that train together: equal to one with the whole batch; they end without threads."""

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing

from metaheads.architectures import Yolact
from metaheads.distributed import leave_process_group
from metaheads.structures import Targets


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


CORE = dict(num_classes=3, max_size=128, fpn_channels=8, anchor_scales=((16,), (32,), (64,)))
CORE |= dict(num_extra_levels=0, use_square_anchors=False)


def gradients(images: slice, is_empty: bool = False) -> dict[str, torch.Tensor]:
    """Of the total loss of some of four images; the first has many positives, the last none."""
    torch.manual_seed(0)
    core = Yolact([8, 8, 8], [8, 16, 32], **CORE).train()
    features = [torch.randn(4, 8, 128 // stride, 128 // stride) for stride in (8, 16, 32)]
    outputs = core([each[images] for each in features])
    truth = [each[:0] for each in targets()] if is_empty else targets()
    sum(core.losses(outputs, truth[images]).values()).backward()
    return {name: p.grad for name, p in core.named_parameters()}


def targets() -> list[Targets]:
    found = []
    for count in (6, 2, 1, 0):
        starts = torch.arange(count) * 10.0
        boxes = torch.stack((starts, starts, starts + 40, starts + 40), 1)
        masks = torch.zeros(count, 128, 128, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = True
        labels = torch.arange(count) % 3
        found.append(Targets((128, 128), boxes, labels, torch.zeros(count, dtype=bool), masks))
    return found


def work(rank: int, file: str, folder: str, is_empty: bool) -> None:
    store = torch.distributed.FileStore(file, 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.save(gradients(slice(2 * rank, 2 * rank + 2), is_empty), f"{folder}/{rank}.pth")
    leave_process_group()


@pytest.mark.parametrize("is_empty", [False, True], ids=["objects", "no object"])
def test_two_processes_train_as_one_with_the_whole_batch(tmp_path, is_empty):
    context = torch.multiprocessing.get_context("fork")
    arguments = [(rank, str(tmp_path / "store"), str(tmp_path), is_empty) for rank in range(2)]
    processes = [context.Process(target=work, args=each) for each in arguments]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
    halves = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2)]
    for name, whole in gradients(slice(0, 4), is_empty).items():
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, whole)
