"""Evaluates one checkpoint in both hosts, through each host's own loader and COCO evaluator.

    python benchmarks/host_agreement.py CASE CHECKPOINT     # --list shows the cases

Data below $METAHEADS_DATA (default: data): `nuclei` and `coco_instances`. The AP of the two must be
within 0.003 on at least 1,000 detections, or the command fails. Results are kept in
benchmarks/host_agreement.json; the table benchmarks/host_agreement.md is written anew after each.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from metaheads.commands.quickstart import METRICS, to_shares
from metaheads.commands.train import RunOptions, train

FOLDER = Path(__file__).parent
TOLERANCE, FEWEST_DETECTIONS = 0.003, 1000
PHOTOGRAPHS = {
    "mmdet": str(FOLDER / "photographs" / "mmdet.py"),
    "detectron2": str(FOLDER / "photographs" / "detectron2.yaml"),
}
LARGER = {
    "mmdet": [("test_dataloader.dataset.pipeline.1.size", "(550,550)")],
    "detectron2": [("INPUT.TEST_SIZE", "(550,550)")],
}
# Config by host (or its name in both), options by host.
CASES = {
    "nuclei": ("yolact/yolact_r18_256_nuclei", {}),
    "nuclei_small_objects": ("yolact/yolact_r18_256_nuclei_small_objects", {}),
    "photographs": (PHOTOGRAPHS, {}),
    "photographs_550": (PHOTOGRAPHS, LARGER),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("case", nargs="?", choices=CASES)
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.list or not args.checkpoint:
        print("\n".join(CASES))
        return 0
    rows = [evaluate(args.case, host, args.checkpoint) for host in ("mmdet", "detectron2")]
    record(args.case, rows)
    gap = max(abs(rows[0]["metrics"][name] - rows[1]["metrics"][name]) for name in METRICS)
    fewest = min(row["detections"] for row in rows)
    agree = gap <= TOLERANCE and fewest >= FEWEST_DETECTIONS
    print(f"largest difference {gap:.4f} over {fewest} detections: {'ok' if agree else 'FAILED'}")
    return 0 if agree else 1


def evaluate(case: str, host: str, checkpoint: str) -> dict:
    """AP and number of detections of a checkpoint in one host."""
    config, options = CASES[case]
    overrides = list(options.get(host, []))
    with tempfile.TemporaryDirectory() as folder:
        if host == "mmdet":
            overrides.append(("test_evaluator.outfile_prefix", f"{folder}/found"))
        metrics = train(
            config if isinstance(config, str) else config[host],
            host,
            overrides,
            RunOptions(eval_only=True, checkpoint=checkpoint),
            work_dir=folder,
        )
        names = {"mmdet": "found.segm.json", "detectron2": "inference/coco_instances_results.json"}
        detections = json.loads((Path(folder) / names[host]).read_text())
    return {"host": host, "detections": len(detections), "metrics": to_shares(metrics)}


def record(case: str, rows: list[dict]) -> None:
    """Adds or replaces a case and writes the table anew."""
    file = FOLDER / "host_agreement.json"
    cases = json.loads(file.read_text()) if file.is_file() else {}
    cases[case] = rows
    file.write_text(json.dumps(cases, indent=1) + "\n")
    lines = [
        "# One checkpoint in both hosts",
        "",
        "`python benchmarks/host_agreement.py CASE CHECKPOINT`",
        "",
        f"| case | host | detections | {' | '.join(METRICS)} |",
        f"|---|---|---|{'---|' * len(METRICS)}",
    ]
    for name in CASES:
        for row in cases.get(name, []):
            values = " | ".join(f"{row['metrics'][metric]:.4f}" for metric in METRICS)
            lines.append(f"| {name} | {row['host']} | {row['detections']} | {values} |")
    (FOLDER / "host_agreement.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
