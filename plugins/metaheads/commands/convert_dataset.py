"""`metaheads convert-dataset`: other annotation formats as COCO files."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from metaheads.commands.arguments import check_output
from metaheads.datasets.convert import FORMATS, convert_to_panoptic
from metaheads.messages import list_some

EPILOG = """examples:
  tools/convert_dataset.py --from labelme pictures/ --out pictures/instances.json
  tools/convert_dataset.py --from voc VOC2012/ --out voc.json
  tools/convert_dataset.py --from yolo cells/ --classes red white --out cells.json
  tools/convert_dataset.py --from retinaface widerface/train/ --out train.json
  tools/convert_dataset.py --from coco instances.json --stuff stuff.json --out panoptic.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "input",
        type=Path,
        help="folder of the data (coco: instances JSON; faces: also the text file)",
    )
    parser.add_argument("--from", dest="origin", required=True, choices=[*FORMATS, "coco"])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--classes", nargs="+", help="names in the order of their ids")
    parser.add_argument("--stuff", type=Path, help="COCO stuff JSON: makes panoptic from coco")


def run(args: argparse.Namespace) -> int:
    check_output("--out", args.out)
    if (args.origin == "coco") != bool(args.stuff):
        raise ValueError("--stuff JSON and --from coco belong together: they make panoptic data")
    for path in (args.input, args.stuff):
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
    with tqdm(unit="image") as bar:
        if args.origin == "coco":
            count = convert_to_panoptic(args.input, args.stuff, args.out, bar.update)
            sys.stdout.write(f"{count} segments -> {args.out}\n")
            return 0
        builder = FORMATS[args.origin](args.input, args.classes, bar.update)
    args.out.write_text(json.dumps(builder.content))
    content = builder.content
    names = [each["name"] for each in content["categories"]]
    sys.stdout.write(
        f"{len(content['images'])} images, {len(content['annotations'])} objects of "
        f"{len(names)} classes ({', '.join(names)}) -> {args.out}\n"
    )
    if builder.ignored:
        sys.stdout.write(
            f"{len(builder.ignored)} became crowds, which are ignored: "
            f"{list_some(builder.ignored)}\n"
        )
    if builder.skipped:
        sys.stdout.write(f"left out: {list_some(builder.skipped)}\n")
    return 0
