"""The command `metaheads`; `COMMANDS` lists what it can do."""

from __future__ import annotations

import argparse
import importlib
import sys

COMMANDS = {
    "quickstart": "make the embedded data set, train on it, evaluate, draw",
    "train": "train or evaluate in Detectron2 or MMDetection",
    "demo": "draw what a model finds in images",
    "benchmark": "where the time of a prediction goes, models side by side",
    "check-dataset": "what is wrong with a data set, before a training finds out",
    "convert-dataset": "labelme, Pascal VOC or YOLO as COCO; COCO with stuff as panoptic",
    "export": "the network as ONNX or torch.export, held against itself",
    "import-weights": "bring a checkpoint of other authors, or of the other host, to a config",
    "make-shapes": "write the embedded data set",
    "doctor": "what is installed, what is wrong with it, and the remedy",
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; what a user can mend ends in one line, not in a traceback."""
    words = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser("metaheads")
    commands = parser.add_subparsers(dest="command", required=True)
    chosen = next((word for word in words if word in COMMANDS), None)
    for name, help_text in COMMANDS.items():
        subparser = commands.add_parser(name, help=help_text, description=help_text)
        if name == chosen:
            module = importlib.import_module(f"metaheads.commands.{name.replace('-', '_')}")
            module.add_arguments(subparser)
    args = parser.parse_args(words)
    try:
        return module.run(args)
    except Exception as error:
        from metaheads.errors import message_of, tells_user, wants_traceback

        if not tells_user(error) or wants_traceback():
            raise
        sys.stderr.write(f"metaheads {chosen}: {message_of(error)}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
