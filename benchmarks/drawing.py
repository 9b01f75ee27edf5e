"""Drawing 100 masks on a picture: ours, Detectron2's Visualizer, MMDetection's, in one run.

    python benchmarks/drawing.py

One thread, interleaved, medians; 640 x 480 pixels, blobs of the size that objects have in COCO. The
table goes to benchmarks/drawing.md, the three pictures side by side to work_dirs/drawing.png.
"""

from __future__ import annotations

import datetime
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from metaheads.profiling import processor_name
from metaheads.structures import Detections
from metaheads.visualization import draw_detections

HEIGHT, WIDTH, COUNT, REPEATS = 480, 640, 100, 7


def make_detections(names: list[str]) -> Detections:
    """Ellipses of many sizes, by chance."""
    rng = np.random.default_rng(0)
    masks = np.zeros((COUNT, HEIGHT, WIDTH), np.uint8)
    for mask in masks:
        center = (int(rng.integers(WIDTH)), int(rng.integers(HEIGHT)))
        axes = (int(rng.integers(8, 80)), int(rng.integers(8, 80)))
        cv2.ellipse(mask, center, axes, float(rng.integers(180)), 0, 360, 1, -1)
    boxes = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return Detections(
        torch.tensor(np.array(boxes), dtype=torch.float32),
        torch.linspace(0.99, 0.31, COUNT),
        torch.from_numpy(rng.integers(len(names), size=COUNT)),
        masks=torch.from_numpy(masks.astype(bool)),
    )


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    register_all_modules()
    metadata = MetadataCatalog.get("coco_2017_val")
    names = list(metadata.thing_classes)
    found = make_detections(names)
    image = cv2.GaussianBlur(
        np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8), (31, 31), 0
    )
    instances = Instances((HEIGHT, WIDTH))
    instances.pred_boxes, instances.scores = found.boxes, found.scores
    instances.pred_classes, instances.pred_masks = found.labels, found.masks
    sample = DetDataSample(
        pred_instances=InstanceData(
            bboxes=found.boxes, scores=found.scores, labels=found.labels, masks=found.masks
        )
    )
    theirs = DetLocalVisualizer()
    theirs.dataset_meta = {"classes": names, "palette": "random"}

    def mmdetection() -> np.ndarray:
        theirs.add_datasample("x", image, sample, draw_gt=False, show=False)
        return theirs.get_image()

    painters = {
        "ours": lambda: draw_detections(image, found, names),
        "Detectron2's Visualizer": lambda: (
            Visualizer(image, metadata).draw_instance_predictions(instances).get_image()
        ),
        "MMDetection's DetLocalVisualizer": mmdetection,
    }
    times: dict[str, list[float]] = {name: [] for name in painters}
    pictures = {}
    for _ in range(REPEATS + 1):  # the first warms up
        for name, paint in painters.items():
            start = time.perf_counter()
            pictures[name] = paint()
            times[name].append(1000 * (time.perf_counter() - start))
    medians = {name: statistics.median(each[1:]) for name, each in times.items()}
    lines = [
        f"# Drawing {COUNT} masks on {WIDTH} x {HEIGHT} pixels",
        "",
        f"`python benchmarks/drawing.py`, {datetime.date.today()}, {processor_name()}, one thread; "
        f"medians of {REPEATS} interleaved pictures.",
        "",
        "| painter | ms | against ours |",
        "|---|---:|---:|",
    ]
    for name, median in medians.items():
        lines.append(f"| {name} | {median:.1f} | {median / medians['ours']:.1f} |")
    file = Path(__file__)
    file.with_suffix(".md").write_text("\n".join(lines) + "\n")
    row = np.concatenate([cv2.resize(p, (WIDTH, HEIGHT)) for p in pictures.values()], 1)
    picture = Path("work_dirs") / "drawing.png"
    picture.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(picture), cv2.cvtColor(row, cv2.COLOR_RGB2BGR))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
