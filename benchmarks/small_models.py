"""Trains small models in both hosts and writes their AP and time, one table for all.

    python benchmarks/small_models.py NAME [NAME ...]      # all without a name; --list shows them

Data below $METAHEADS_DATA (default: data): `shapes` (tools/make_shapes.py or make demo) and
`nuclei`. Each run's result is kept in benchmarks/small_models.json, so that runs can be added one
by one; the table benchmarks/small_models.md is written anew after each.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from pathlib import Path

import torch

from metaheads.commands.quickstart import METRICS, to_shares
from metaheads.commands.train import RunOptions, train

FOLDER = Path(__file__).parent
RUNS = {
    f"{host}/{config.split('/')[1]}": (host, config)
    for config in (
        "yolact/yolact_r18_128_shapes",
        "mask_rcnn/mask_rcnn_r18_shapes",
        "yolact/yolact_r18_256_nuclei",
        "yolact/yolact_r18_256_nuclei_small_objects",
        "mask_rcnn/mask_rcnn_r18_nuclei",
    )
    for host in ("mmdet", "detectron2")
}
# Configs of this folder: our longest training of nuclei, and MMDetection's own YOLACT.
for _name in ("nuclei_longer", "peer_yolact_r18_nuclei"):
    RUNS[f"mmdet/{_name}"] = ("mmdet", str(FOLDER / f"{_name}.py"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*RUNS, []])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--work-dir", default="work_dirs/small_models")
    args = parser.parse_args()
    if args.list:
        print("\n".join(RUNS))
        return
    for name in args.names or RUNS:
        host, config = RUNS[name]
        start = time.monotonic()
        metrics = train(config, host, [], RunOptions(), work_dir=f"{args.work_dir}/{name}")
        entry = {
            "config": config if not Path(config).is_absolute() else Path(config).name,
            "host": host,
            "metrics": to_shares(metrics),
            "minutes": round((time.monotonic() - start) / 60, 1),
            "date": str(datetime.date.today()),
            "machine": f"{torch.get_num_threads()} CPU threads, {platform.machine()}",
        }
        record(entry)


def record(entry: dict) -> None:
    """Adds or replaces one run and writes the table anew."""
    file = FOLDER / "small_models.json"
    entries = json.loads(file.read_text()) if file.is_file() else []
    entries = [e for e in entries if (e["host"], e["config"]) != (entry["host"], entry["config"])]
    order = {Path(config).name: index for index, (_, config) in enumerate(RUNS.values())}
    entries.append(entry)
    entries.sort(key=lambda e: (order.get(Path(e["config"]).name, 99), e["host"]))
    file.write_text(json.dumps(entries, indent=1) + "\n")
    lines = [
        "# Small models from scratch",
        "",
        "`python benchmarks/small_models.py`; minutes include start-up and evaluation; most runs "
        "had other work beside them.",
        "",
        f"| config | host | {' | '.join(METRICS)} | minutes | date | machine |",
        f"|---|---|{'---|' * len(METRICS)}---|---|---|",
    ]
    for each in entries:
        values = " | ".join(f"{each['metrics'][metric]:.3f}" for metric in METRICS)
        lines.append(
            f"| {each['config']} | {each['host']} | {values} | {each['minutes']} | {each['date']} "
            f"| {each['machine']} |"
        )
    (FOLDER / "small_models.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
