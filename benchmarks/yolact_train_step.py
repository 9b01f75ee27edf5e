"""A training step of YOLACT, ours and MMDetection's own, side by side in one run.

    python benchmarks/yolact_train_step.py

One thread, interleaved, medians: ResNet-18 at 256 pixels and batch 8 on nuclei
($METAHEADS_DATA/nuclei), the configs yolact_r18_256_nuclei and peer_yolact_r18_nuclei. Loading is
not timed. The table goes to benchmarks/yolact_train_step.md.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import time
from pathlib import Path

import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.runner import Runner

from metaheads.configs import config_root
from metaheads.hosts.mmdet import MODELS

CONFIGS = {
    "ours": config_root() / "mmdet" / "yolact" / "yolact_r18_256_nuclei.py",
    "MMDetection's": Path(__file__).parent / "peer_yolact_r18_nuclei.py",
}


class Step:
    """Forward with losses, backward and optimiser of one model."""

    def __init__(self, cfg: Config) -> None:
        self.model = MODELS.build(cfg.model).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    def __call__(self, batch: dict) -> tuple[float, float, float]:
        """Seconds of forward with losses, backward, optimiser."""
        data = self.model.data_preprocessor(batch, training=True)
        marks = [time.perf_counter()]
        loss, _ = self.model.parse_losses(self.model(**data, mode="loss"))
        marks.append(time.perf_counter())
        self.optimizer.zero_grad()
        loss.backward()
        marks.append(time.perf_counter())
        self.optimizer.step()
        marks.append(time.perf_counter())
        return tuple(b - a for a, b in zip(marks, marks[1:], strict=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    register_all_modules()
    configs = {name: Config.fromfile(path) for name, path in CONFIGS.items()}
    loader = configs["ours"].train_dataloader
    batches = iter(Runner.build_dataloader(loader, seed=0))
    steps = {name: Step(cfg) for name, cfg in configs.items()}
    times: dict[str, list] = {name: [] for name in steps}
    for index in range(args.steps + 1):  # the first warms up
        batch = next(batches)
        for name, step in steps.items():
            seconds = step({key: list(value) for key, value in batch.items()})
            if index:
                times[name].append(seconds)
    rows, totals = [], {}
    for name, measured in times.items():
        parts = [statistics.median(column) for column in zip(*measured, strict=True)]
        totals[name] = statistics.median(map(sum, measured))
        cells = " | ".join(f"{1000 * part:.0f}" for part in (*parts, totals[name]))
        rows.append(f"| {name} | {cells} | {totals[name] / totals['ours']:.2f} |")
    text = (
        "# A training step of YOLACT against MMDetection 3.3\n\n"
        f"`python benchmarks/yolact_train_step.py`, {datetime.date.today()}, one thread, "
        f"Python {platform.python_version()}, torch {torch.__version__}; ResNet-18, 256 pixels, "
        f"batch 8; medians of {args.steps} interleaved steps, milliseconds.\n\n"
        "| YOLACT | forward and losses | backward | optimiser | step | against ours |\n"
        "|---|---|---|---|---|---|\n"
    )
    Path(__file__).with_suffix(".md").write_text(text + "\n".join(rows) + "\n")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
