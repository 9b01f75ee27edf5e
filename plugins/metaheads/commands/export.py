"""`metaheads export`: the network as ONNX or torch.export, held against itself on real images."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from metaheads.api import Model, load
from metaheads.commands.arguments import add_config_arguments, add_trust_argument, check_output
from metaheads.datasets.shapes import make_shapes
from metaheads.export import (
    SUFFIXES,
    DetectingNetwork,
    RawNetwork,
    compare_detections,
    compare_outputs,
    write_network,
)
from metaheads.media import find_images, read_image

EPILOG = """examples:
  tools/export.py --config-file yolact/yolact_r50_550_coco --host mmdet --checkpoint yolact.pth \\
    --out yolact.onnx --decode --images pictures/
  tools/export.py --config-file mine.yaml --checkpoint model_final.pth --out mine.pt2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_config_arguments(parser)
    parser.add_argument("--checkpoint", help="of either host, or imported")
    add_trust_argument(parser)
    parser.add_argument("--out", type=Path, required=True, help="FILE.onnx, or FILE.pt2 (torch)")
    parser.add_argument("--decode", action="store_true", help="detections out: decoding and NMS in")
    parser.add_argument("--images", nargs="+", help="to compare on (default: drawn scenes)")
    parser.add_argument("--max-images", type=int, default=4, help="the first so many of them")
    parser.add_argument("--fixed-batch", type=int, help="batch size; without it any size runs")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="largest difference allowed, as a part of an output's largest value or of 1",
    )
    parser.add_argument("--json", help="write the differences to this file")


def run(args: argparse.Namespace) -> int:
    """1 if what was exported differs from the model."""
    _check(args)
    model = load(
        args.config_file,
        args.checkpoint,
        host=args.host,
        device="cpu",
        trust_checkpoint=args.trust_checkpoint,
    )
    network = _network(model, args)
    with tempfile.TemporaryDirectory() as folder:
        if not args.images:
            make_shapes(folder, num_train=0, num_val=args.max_images, num_clips=0, num_faces=(0, 0))
        paths = find_images(args.images or [f"{folder}/val"], args.max_images)
        inputs = [network_input(model, path) for path in paths]
    if args.fixed_batch:
        inputs = [each.expand(args.fixed_batch, -1, -1, -1).contiguous() for each in inputs]
    unfinished = args.out.with_name(f".{args.out.stem}.tmp{args.out.suffix}")
    try:
        report = _export(network, inputs, unfinished, args)
        fault = _fault(report)
        if not fault:
            unfinished.replace(args.out)
    finally:
        unfinished.unlink(missing_ok=True)
    sys.stdout.write(_table(report))
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n")
    if fault:
        sys.stderr.write(f"FAILED, {args.out} is not written: {fault}\n")
        return 1
    sys.stdout.write(f"{args.out}: {_describe(model, inputs[0], args)}\n")
    return 0


def _export(
    network: RawNetwork, inputs: list[Tensor], out: Path, args: argparse.Namespace
) -> dict[str, Any]:
    """Writes the file and compares it with the model."""
    program = write_network(network, inputs[0], out, is_dynamic=not args.fixed_batch)
    if not args.fixed_batch:
        inputs = [*inputs, torch.cat([inputs[0], inputs[0].flip(3)])]  # two at once, too
    shown = tqdm(inputs, unit="batch", desc="comparing")
    images = sum(map(len, inputs))
    report: dict[str, Any] = {"images": images, "tolerance": args.tolerance}
    if isinstance(network, DetectingNetwork):
        found = compare_detections(network, program, shown)
        report |= {"count": found.count, "unmatched": found.unmatched}
        report["absent"] = sorted(found.absent)
        differences = found.differences
    else:
        differences = compare_outputs(network, program, shown)
    report["differences"] = {
        name: {**asdict(each), "relative": each.relative} for name, each in differences.items()
    }
    return report


def network_input(model: Model, path: Path) -> Tensor:
    """What the model's own preprocessing makes of an image: (1, 3, H, W)."""
    caught: list[Tensor] = []
    handle = model.module.backbone.register_forward_pre_hook(
        lambda _, inputs: caught.append(inputs[0])
    )
    try:
        model.predict_results([read_image(path)])
    finally:
        handle.remove()
    return caught[0]


def _check(args: argparse.Namespace) -> None:
    if args.out.suffix not in SUFFIXES:
        raise ValueError(f"--out {args.out}: the name must end in {' or '.join(SUFFIXES)}")
    check_output("--out", args.out)
    if args.json:
        check_output("--json", args.json)
    for name in ("max_images", "fixed_batch"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
    for path in find_images(args.images, args.max_images) if args.images else ():
        read_image(path)  # a broken one is told before the model is loaded


def _network(model: Model, args: argparse.Namespace) -> RawNetwork:
    """
    Raises:
        ValueError: a model that cannot be exported in this way.
    """
    is_region = any(hasattr(model.module, name) for name in ("roi_head", "roi_heads"))
    if is_region or not hasattr(model.module, "raw_outputs"):
        raise ValueError(
            f"{args.config_file}: this model has no raw_outputs(images), tensors in and all "
            "tensors out; only our single-stage architectures are exported, the hosts export "
            "their own"
        )
    if not args.decode:
        return RawNetwork(model.module).eval()
    core = model.module.core
    if not hasattr(core, "decode_fixed"):
        raise ValueError(
            f"{args.config_file}: {type(core).__name__} has no decode_fixed, detections in tensors "
            "of fixed size; leave out --decode"
        )
    return DetectingNetwork(model.module).eval()


def _fault(report: dict[str, Any]) -> str:
    """What is wrong; "" if all is equal."""
    if report.get("absent"):
        return f"only one of model and file has {', '.join(report['absent'])}"
    if report.get("count") == 0 or not any(d["count"] for d in report["differences"].values()):
        return "the model found nothing, so nothing was compared: give --checkpoint and --images"
    if report.get("unmatched"):
        return (
            f"{report['unmatched']} detections of model and file are not in the other (those of an "
            "untrained model, with equal scores, may differ)"
        )
    for name, each in report["differences"].items():
        if not each["relative"] <= report["tolerance"]:
            return f"the difference {each['relative']:.1e} in {name} exceeds the tolerance"
    return ""


def _describe(model: Model, images: Tensor, args: argparse.Namespace) -> str:
    """What goes in, and what is left to do outside of the graph."""
    form = model.input_format
    shape = f"({args.fixed_batch or 'batch'}, {', '.join(map(str, images.shape[1:]))})"
    behind = "decoding, NMS and masks behind it"
    if args.decode:
        behind = (
            "slots with a negative score are empty; boxes and masks (over the whole input) to "
            "the image's size behind it"
        )
    return (
        f"input `images` {shape}, normalised {form.channels} (mean {_spell(form.mean)}, std "
        f"{_spell(form.std)}). Outside of the graph: resizing and normalising before it, {behind}."
    )


def _table(report: dict[str, Any]) -> str:
    lines = [f"{report['images']} images, tolerance {report['tolerance']:.0e}", ""]
    if "count" in report:
        lines[0] += f"; {report['count']} detections compared, {report['unmatched']} without a pair"
    lines += ["| output | numbers compared | largest value | largest difference | relative |"]
    lines += ["|---|---:|---:|---:|---:|"]
    for name, each in report["differences"].items():
        lines.append(
            f"| {name} | {each['count']} | {each['largest']:.3g} | {each['difference']:.1e} | "
            f"{each['relative']:.1e} |"
        )
    return "\n".join([*lines, "", ""])


def _spell(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
