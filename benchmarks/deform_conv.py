"""Our deformable convolution on a CPU against torchvision's.

    python benchmarks/deform_conv.py

One thread, interleaved, medians; the results are compared. The table goes to
benchmarks/deform_conv.md.
"""

from __future__ import annotations

import datetime
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d as by_torchvision

from metaheads.ops.deform_conv import deform_conv2d
from metaheads.profiling import processor_name

REPEATS = 7
# Images, channels in, channels out, height, width.
SIZES = ((1, 256, 128, 64, 64), (1, 512, 512, 18, 18), (4, 64, 32, 40, 48), (1, 64, 64, 128, 128))


def times_of(runs: dict[str, Callable[[], Tensor]], inputs: list[Tensor]) -> list[str]:
    """Forward, and forward with backward: ours, torchvision's, times faster."""
    forward: dict[str, list[float]] = {name: [] for name in runs}
    both: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPEATS + 1):  # the first warms up
        for name, run in runs.items():
            start = time.perf_counter()
            found = run()
            forward[name].append(1000 * (time.perf_counter() - start))
            torch.autograd.grad(found.sum(), inputs)
            both[name].append(1000 * (time.perf_counter() - start))
    cells = []
    for kept in (forward, both):
        ours, theirs = (statistics.median(each[1:]) for each in kept.values())
        cells += [f"{ours:.0f}", f"{theirs:.0f}", f"{theirs / ours:.1f}"]
    return cells


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = [
        "# Deformable convolution on a CPU",
        "",
        f"`python benchmarks/deform_conv.py`, {datetime.date.today()}, {processor_name()}, one "
        f"thread, torch {torch.__version__}; medians of {REPEATS} interleaved runs, milliseconds.",
        "",
        "| images x in x height x width, out | forward, ours | torchvision | times faster | with "
        "backward, ours | torchvision | times faster |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for batch, channels, out, height, width in SIZES:
        x = torch.randn(batch, channels, height, width, requires_grad=True)
        offsets = torch.randn(batch, 18, height, width, requires_grad=True)
        weight = (torch.randn(out, channels, 3, 3) / 30).requires_grad_()
        runs = {
            "ours": lambda x=x, o=offsets, w=weight: deform_conv2d(x, o, w),
            "torchvision": lambda x=x, o=offsets, w=weight: by_torchvision(x, o, w, padding=1),
        }
        torch.testing.assert_close(runs["ours"](), runs["torchvision"](), atol=1e-4, rtol=1e-4)
        cells = times_of(runs, [x, offsets, weight])
        lines.append(f"| {batch} x {channels} x {height} x {width}, {out} | {' | '.join(cells)} |")
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
