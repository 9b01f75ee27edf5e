"""`metaheads quickstart`: the embedded data set, a small YOLACT trained on it, its AP and a
picture."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from metaheads.api import Model, load
from metaheads.commands.train import RunOptions, train
from metaheads.configs import HOSTS, check_installed, config_root
from metaheads.datasets.records import class_names, read_record
from metaheads.datasets.shapes import make_shapes
from metaheads.media import write_image
from metaheads.visualization import draw_detections, draw_record, grid, side_by_side

CONFIG = "yolact/yolact_r18_128_shapes"
NUM_TRAIN, NUM_VAL = 1200, 150
# The hosts' names of the same metrics; MMDetection's are shares, Detectron2's percent.
METRICS = {
    "box AP": ("coco/bbox_mAP", "bbox/AP"),
    "box AP50": ("coco/bbox_mAP_50", "bbox/AP50"),
    "mask AP": ("coco/segm_mAP", "segm/AP"),
    "mask AP50": ("coco/segm_mAP_50", "segm/AP50"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: metaheads quickstart --host mmdet"
    parser.add_argument("--host", choices=HOSTS, default="mmdet")
    parser.add_argument("--work-dir", help="output folder (default: work_dirs/demo_<host>)")


def run(args: argparse.Namespace) -> int:
    check_installed(args.host)
    data = Path(os.environ.setdefault("METAHEADS_DATA", "data")) / "shapes"
    work_dir = Path(args.work_dir or f"work_dirs/demo_{args.host}")
    sys.stdout.write(f"[1/3] writing {NUM_TRAIN + NUM_VAL} small scenes to {data}\n")
    with tqdm(total=NUM_TRAIN + NUM_VAL, unit="scene") as bar:
        make_shapes(
            data, num_train=NUM_TRAIN, num_val=NUM_VAL, only=("scenes",), progress=bar.update
        )

    sys.stdout.write(f"[2/3] training {CONFIG} with {args.host}\n")
    start = time.monotonic()
    metrics = train(CONFIG, args.host, [], RunOptions(), work_dir=str(work_dir))
    minutes = (time.monotonic() - start) / 60

    host: Any = importlib.import_module(f"metaheads.hosts.{args.host}.train")
    checkpoint = host.last_checkpoint(work_dir)
    sys.stdout.write("[3/3] drawing predictions on validation scenes\n")
    picture = work_dir / "predictions.png"
    draw_comparison(load(CONFIG, checkpoint, host=args.host), data, picture)
    sys.stdout.write("\n" + ap_table(metrics, args.host, minutes) + "\n")
    sys.stdout.write(f"checkpoint:  {checkpoint}\npicture:     {picture}\n")
    sys.stdout.write(f"TensorBoard: tensorboard --logdir {work_dir}\n")
    return 0


def to_shares(metrics: dict[str, float]) -> dict[str, float]:
    """The four APs of a host's metrics, as shares of 1 (NaN where the host gives none)."""
    shares = {}
    for name, (mmdet_key, detectron2_key) in METRICS.items():
        percent = metrics.get(detectron2_key, float("nan"))
        shares[name] = metrics.get(mmdet_key, percent / 100)
    return shares


def ap_table(metrics: dict[str, float], host: str, minutes: float) -> str:
    """A Markdown table: this run and, where it has been recorded, the host's Mask R-CNN."""
    rows = [(f"YOLACT R-18, {host} (this run, {minutes:.1f} min)", to_shares(metrics))]
    recorded = config_root().parent / "benchmarks" / "small_models.json"
    if recorded.is_file():
        for entry in json.loads(recorded.read_text()):
            if entry["config"] == "mask_rcnn/mask_rcnn_r18_shapes" and entry["host"] == host:
                rows.append(
                    (f"Mask R-CNN R-18, {host} (recorded {entry['date']})", entry["metrics"])
                )
    lines = [f"| model | {' | '.join(METRICS)} |", f"|---|{'---|' * len(METRICS)}"]
    for name, values in rows:
        lines.append(f"| {name} | {' | '.join(f'{values[m]:.3f}' for m in METRICS)} |")
    return "\n".join(lines)


def draw_comparison(model: Model, data: Path, target: Path, count: int = 8) -> None:
    """Writes a grid of validation scenes, ground truth beside prediction."""
    from pycocotools.coco import COCO

    coco = COCO(data / "annotations" / "instances_val.json")
    names = class_names(coco)
    tiles = []
    for image_id in random.Random(0).sample(sorted(coco.getImgIds()), count):
        record = read_record(coco, image_id, data / "val")
        truth = draw_record(record, names, scale=2.0)
        found = model.predict(record.image)
        prediction = draw_detections(record.image, found, names, threshold=0.3, scale=2.0)
        tiles.append(side_by_side(truth, prediction))
    write_image(target, grid(tiles, 2))
