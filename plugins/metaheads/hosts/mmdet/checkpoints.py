"""Checkpoints of MMEngine's runner that survive a kill and load under `weights_only=True`.

A config uses both parts:

    default_hooks = dict(checkpoint=dict(type="CheckpointHook", backend_args=dict(
        backend="metaheads.AtomicLocalBackend"), ...))
    custom_hooks = [
        dict(type="metaheads.PlainCheckpoints"),
        dict(type="metaheads.BroadcastBuffers"),
    ]
    train_cfg = dict(type="metaheads.TrainLoop", ...)
"""

from __future__ import annotations

import collections
import itertools
import os
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.dist import broadcast
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import IterBasedTrainLoop

from metaheads.hosts.mmdet.registry import HOOKS, LOOPS

_STEP = re.compile(r"^(?:iter|epoch)_(\d+)\.pth$")


@register_backend("metaheads.AtomicLocalBackend")
class AtomicLocalBackend(LocalBackend):
    """Writes beside the file and renames, so that a file is there whole or not at all.

    MMEngine removes an old checkpoint just before it writes the one that takes its place, which may
    leave none: here a file is removed when the next one is written.
    """

    _outdated: ClassVar[list[str | Path]] = []  # MMEngine makes a backend for every file

    def put(self, obj: bytes, filepath: str | Path) -> None:
        unfinished = Path(f"{filepath}.writing")
        super().put(obj, unfinished)
        os.replace(unfinished, filepath)
        while self._outdated:
            outdated = Path(self._outdated.pop())
            if outdated != Path(filepath):
                outdated.unlink(missing_ok=True)

    def remove(self, filepath: str | Path) -> None:
        if not self.isfile(filepath):
            raise FileNotFoundError(f"{filepath}: no such file")
        self._outdated.append(filepath)


@HOOKS.register_module()
class PlainCheckpoints(Hook):
    """Keeps classes out of checkpoints: MMEngine's HistoryBuffers are stored as tensors.

    Without it no checkpoint that the runner writes can be read with torch's `weights_only=True`,
    the default since torch 2.6, so that `--resume`, `init_detector` and `DetInferencer` fail.
    And in a work directory that was moved or copied, the best checkpoint is the one that lies here.
    """

    priority = "VERY_LOW"

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        for key in ("message_hub", "meta"):
            checkpoint[key] = _to_plain(checkpoint[key])

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        scalars = checkpoint.get("message_hub", {}).get("log_scalars", {})
        for key, value in scalars.items():
            if isinstance(value, dict):
                scalars[key] = _from_plain(value)
        info = checkpoint.get("message_hub", {}).get("runtime_info", {})
        if info.get("best_ckpt"):
            info["best_ckpt"] = str(Path(runner.work_dir) / Path(info["best_ckpt"]).name)


@HOOKS.register_module()
class BroadcastBuffers(Hook):
    """Evaluates in every process with the buffers of the first, which are those that are saved.

    Batch norms of several processes gather statistics of their own; without this hook the metrics
    of an evaluation in the middle of a training are not those of its checkpoint.
    """

    def before_val_epoch(self, runner) -> None:
        for buffer in runner.model.buffers():
            broadcast(buffer)


@LOOPS.register_module()
class TrainLoop(IterBasedTrainLoop):
    """MMEngine's, which on a resume loads and augments all batches of the past once more.

    Here only their numbers are drawn: with a fixed `randomness.seed` the order goes on where it was
    (but for the few batches that workers have prepared by then).
    """

    def run(self) -> torch.nn.Module:
        batches = self.dataloader.batch_sampler
        numbers = getattr(batches.sampler, "indices", iter(()))  # of an InfiniteSampler
        collections.deque(itertools.islice(numbers, self.iter * batches.batch_size), maxlen=0)
        past = itertools.repeat(None, self.iter)
        self.dataloader_iterator = itertools.chain(past, self.dataloader_iterator)
        model = super().run()
        if self.stop_training:  # early: MMEngine would keep no checkpoint of the end
            for hook in self.runner.hooks:
                if isinstance(hook, CheckpointHook):
                    meta = {"epoch": self.runner.epoch, "iter": self.iter}
                    hook._save_checkpoint_with_step(self.runner, self.iter, meta)
        return model


def last_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint that a work directory's training would resume from, or None.

    `last_checkpoint` holds an absolute path, which is wrong in a directory that was moved: the name
    counts. A kill can leave it empty: then it is the checkpoint with the most training steps.
    """
    tag = Path(folder) / "last_checkpoint"
    if not tag.is_file():
        return None
    tagged = Path(folder) / Path(tag.read_text().strip()).name
    if tagged.is_file():
        return tagged
    steps = {path: _STEP.match(path.name) for path in Path(folder).glob("*.pth")}
    found = {int(match[1]): path for path, match in steps.items() if match}
    return found[max(found)] if found else None


def forget_checkpoints(folder: str | Path) -> None:
    """A new training begins: a later resume must not find the checkpoints of one before it."""
    (Path(folder) / "last_checkpoint").unlink(missing_ok=True)


def _to_plain(value: Any) -> Any:
    """Containers of numbers, texts and tensors, without MMEngine's and numpy's classes."""
    if isinstance(value, HistoryBuffer):
        values, counts = (torch.from_numpy(history) for history in value.data)
        return {"values": values, "counts": counts, "max_length": value.max_length}
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_plain(item) for item in value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    return value


def _from_plain(plain: dict) -> HistoryBuffer:
    return HistoryBuffer(plain["values"].numpy(), plain["counts"].numpy(), plain["max_length"])
