"""One trained checkpoint in both hosts.

    python benchmarks/host_agreement.py CASE CHECKPOINT     # --list shows the cases

First the same preprocessed images and ground truth (with the crowds) go into both models: raw
outputs and losses must agree to 1e-5, detections must be equal, at least 1,000 of them. Then it is
evaluated through each host's own loader and COCO evaluator: the AP must be within 0.003, again on
at least 1,000 detections. Or else the command fails. Data below $METAHEADS_DATA (default: data):
`nuclei`, `coco_instances` and `bccd`. Results are kept in benchmarks/host_agreement.json; the table
benchmarks/host_agreement.md is written anew after each.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from pycocotools.coco import COCO
from torch.testing import assert_close

import metaheads.hosts.detectron2.models as detectron2_models
import metaheads.hosts.mmdet.models as mmdet_models
import metaheads.hosts.mmdet.train as mmdet_train
from metaheads import load
from metaheads.commands.quickstart import METRICS, to_shares
from metaheads.commands.train import RunOptions, train
from metaheads.configs import HOSTS, find_config
from metaheads.datasets.records import read_record
from metaheads.datasets.transforms import Record, resize_record
from metaheads.export import flatten_outputs
from metaheads.structures import Targets

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
    "blood_cells_points": ("centernet_points/centernet_points_r18_256x320_bccd", {}),
    "blood_cells_cornernet": ("cornernet/cornernet_small_256x320_bccd", {}),
    "blood_cells_triplets": ("centernet_triplets/centernet_triplets_small_256x320_bccd", {}),
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
    tensors = compare_tensors(args.case, args.checkpoint)
    rows = [evaluate(args.case, host, args.checkpoint) for host in HOSTS]
    record(args.case, {"tensors": tensors, "hosts": rows})
    first, second = (row["metrics"] for row in rows)
    gap = max(abs(first[name] - second[name]) for name in first)
    fewest = min(row["detections"] for row in rows)
    agree = gap <= TOLERANCE and min(fewest, tensors["detections"]) >= FEWEST_DETECTIONS
    print(f"largest difference {gap:.4f} over {fewest} detections: {'ok' if agree else 'FAILED'}")
    return 0 if agree else 1


def compare_tensors(case: str, checkpoint: str) -> dict[str, float]:
    """The same tensors through both models; raises AssertionError where they differ.

    Returns:
        numbers of images, crowds and equal detections, largest differences of losses and outputs.
    """
    configs, options = config_of(case), CASES[case][1]
    models = [load(configs[host], checkpoint, host=host, device="cpu") for host in HOSTS]
    found = {"images": 0, "crowds": 0, "detections": 0, "losses": 0.0, "outputs": 0.0}
    cfg = mmdet_train.load_config(
        find_config(configs["mmdet"], "mmdet")[0], options.get("mmdet", []), work_dir=None
    )
    dataset = cfg.test_dataloader.dataset
    size = tuple(next(step.size for step in dataset.pipeline if "size" in step))
    coco, metrics = COCO(f"{dataset.data_root}{dataset.ann_file}"), cfg.test_evaluator.metric
    for image_id in sorted(coco.imgs):
        folder = f"{dataset.data_root}{dataset.data_prefix.img}"
        record = read_record(coco, image_id, folder, use_masks="segm" in metrics)
        record = resize_record(record, size)
        pixels = torch.from_numpy(record.image).permute(2, 0, 1)[None].float()
        normal = models[0].input_format
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (normal.mean, normal.std))
        outputs, losses, detections = [], [], []
        truth = (mmdet_truth(record, size), detectron2_truth(record, size))
        for model, targets in zip(models, truth, strict=True):
            with torch.no_grad():
                out = model.raw_outputs((pixels - mean) / std)
                torch.manual_seed(0)  # more positives than the masks' limit are drawn
                losses.append(model.module.core.losses(out, [targets]))
                detections.append(model.module.core.decode(out, [size])[0])
                outputs.append(flatten_outputs(out))
        for (_, ours), (_, theirs) in zip(*outputs, strict=True):
            assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
            found["outputs"] = max(found["outputs"], float((ours - theirs).abs().max()))
        for name, loss in losses[0].items():
            assert_close(loss, losses[1][name], rtol=1e-5, atol=0)
            gap = float((loss - losses[1][name]).abs() / loss.abs().clamp(min=1e-12))
            found["losses"] = max(found["losses"], gap)
        first, second = detections
        assert torch.equal(first.labels, second.labels)
        for name in ("scores", "boxes", "masks") if "segm" in metrics else ("scores", "boxes"):
            assert_close(getattr(first, name), getattr(second, name), rtol=1e-5, atol=1e-4)
        found["images"] += 1
        found["crowds"] += int(record.is_crowd.sum())
        found["detections"] += len(first)
    return found


def mmdet_truth(record: Record, size: tuple[int, int]) -> Targets:
    """What MMDetection's loader would hand over, as our targets."""
    sample = DetDataSample()
    for name, chosen in (
        ("gt_instances", ~record.is_crowd),
        ("ignored_instances", record.is_crowd),
    ):
        part = record.select(chosen)
        instances = InstanceData(
            bboxes=torch.from_numpy(part.boxes),
            labels=torch.from_numpy(part.labels),
        )
        if part.masks is not None:
            instances.masks = BitmapMasks(part.masks.astype(np.uint8), *size)
        setattr(sample, name, instances)
    return mmdet_models.to_targets(sample, size, torch.device("cpu"))


