"""`metaheads import-weights`: other authors' checkpoints, those of the other host or of a training,
as a file of weights alone for the model of a config."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch

from metaheads.api import Model, load
from metaheads.commands.arguments import add_config_arguments, add_trust_argument, check_output
from metaheads.weights import find_importer, load_into
from metaheads.weights.files import of_file, read_content, weights_in, write_atomically

OWN_SOURCE = "a checkpoint of this project's models"
OWN_LICENCE = "that of the data and the weights it was trained from"

EPILOG = """examples:
  tools/import_weights.py yolact_base_54_800000.pth --config-file yolact/yolact_r101_550_coco \\
    --host mmdet --out yolact_base.pth
  tools/import_weights.py work_dirs/mine/iter_300.pth --config-file mine.yaml --out mine_d2.pth
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("checkpoint", type=Path, help="the file to import")
    parser.add_argument("--from", dest="origin", help="its format, where the file does not tell")
    add_config_arguments(parser)
    parser.add_argument(
        "--out", type=Path, required=True, help="file to write; its model card stands beside"
    )
    parser.add_argument("--allow-partial", action="store_true", help="entries may be missing")
    parser.add_argument(
        "--reinitialise-classes",
        action="store_true",
        help="leave the class layers out (another number of classes)",
    )
    add_trust_argument(parser)


def run(args: argparse.Namespace) -> int:
    file, out = args.checkpoint, args.out
    if out.suffix != ".pth":
        raise ValueError(f"--out {out}: the name must end in .pth; its card stands beside")
    check_output("--out", out)
    content = read_content(file, trust=args.trust_checkpoint)
    state = weights_in(file, content)
    before = content.get("model_card", {}) if isinstance(content, dict) else {}
    importer = find_importer(state, args.origin)
    if importer:
        state, renamed = importer.convert(state, complete=not args.allow_partial)
        sys.stdout.write(f"{importer.name}: {renamed.summary()}\n")
        sys.stdout.write(f"weights of {importer.source}, licence: {importer.licence}\n")
    model = load(args.config_file, host=args.host, device="cpu")
    if importer:
        importer.check(model.module)
    with of_file(file):
        coverage = load_into(
            model.module,
            state,
            reinitialise_classes=args.reinitialise_classes,
            allow_partial=args.allow_partial,
        )
    sys.stdout.write(f"{args.config_file}: {coverage.summary()}\n")
    card = {
        "file": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "source": importer.source if importer else before.get("source", OWN_SOURCE),
        "licence": importer.licence if importer else before.get("licence", OWN_LICENCE),
        "config": args.config_file,
        **describe(model),
        "fresh": sorted({*before.get("fresh", ()), *coverage.missing, *coverage.reshaped}),
    }
    _save(model, card, out)
    sys.stdout.write(f"{out}\n{card_path(out)}\n")
    return 0


def describe(model: Model) -> dict[str, Any]:
    """Classes, input size and normalisation of a model, as plain containers."""
    return {
        "classes": list(model.class_names),
        "input": json.loads(json.dumps(dataclasses.asdict(model.input_format))),
    }


def card_path(weights: Path) -> Path:
    """Where the model card of a file of weights lies: `mine.pth` has `mine.card.json`."""
    return weights.with_suffix(".card.json")


def _save(model: Model, card: dict[str, Any], out: Path) -> None:
    """Writes the weights, then the card; each is there whole or not at all."""
    content = {**model.checkpoint(), "model_card": card}
    write_atomically(out, lambda file: torch.save(content, file))
    text = json.dumps(card, indent=1) + "\n"
    write_atomically(card_path(out), lambda file: file.write(text.encode()))
