"""`metaheads demo`: images in, annotated images and a COCO-results JSON out."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from metaheads.api import as_rgb, load
from metaheads.configs import HOSTS
from metaheads.structures import Detections
from metaheads.visualization import draw_detections

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: tools/demo.py --config-file yolact/yolact_r18_128_shapes --host mmdet "
        "--checkpoint work_dirs/demo/iter_600.pth --output found data/shapes/val"
    )
    parser.add_argument("inputs", nargs="+", help="images or folders of images")
    parser.add_argument("--config-file", required=True, help="path, or name of one of our configs")
    parser.add_argument("--host", choices=HOSTS, help="where the config does not tell")
    parser.add_argument("--checkpoint", required=True, help="of either host, or imported")
    parser.add_argument("--trust-checkpoint", action="store_true", help="it may run code")
    parser.add_argument("--output", default="predictions", help="folder of the results")
    parser.add_argument("--threshold", type=float, default=0.3, help="lowest score to draw")
    parser.add_argument("--device", help="cpu, cuda, ...")


def run(args: argparse.Namespace) -> int:
    images = find_images(args.inputs)
    model = load(
        args.config_file,
        args.checkpoint,
        host=args.host,
        device=args.device,
        trust_checkpoint=args.trust_checkpoint,
    )
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    names = unique_names(images)
    results: list[dict[str, Any]] = []
    for image_id, path in enumerate(tqdm(images, unit="image"), start=1):
        image = as_rgb(path)
        found = model.predict(image)
        results += to_coco(found, image_id, str(path))
        drawn = draw_detections(image, found, model.class_names, threshold=args.threshold)
        cv2.imwrite(str(output / f"{names[path]}.png"), np.ascontiguousarray(drawn[..., ::-1]))
    (output / "results.json").write_text(json.dumps(results))
    sys.stdout.write(f"{len(images)} images, {len(results)} detections -> {output}\n")
    return 0


def find_images(inputs: list[str]) -> list[Path]:
    """The images among files and folders, in order.

    Raises:
        FileNotFoundError: an input does not exist, or there is no image in it.
    """
    images: list[Path] = []
    for path in map(Path, inputs):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise FileNotFoundError(f"no image in the folder {path}")
            images += inside
        elif path.is_file():
            images.append(path)
        else:
            raise FileNotFoundError(f"no image or folder {path}")
    return images


def unique_names(paths: list[Path]) -> dict[Path, str]:
    """A name for the picture of each image: its stem, with its folder and suffix where needed."""
    spelled = [lambda p: p.stem, lambda p: p.name, lambda p: "_".join(p.absolute().parts[1:])]
    counts = [Counter(map(spell, paths)) for spell in spelled]
    names = {}
    for path in paths:
        candidates = [(spell(path), count) for spell, count in zip(spelled, counts, strict=True)]
        unique = (name for name, count in candidates if count[name] == 1)
        names[path] = next(unique, candidates[-1][0])
    return names


def to_coco(found: Detections, image_id: int, file_name: str) -> list[dict[str, Any]]:
    """Finished detections as entries of a COCO results file; category_id is the 0-based label."""
    from pycocotools import mask as rle

    entries = []
    for index in range(len(found)):
        x1, y1, x2, y2 = found.boxes[index].tolist()
        entry: dict[str, Any] = {
            "image_id": image_id,
            "file_name": file_name,
            "category_id": int(found.labels[index]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(found.scores[index]),
        }
        if found.masks is not None:
            encoded = rle.encode(np.asfortranarray(found.masks[index].numpy().astype(np.uint8)))
            entry["segmentation"] = {**encoded, "counts": encoded["counts"].decode()}
        entries.append(entry)
    return entries