def detectron2_truth(record: Record, size: tuple[int, int]) -> Targets:
    """What Detectron2's loader would hand over, as our targets; crowds last, as MMDetection's."""
    order = np.argsort(record.is_crowd, kind="stable")
    record = record.select(order)
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.from_numpy(record.boxes))
    instances.gt_classes = torch.from_numpy(record.labels)
    instances.gt_is_crowd = torch.from_numpy(record.is_crowd)
    if record.masks is not None:
        instances.gt_masks = BitMasks(torch.from_numpy(record.masks))
    return detectron2_models.to_targets(instances, size, size)


def config_of(case: str) -> dict[str, str]:
    """Config by host."""
    config = CASES[case][0]
    return config if isinstance(config, dict) else dict.fromkeys(HOSTS, config)


def evaluate(case: str, host: str, checkpoint: str) -> dict:
    """AP and number of detections of a checkpoint in one host."""
    overrides = list(CASES[case][1].get(host, []))
    with tempfile.TemporaryDirectory() as folder:
        if host == "mmdet":
            overrides.append(("test_evaluator.outfile_prefix", f"{folder}/found"))
        metrics = train(
            config_of(case)[host],
            host,
            overrides,
            RunOptions(eval_only=True, checkpoint=checkpoint),
            work_dir=folder,
        )
        names = {"mmdet": "found.bbox.json", "detectron2": "inference/coco_instances_results.json"}
        detections = json.loads((Path(folder) / names[host]).read_text())
    shares = {name: each for name, each in to_shares(metrics).items() if math.isfinite(each)}
    return {"host": host, "detections": len(detections), "metrics": shares}


def record(case: str, result: dict) -> None:
    """Adds or replaces a case and writes the table anew."""
    file = FOLDER / "host_agreement.json"
    cases = json.loads(file.read_text()) if file.is_file() else {}
    cases[case] = result
    file.write_text(json.dumps(cases, indent=1) + "\n")
    lines = [
        "# One checkpoint in both hosts",
        "",
        "`python benchmarks/host_agreement.py CASE CHECKPOINT`",
        "",
        "The same tensors:",
        "",
        "| case | images | crowds | equal detections | losses, relative | raw outputs |",
        "|---|---|---|---|---|---|",
    ]
    known = {name: cases[name] for name in CASES if name in cases}
    for name, each in known.items():
        counts = [each["tensors"][key] for key in ("images", "crowds", "detections")]
        gaps = [f"{each['tensors'][key]:.1e}" for key in ("losses", "outputs")]
        lines.append(f"| {' | '.join(map(str, (name, *counts, *gaps)))} |")
    lines += [
        "",
        "Each host's own loader:",
        "",
        f"| case | host | detections | {' | '.join(METRICS)} |",
        f"|---|---|---|{'---|' * len(METRICS)}",
    ]
    for name, each in known.items():
        for row in each["hosts"]:
            found = row["metrics"]
            values = " | ".join(f"{found[m]:.4f}" if m in found else "" for m in METRICS)
            lines.append(f"| {name} | {row['host']} | {row['detections']} | {values} |")
    (FOLDER / "host_agreement.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
