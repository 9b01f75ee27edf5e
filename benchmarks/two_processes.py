"""Trains with 2 processes x batch 4 and with 1 process x batch 8, and compares the training loss.

    python benchmarks/two_processes.py --host mmdet

Group norm instead of batch norm, whose statistics depend on the batch of a process. Both processes
divide their losses by their mean number of positives, so that only what is drawn differs: the mean
loss of every hundred iterations after the first must agree within 5 %, or the command fails.
The line for the table goes to benchmarks/two_processes.md. Data: $METAHEADS_DATA/shapes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

import torch

CONFIG = "yolact/yolact_r18_128_shapes"
BATCH, WINDOW, TOLERANCE = 8, 100, 0.05
OPTIONS = {
    "mmdet": "train_cfg.max_iters={n} train_cfg.val_interval={n} "
    "train_dataloader.batch_size={share} "
    "model.backbone.norm_cfg.type=GN model.backbone.norm_cfg.num_groups=32",
    "detectron2": "SOLVER.MAX_ITER {n} TEST.EVAL_PERIOD 0 SOLVER.IMS_PER_BATCH {batch} "
    "MODEL.RESNETS.NORM GN",
}
LOGS = {
    "mmdet": ("*/vis_data/scalars.json", "step", "loss"),
    "detectron2": ("metrics.json", "iteration", "total_loss"),
}


def losses(host: str, work_dir: Path, processes: int, iterations: int) -> list[float]:
    """Trains; the mean loss of every WINDOW iterations."""
    words = [sys.executable, "-m", "metaheads.cli", "train", "--config-file", CONFIG]
    words += ["--host", host, "--work-dir", str(work_dir), "--num-gpus", str(processes)]
    options = OPTIONS[host].format(n=iterations, batch=BATCH, share=BATCH // processes)
    done = subprocess.run([*words, *options.split()], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed:\n{done.stderr[-4000:]}")
    pattern, step, loss = LOGS[host]
    (log,) = work_dir.glob(pattern)
    windows: dict[int, list[float]] = {}
    for entry in map(json.loads, log.read_text().splitlines()):
        if loss in entry:
            windows.setdefault((entry[step] - 1) // WINDOW, []).append(entry[loss])
    return [sum(values) / len(values) for _, values in sorted(windows.items())]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--host", choices=list(OPTIONS), required=True)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/two_processes"))
    args = parser.parse_args()
    root = args.work_dir / f"{args.host}_{datetime.datetime.now():%H%M%S}"
    one, two = (losses(args.host, root / f"{n}", n, args.iterations) for n in (1, 2))
    ratios = [b / a for a, b in zip(one, two, strict=True)]
    file = Path(__file__).with_suffix(".md")
    if not file.is_file():
        file.write_text(
            "# Two processes of 4 images against one of 8\n\n"
            "`python benchmarks/two_processes.py --host HOST`; group norm; both processes divide "
            f"by their mean number of positives. Mean loss of every {WINDOW} iterations.\n\n"
            "| host | 1 x 8 | 2 x 4 | ratio | date, torch |\n|---|---|---|---|---|\n"
        )
    columns = (" ".join(f"{value:.3f}" for value in values) for values in (one, two, ratios))
    line = f"| {args.host} | {' | '.join(columns)} | {datetime.date.today()}, {torch.__version__} |"
    file.write_text(file.read_text() + line + "\n")
    print(line)
    return 0 if all(abs(ratio - 1) <= TOLERANCE for ratio in ratios[1:]) else 1


if __name__ == "__main__":
    sys.exit(main())
