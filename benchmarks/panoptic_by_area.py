"""Which things UPSNet's panoptic head finds, and which the heuristic merge of the same outputs.

    python benchmarks/panoptic_by_area.py CHECKPOINT [CHECKPOINT ...]

CHECKPOINTs are of `upsnet_r18_160_shapes` (either host). For every thing of the embedded validation
data: the overlap with the best segment of its class. The table is benchmarks/panoptic_by_area.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from metaheads import load
from metaheads.architectures.upsnet.network import FUSIONS
from metaheads.datasets.panoptic import read_ids

CONFIG = "upsnet/upsnet_r18_160_shapes"
AREAS = (0, 400, 1000, 10**9)


def overlaps(checkpoint: Path, fusion: str, folder: Path) -> np.ndarray:
    """(N, 2): area in pixels of every thing, and its IoU with the best segment of its class."""
    model = load(CONFIG, checkpoint, host="mmdet", device="cpu")
    model.module.core.fusion = fusion
    truth = json.loads((folder / "annotations" / "panoptic_val.json").read_text())
    categories = {each["id"]: each for each in truth["categories"]}
    rows = []
    for annotation in tqdm(truth["annotations"], desc=fusion, unit="image"):
        name = annotation["file_name"]
        found = model.predict_panoptic(folder / "val" / name)
        ids = found.ids.numpy()
        true_ids = read_ids(folder / "annotations" / "panoptic_val" / name)
        for thing in annotation["segments_info"]:
            category = categories[thing["category_id"]]
            if thing["iscrowd"] or not category["isthing"]:
                continue
            mask, best = true_ids == thing["id"], 0.0
            for segment in found.segments:
                if model.class_names[segment.label] == category["name"]:
                    other = ids == segment.id
                    best = max(best, (mask & other).sum() / (mask | other).sum())
            rows.append((mask.sum(), best))
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    args = parser.parse_args()
    folder = Path(os.environ.get("METAHEADS_DATA", "data")) / "shapes"
    found = {
        fusion: np.concatenate([overlaps(each, fusion, folder) for each in args.checkpoints])
        for fusion in FUSIONS
    }
    areas = next(iter(found.values()))[:, 0]
    lines = [
        "# Small things and large things",
        "",
        f"`python benchmarks/panoptic_by_area.py CHECKPOINT ...`, {datetime.date.today()}, "
        f"{len(args.checkpoints)} checkpoints of {CONFIG} together; semantic scores have cells of "
        "4 x 4 pixels.",
        "",
        "| pixels of the thing | things | found, panoptic head | found, heuristic | mean IoU, "
        "panoptic head | mean IoU, heuristic |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for low, high in zip(AREAS, AREAS[1:], strict=False):
        chosen = (areas >= low) & (areas < high)
        ious = [found[fusion][chosen, 1] for fusion in ("panoptic", "heuristic")]
        spelled = f"{low} to {high}" if high < AREAS[-1] else f"from {low}"
        shares = " | ".join(f"{100 * (each > 0.5).mean():.1f} %" for each in ious)
        means = " | ".join(f"{each.mean():.3f}" for each in ious)
        lines.append(f"| {spelled} | {chosen.sum()} | {shares} | {means} |")
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
