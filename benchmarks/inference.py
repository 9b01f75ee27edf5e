"""From an image file to detections: ours, plain and optimised, against MMDetection's YOLACT by its
own `inference_detector`, in one run; and what the options cost in AP.

    python benchmarks/inference.py --images PHOTOGRAPHS --weights NUCLEI.pth --peer PEER.pth

Part 1: R-50 at 550 pixels, untrained, on --images. Part 2: R-18 at 256 pixels on the validation
images of nuclei, with checkpoints of `yolact_r18_256_nuclei` (--weights) and
`peer_yolact_r18_nuclei` (--peer). One thread, interleaved, medians. The tables go to
benchmarks/inference.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import mmdet
import numpy as np
import torch
from mmdet.apis import inference_detector, init_detector
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from metaheads import load
from metaheads.hosts.mmdet.inference import to_detections
from metaheads.media import find_images
from metaheads.profiling import processor_name
from metaheads.structures import Detections
from metaheads.weights import load_into, read_checkpoint

HERE = Path(__file__).parent
PEER_R50 = Path(mmdet.__file__).parent / ".mim/configs/yolact/yolact_r50_1xb8-55e_coco.py"
VARIANTS: dict[str, dict[str, bool]] = {
    "plain": {},
    "optimise": {"optimise": True},
    "optimise, bfloat16": {"optimise": True, "bfloat16": True},
}
Predict = Callable[[Path], Detections]


def contenders(config: str, weights: str | None, peer: Path, peer_weights: str | None) -> dict:
    """name -> what predicts on a file."""
    model = init_detector(str(peer), device="cpu")
    if peer_weights:  # of MMEngine's own training, so not for weights_only
        load_into(model, read_checkpoint(peer_weights, trust=True))
    found: dict[str, Predict] = {
        "MMDetection's YOLACT, inference_detector": lambda path: to_detections(
            inference_detector(model, str(path)).pred_instances
        )
    }
    for host in ("mmdet", "detectron2"):
        for name, speeds in VARIANTS.items():
            found[f"{config.split('/')[1]}, {host}, {name}"] = load(
                config, weights, host=host, device="cpu", **speeds
            ).predict
    return found


def measure(predictors: dict[str, Predict], paths: list[Path]) -> dict[str, float]:
    """Median milliseconds of an image."""
    for predict in predictors.values():
        predict(paths[0])
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for path in tqdm(paths, unit="image", desc="timing"):
        for name, predict in predictors.items():
            start = time.perf_counter()
            predict(path)
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in times.items()}


def mask_ap(predict: Predict, coco: COCO, folder: Path) -> list[float]:
    """Box AP and mask AP, by pycocotools."""
    entries = []
    categories = sorted(coco.getCatIds())
    for image_id, image in coco.imgs.items():
        found = predict(folder / image["file_name"])
        for index in range(len(found)):
            x1, y1, x2, y2 = found.boxes[index].tolist()
            assert found.masks is not None
            mask = found.masks[index].numpy().astype(np.uint8, order="F")
            entries.append(
                {
                    "image_id": image_id,
                    "category_id": categories[int(found.labels[index])],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "segmentation": rle.encode(mask),
                    "score": float(found.scores[index]),
                }
            )
    results = []
    for kind in ("bbox", "segm"):
        evaluation = COCOeval(coco, coco.loadRes(entries), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        results.append(float(evaluation.stats[0]))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="photographs for part 1")
    parser.add_argument("--weights", required=True, help="of yolact_r18_256_nuclei")
    parser.add_argument("--peer", required=True, help="of peer_yolact_r18_nuclei")
    parser.add_argument("--repeats", type=int, default=3, help="passes over the images")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    nuclei = Path(os.environ.get("METAHEADS_DATA", "data")) / "nuclei"
    coco = COCO(str(nuclei / "val.json"))
    folder = nuclei / "val"
    lines = [
        "# From an image file to detections",
        "",
        f"`python benchmarks/inference.py --images ... --weights ... --peer ...`, "
        f"{datetime.date.today()}, {processor_name()}, one thread, torch {torch.__version__}; "
        "medians over interleaved images.",
    ]
    photographs = find_images([args.images], 8) * args.repeats
    with tempfile.TemporaryDirectory() as temporary:
        config, weights = "yolact/yolact_r50_550_coco", f"{temporary}/fresh.pth"
        # The same fresh weights in both hosts: what they find by chance costs time, too.
        torch.save(load(config, host="mmdet", device="cpu").checkpoint(), weights)
        times = measure(contenders(config, weights, PEER_R50, None), photographs)
    lines += [*_table("R-50, 550 pixels, untrained, on photographs", times, {})]
    predictors = contenders(
        "yolact/yolact_r18_256_nuclei",
        args.weights,
        HERE / "peer_yolact_r18_nuclei.py",
        args.peer,
    )
    paths = [folder / image["file_name"] for image in coco.imgs.values()]
    times = measure(predictors, paths * args.repeats)
    aps = {name: mask_ap(predict, coco, folder) for name, predict in predictors.items()}
    lines += [*_table(f"R-18, 256 pixels, trained, on {len(paths)} images of nuclei", times, aps)]
    HERE.joinpath("inference.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _table(title: str, times: dict[str, float], aps: dict[str, list[float]]) -> list[str]:
    first = next(iter(times.values()))
    lines = ["", f"## {title}", "", "| | ms | times faster |" + " box AP | mask AP |" * bool(aps)]
    lines += ["|---|---:|---:|" + "---:|---:|" * bool(aps)]
    for name, milliseconds in times.items():
        row = f"| {name} | {milliseconds:.1f} | {first / milliseconds:.2f} |"
        lines.append(row + "".join(f" {ap:.3f} |" for ap in aps.get(name, [])))
    return lines


if __name__ == "__main__":
    main()
