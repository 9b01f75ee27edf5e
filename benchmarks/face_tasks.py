"""What points and mesh add to face boxes: the small RetinaFace on drawn faces, three seeds each.

    python benchmarks/face_tasks.py

Trains `retinaface_mnet025_320_faces` in MMDetection with the losses of boxes alone, with points,
and with points and mesh. Data below $METAHEADS_DATA (default: data): `shapes`, made by
`metaheads make-shapes`. Every result is kept in benchmarks/face_tasks.json, so that a run that was
cut off goes on; the table is benchmarks/face_tasks.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
from pathlib import Path

import torch

from metaheads.commands.train import RunOptions, train
from metaheads.profiling import processor_name

FOLDER = Path(__file__).parent
CONFIG = "retinaface/retinaface_mnet025_320_faces"
OFF = {
    "boxes": ("keypoint_weight", "vertex_weight", "edge_weight"),
    "boxes, points": ("vertex_weight", "edge_weight"),
    "boxes, points, mesh": (),
}
# What is not trained is not shown.
METRICS = {
    "coco/bbox_mAP": ("box AP", 100.0, tuple(OFF)),
    "coco/bbox_mAP_50": ("AP50", 100.0, tuple(OFF)),
    "points/NME": ("NME of points, %", 1.0, ("boxes, points", "boxes, points, mesh")),
    "points/vertices_NME": ("NME of vertices, %", 1.0, ("boxes, points, mesh",)),
}
LENGTHS = (
    "train_cfg.max_iters",
    "train_cfg.val_interval",
    "param_scheduler.1.end",
    "param_scheduler.1.T_max",
)
FILE = FOLDER / "face_tasks.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--work-dir", default="work_dirs/face_tasks")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed in args.seeds:
        for tasks, off in OFF.items():
            name = f"{tasks}, seed {seed}"
            if name in read_results():
                continue
            overrides = [(f"model.core.{option}", "0.0") for option in off]
            overrides += [(key, str(args.iterations)) for key in LENGTHS]
            overrides += [("randomness.seed", str(seed))]
            work_dir = f"{args.work_dir}/{name.replace(', ', '_').replace(' ', '_')}"
            metrics = train(CONFIG, "mmdet", overrides, RunOptions(), work_dir=work_dir)
            entry = {key: metrics[key] for key in METRICS} | {"iterations": args.iterations}
            found = {**read_results(), name: entry}
            FILE.write_text(json.dumps(found, indent=1) + "\n")
            write_table(found)


def read_results() -> dict[str, dict[str, float]]:
    return json.loads(FILE.read_text()) if FILE.is_file() else {}


def write_table(found: dict[str, dict[str, float]]) -> None:
    """Mean over the seeds, and the largest distance from it."""
    (iterations,) = {each["iterations"] for each in found.values()}
    lines = [
        "# What points and mesh add to face boxes",
        "",
        f"`python benchmarks/face_tasks.py --iterations {iterations}`, {datetime.date.today()}, "
        f"{processor_name()}, one thread each, torch {torch.__version__}; {CONFIG}; mean of the "
        "seeds and how far one lies from it.",
        "",
        f"| trained | {' | '.join(title for title, _, _ in METRICS.values())} | seeds |",
        f"|---|{'---:|' * (len(METRICS) + 1)}",
    ]
    for tasks in OFF:
        runs = [each for name, each in found.items() if name.rsplit(",", 1)[0] == tasks]
        if not runs:
            continue
        cells = []
        for key, (_, scale, shown_for) in METRICS.items():
            values = [scale * each[key] for each in runs]
            mean = statistics.mean(values)
            spread = max(abs(value - mean) for value in values)
            cells.append(f"{mean:.1f} ± {spread:.1f}" if tasks in shown_for else "")
        lines.append(f"| {tasks} | {' | '.join(cells)} | {len(runs)} |")
    (FOLDER / "face_tasks.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
