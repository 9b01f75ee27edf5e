"""What UPSNet makes of things that it was never taught: unknown, void, or a wrong class.

    metaheads train --host mmdet --config-file benchmarks/unknown_classes.py --work-dir work
    python benchmarks/unknown_share.py work/iter_700.pth

The panoptic head beside the heuristic fusion of the same weights, on the embedded validation images
below $METAHEADS_DATA. The table goes to benchmarks/unknown_share.md.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
from pathlib import Path

import numpy as np

from metaheads import load
from metaheads.datasets.panoptic import read_ids
from metaheads.media import read_image

HELD_OUT = ("ring", "canoe")
CONFIG = Path(__file__).with_name("unknown_classes.py")


def count(model, fusion: str) -> np.ndarray:
    """Pixels of the classes that were left out: called unknown, otherwise void, things, stuff."""
    model.module.core.fusion = fusion
    folder = Path(os.environ.get("METAHEADS_DATA", "data")) / "shapes"
    content = json.loads((folder / "annotations/panoptic_val.json").read_text())
    ids = {each["id"] for each in content["categories"] if each["name"] in HELD_OUT}
    counts = np.zeros(4, int)
    for entry in content["annotations"]:
        wanted = [s["id"] for s in entry["segments_info"] if s["category_id"] in ids]
        if not wanted:
            continue
        truth = read_ids(folder / "annotations/panoptic_val" / entry["file_name"])
        found = model.predict_panoptic(read_image(folder / "val" / entry["file_name"]))
        maps, unknown = found.ids.numpy(), found.is_unknown.numpy()
        things = np.isin(maps, [each.id for each in found.segments if each.is_thing])
        inside = np.isin(truth, wanted)
        parts = (unknown, (maps == 0) & ~unknown, things, (maps > 0) & ~things)
        counts += [int((part & inside).sum()) for part in parts]
    return counts


def main() -> None:
    model = load(CONFIG, sys.argv[1], host="mmdet", device="cpu")
    lines = [
        "# Things that were never taught",
        "",
        f"`python benchmarks/unknown_share.py CHECKPOINT`, {datetime.date.today()}, after "
        f"`benchmarks/unknown_classes.py`; pixels of {' and '.join(HELD_OUT)} in validation.",
        "",
        "| fusion | unknown | void for another reason | a wrong thing | stuff | pixels |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for fusion in ("panoptic", "heuristic"):
        counts = count(model, fusion)
        shares = " | ".join(f"{each:.3f}" for each in counts / counts.sum())
        lines.append(f"| {fusion} | {shares} | {counts.sum()} |")
    lines += [
        "",
        "In the heuristic fusion, unknown is where the scores say a thing and none is pasted.",
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
