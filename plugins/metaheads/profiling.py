"""Where the time goes: exclusive times of nested stages, peak memory, multiply-adds."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch

# (object, name of its method, stage that the method belongs to)
Probe = tuple[Any, str, str]


class StageClock:
    """Times stages that may be nested: what an inner stage takes is not the outer one's.

    On a GPU the marks between stages are CUDA events, so that nothing waits in between.

    Args:
        device: where the work happens.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._cuda = torch.device(device).type == "cuda"
        self._open: list[str] = []
        self._marks: list[tuple[str | None, Any]] = []

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._open.append(name)
        self._mark()
        try:
            yield
        finally:
            self._open.pop()
            self._mark()

    @contextlib.contextmanager
    def watch(self, probes: Sequence[Probe]) -> Iterator[None]:
        """Within this context every probe's method runs as its stage."""
        with contextlib.ExitStack() as stack:
            for owner, name, stage in probes:
                timed = self._timed(getattr(owner, name), stage)
                stack.enter_context(mock.patch.object(owner, name, timed))
            yield

    def seconds(self) -> dict[str, float]:
        """Seconds per stage since the last call, in the order in which stages began."""
        if self._cuda:
            torch.cuda.synchronize()
        found: dict[str, float] = {}
        for (name, begin), (_, end) in zip(self._marks, self._marks[1:], strict=False):
            if name is not None:
                duration = begin.elapsed_time(end) / 1000 if self._cuda else end - begin
                found[name] = found.get(name, 0.0) + duration
        self._marks.clear()
        return found

    def _mark(self) -> None:
        mark: Any = time.perf_counter()
        if self._cuda:
            mark = torch.cuda.Event(enable_timing=True)
            mark.record()
        self._marks.append((self._open[-1] if self._open else None, mark))

    def _timed(self, function: Callable, stage: str) -> Callable:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(stage):
                return function(*args, **kwargs)

        return timed


def peak_memory(run: Callable[[], Any], device: str | torch.device = "cpu") -> dict[str, float]:
    """MiB that a call needs at its peak beyond what was in use: "host" (Linux), "device" (CUDA)."""
    cuda = torch.device(device).type == "cuda"
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed pages: they would not count
    before = _resident("VmRSS")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
        device_before = torch.cuda.memory_allocated(device)
    kept = run()
    found = {}
    if before is not None:
        found["host"] = (_resident("VmHWM") or before) - before
    del kept
    if cuda:
        found["device"] = (torch.cuda.max_memory_allocated(device) - device_before) / 2**20
    return found


def giga_multiply_adds(run: Callable[[], Any]) -> float:
    """10^9 multiply-adds of the matrix products and convolutions in a call."""
    import torchvision  # noqa: F401 - its operators
    from torch.utils.flop_counter import FlopCounterMode

    deform_conv2d = torch.ops.torchvision.deform_conv2d
    counter = FlopCounterMode(display=False, custom_mapping={deform_conv2d: _deform_conv_flops})
    with counter:
        run()
    return counter.get_total_flops() / 2 / 1e9


def processor_name() -> str:
    """What the CPU calls itself."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _deform_conv_flops(
    image: tuple[int, ...], weight: tuple[int, ...], *_: Any, out_shape: Any = None, **__: Any
) -> int:
    """Shapes of a deformable convolution's arguments -> its operations, without the sampling."""
    outputs, inputs, height, width = weight
    return 2 * out_shape[0] * out_shape[2] * out_shape[3] * outputs * inputs * height * width


def _resident(field: str) -> float | None:
    """A line of /proc/self/status in MiB; None where there is no such file."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field + ":"))
