"""`metaheads check-dataset`: what is wrong with a data set, before a training finds out."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from metaheads.commands.arguments import check_output
from metaheads.configs import HOSTS, find_config
from metaheads.datasets import panoptic
from metaheads.datasets.check import CheckReport, DatasetError, check_source
from metaheads.datasets.check.overlap import find_equal_images
from metaheads.datasets.check.panoptic import check_panoptic
from metaheads.datasets.image_files import locate_images
from metaheads.datasets.records import class_names, read_record
from metaheads.datasets.transforms import Record, resize_record
from metaheads.media import IMAGE_SUFFIXES, read_image, write_image
from metaheads.messages import list_some
from metaheads.visualization import draw_record, grid

EPILOG = """examples:
  tools/check_dataset.py --data train.json train/ --data val.json val/ --overlay samples.png
  tools/check_dataset.py --config-file yolact/yolact_r18_256_nuclei --host mmdet
  tools/check_dataset.py --panoptic panoptic_val.json panoptic_val/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--data",
        nargs=2,
        action="append",
        default=[],
        metavar=("JSON", "IMAGES"),
        help="COCO instances and their images; again for validation, as both are compared",
    )
    parser.add_argument("--config-file", help="take the data sets and classes of this config")
    parser.add_argument("--host", choices=HOSTS, help="where the config does not tell")
    parser.add_argument("--num-classes", type=int, help="of the model (a config says it itself)")
    parser.add_argument(
        "--panoptic",
        nargs=2,
        action="append",
        default=[],
        metavar=("JSON", "PNGS"),
        help="COCO panoptic annotations and their PNGs",
    )
    parser.add_argument("--mesh-file", help="JSON of the mesh whose vertices the objects have")
    parser.add_argument("--no-masks", action="store_true", help="boxes are enough")
    parser.add_argument("--overlay", help="write a picture of some images with their objects")
    parser.add_argument("--samples", type=int, default=9, help="so many images in the picture")
    parser.add_argument("--json", help="write the report to this file")


def run(args: argparse.Namespace) -> int:
    """1 if there are faults, 0 if there are none."""
    sources = find_data(args)
    if not (sources or args.panoptic):
        raise ValueError("nothing to check: give --data, --config-file or --panoptic")
    for flag in ("overlay", "json"):
        if getattr(args, flag):
            check_output(f"--{flag}", getattr(args, flag))
    if args.samples < 1:
        raise ValueError("--samples must be at least 1")
    if args.overlay and Path(args.overlay).suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"--overlay {args.overlay}: the name must end as an image does, in .png")
    faults: list[str] = []
    reports: list[CheckReport] = []
    for source in sources:
        with tqdm(unit="image", desc=Path(source["annotation_file"]).name) as bar:
            try:
                report = check_source(
                    source, verify_images=sys.maxsize, is_strict=True, progress=bar.update
                )
            except DatasetError as error:
                faults.append(str(error))
                continue
        reports.append(report)
        sys.stdout.write(report.summary() + "\n")
    for name, folder in args.panoptic:
        with tqdm(unit="image", desc="segments") as bar:
            try:
                count = check_panoptic(Path(name), Path(folder), bar.update)
            except DatasetError as error:
                faults.append(str(error))
                continue
        sys.stdout.write(f"{name}: {count} segments agree with their PNGs\n")
    faults += _find_overlaps(sources)
    for fault in faults:
        sys.stdout.write(f"FAULT {fault}\n")
    sys.stdout.write(f"{len(faults)} data sets with faults\n" if faults else "no faults\n")
    if args.overlay and faults:
        sys.stdout.write(f"{args.overlay} is not drawn: mend the faults first\n")
    if args.overlay and sources and not faults:
        draw_samples(sources[0], Path(args.overlay), args.samples)
        sys.stdout.write(f"{args.overlay}\n")
    if args.json:
        plain = [dataclasses.asdict(each) for each in reports]
        content = {"faults": faults, "data": plain}
        Path(args.json).write_text(json.dumps(content, indent=1, default=str) + "\n")
    return 1 if faults else 0


def find_data(args: argparse.Namespace) -> list[dict[str, Any]]:
    """What is to be checked, as arguments of `check_source`."""
    sources = [
        {
            "annotation_file": Path(name),
            "image_folder": Path(folder),
            "num_classes": args.num_classes,
            "use_masks": not args.no_masks,
            "mesh_file": args.mesh_file or "",
        }
        for name, folder in args.data
    ]
    if args.config_file:
        path, host_name = find_config(args.config_file, args.host)
        host: Any = importlib.import_module(f"metaheads.hosts.{host_name}.train")
        sources += host.coco_sources(host.load_config(path, [], work_dir=None), train=True)
    return sources


def draw_samples(source: dict[str, Any], target: Path, count: int) -> None:
    """A picture of some images with their objects, drawn by chance."""
    names, readers = _panoptic_records(source) if "png_folder" in source else _records(source)
    chosen = random.Random(0).sample(readers, min(count, len(readers)))
    tiles = [draw_record(_enlarge(read(), 360), names) for read in chosen]
    columns = max(1, round(len(tiles) ** 0.5))
    write_image(target, grid(tiles, columns))


def _records(source: dict[str, Any]) -> tuple[list[str], list[Callable[[], Record]]]:
    """The names of the classes, and what reads each image."""
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(None):  # it talks
        coco = COCO(source["annotation_file"])
    options = {"image_folder": source["image_folder"], "use_masks": source["use_masks"]}
    readers = [
        functools.partial(read_record, coco, each, **options)  # type: ignore[arg-type]
        for each in sorted(coco.imgs)
    ]
    return class_names(coco), readers


def _panoptic_records(source: dict[str, Any]) -> tuple[list[str], list[Callable[[], Record]]]:
    """`_records` of panoptic data."""
    classes = source.get("thing_classes"), source.get("stuff_classes")
    folder = source["image_folder"]
    file = panoptic.read_file(source["annotation_file"], *classes, image_folder=folder)

    def read(entry: panoptic.Entry) -> Record:
        image = read_image(folder / entry.image["file_name"])
        return panoptic.read_record(image, source["png_folder"] / entry.png, entry.segments)

    return list(file.space.classes), [functools.partial(read, each) for each in file.entries]


def _enlarge(record: Record, size: int) -> Record:
    """Scaled so that its longer side is `size`: before the drawing, whose letters stay legible."""
    height, width = record.image.shape[:2]
    scale = size / max(height, width)
    return resize_record(record, (max(1, round(scale * height)), max(1, round(scale * width))))


def _find_overlaps(sources: list[dict[str, Any]]) -> list[str]:
    """Images that stand in two of the data sets."""
    paths = []
    for source in sources:
        try:
            entries = json.loads(source["annotation_file"].read_bytes())["images"]
            if "png_folder" in source:
                entries = locate_images(entries, source["image_folder"])
            paths.append([source["image_folder"] / each["file_name"] for each in entries])
        except (OSError, ValueError, LookupError, TypeError):
            paths.append([])  # told before
    found = []
    for index, first in enumerate(paths):
        for other in range(index + 1, len(paths)):
            with tqdm(total=len(first) + len(paths[other]), unit="image", desc="equal?") as bar:
                pairs = find_equal_images(first, paths[other], bar.update)
            if pairs:
                files = [sources[each]["annotation_file"] for each in (index, other)]
                named = [f"{a} = {b}" if a != b else str(a) for a, b in pairs]
                found.append(
                    f"{files[0]} and {files[1]} share images: {list_some(named)}; an evaluation "
                    "on trained images says nothing: take them out of one"
                )
    return found
