"""`metaheads export`: the network as ONNX or torch.export, held against itself on real images."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from metaheads.api import Model, load
from metaheads.commands.arguments import add_config_arguments, add_trust_argument
from metaheads.datasets.shapes import make_shapes
from metaheads.media import find_images, read_image

EPILOG = """examples:
  tools/export.py --config-file yolact/yolact_r50_550_coco --host mmdet --checkpoint yolact.pth \\
    --out yolact.onnx --images pictures/
  tools/export.py --config-file mine.yaml --checkpoint model_final.pth --out mine.pt2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_config_arguments(parser)
    parser.add_argument("--checkpoint", help="of either host, or imported")
    add_trust_argument(parser)
    parser.add_argument("--out", type=Path, required=True, help="FILE.onnx, or FILE.pt2 (torch)")
    parser.add_argument("--images", nargs="+", help="to compare on (default: drawn scenes)")
    parser.add_argument("--max-images", type=int, default=4, help="the first so many of them")
    parser.add_argument("--fixed-batch", type=int, help="batch size; without it any size runs")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference allowed")
    parser.add_argument("--json", help="write the differences to this file")


def run(args: argparse.Namespace) -> int:
    """1 if the exported network differs from the model."""
    if args.out.suffix not in (".onnx", ".pt2"):
        raise ValueError(f"--out {args.out}: the name must end in .onnx or .pt2")
    if not args.out.parent.is_dir():
        raise FileNotFoundError(f"--out {args.out}: no folder {args.out.parent}; make it first")
    model = load(
        args.config_file,
        args.checkpoint,
        host=args.host,
        device="cpu",
        trust_checkpoint=args.trust_checkpoint,
    )
    if not hasattr(model.module, "raw_outputs"):
        raise ValueError(
            f"{args.config_file}: this model has no raw_outputs(images), tensors in and tensors "
            "out; only our single-stage architectures are exported, the hosts export their own"
        )
    with tempfile.TemporaryDirectory() as folder:
        if not args.images:
            make_shapes(folder, num_train=0, num_val=args.max_images, num_clips=0)
        paths = find_images(args.images or [f"{folder}/val"], args.max_images)
        inputs = [network_input(model, path) for path in paths]
    if args.fixed_batch:
        inputs = [each.expand(args.fixed_batch, -1, -1, -1).contiguous() for each in inputs]
    network = RawNetwork(model.module).eval()
    names = network.names(inputs[0])
    with _quiet():
        program = export(network, inputs[0], names, args.out, is_dynamic=not args.fixed_batch)
    report = compare(network, program, inputs, names)
    sys.stdout.write(_table(report, args.tolerance))
    sys.stdout.write(
        f"{args.out}: input `images` {_spell_shape(inputs[0], args.fixed_batch)}, normalised "
        f"{model.input_format.channels} (mean {_spell(model.input_format.mean)}, std "
        f"{_spell(model.input_format.std)}). Outside of the graph: resizing and normalising before "
        "it, decoding, NMS and masks behind it.\n"
    )
    worst = max(each["difference"] for each in report["outputs"].values())
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n")
    if not worst <= args.tolerance:
        sys.stderr.write(f"FAILED: the difference {worst:.1e} exceeds {args.tolerance:.1e}\n")
        return 1
    return 0


class RawNetwork(nn.Module):
    """(B, 3, H, W) normalised images -> the architecture's raw outputs as a flat tuple."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor for _, tensor in _flatten(self.module.raw_outputs(images)))

    @torch.no_grad()
    def names(self, images: Tensor) -> list[str]:
        """A name for each output."""
        return [name for name, _ in _flatten(self.module.raw_outputs(images))]


def network_input(model: Model, path: Path) -> Tensor:
    """What the model's own preprocessing makes of an image: (1, 3, H, W)."""
    caught: list[Tensor] = []
    handle = model.module.backbone.register_forward_pre_hook(
        lambda _, inputs: caught.append(inputs[0])
    )
    try:
        model.predict(read_image(path))
    finally:
        handle.remove()
    return caught[0]


def export(
    network: nn.Module, images: Tensor, names: list[str], out: Path, *, is_dynamic: bool
) -> Any:
    """Writes the file; returns a function of images that runs what was written."""
    # An example of two: a batch of one would be taken for a constant.
    example = torch.cat([images, images]) if is_dynamic else images
    shapes = ({0: torch.export.Dim("batch", min=1, max=1024)},) if is_dynamic else None
    unfinished = out.with_name(f".{out.stem}.tmp{out.suffix}")
    if out.suffix == ".pt2":
        torch.export.save(
            torch.export.export(network, (example,), dynamic_shapes=shapes), unfinished
        )
        unfinished.replace(out)
        return torch.export.load(out).module()
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise ValueError(
            f"ONNX needs {error.name}: pip install onnx onnxscript onnxruntime"
        ) from error
    if "dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters:
        raise ValueError(
            f"ONNX needs torch 2.6 or later, this is {torch.__version__}; --out FILE.pt2 works here"
        )
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        dynamic_shapes=shapes,
        input_names=["images"],
        output_names=names,
        verbose=False,
    )
    program.save(unfinished, external_data=False)
    unfinished.replace(out)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])

    def run_onnx(batch: Tensor) -> list[Tensor]:
        return [torch.from_numpy(each) for each in session.run(None, {"images": batch.numpy()})]

    return run_onnx


@torch.no_grad()
def compare(
    network: nn.Module, program: Any, inputs: list[Tensor], names: list[str]
) -> dict[str, Any]:
    """Largest absolute difference of each output, and over how many numbers."""
    outputs = {name: {"difference": 0.0, "largest": 0.0, "count": 0} for name in names}
    for images in tqdm(inputs, unit="image", desc="comparing"):
        expected, found = network(images), program(images)
        for name, ours, theirs in zip(names, expected, found, strict=True):
            entry = outputs[name]
            entry["difference"] = max(entry["difference"], float((ours - theirs).abs().max()))
            entry["largest"] = max(entry["largest"], float(ours.abs().max()))
            entry["count"] += ours.numel()
    return {"images": len(inputs), "outputs": outputs}


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of named tuples, tuples, lists and dicts of tensors; None is left out."""
    if isinstance(value, Tensor):
        yield name or "output", value
    elif hasattr(value, "_fields"):
        for field in value._fields:
            yield from _flatten(getattr(value, field), f"{name}_{field}" if name else field)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(item, f"{name}_{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _flatten(item, f"{name}_{index}" if name else str(index))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks about their own future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _table(report: dict[str, Any], tolerance: float) -> str:
    lines = [
        f"{report['images']} images, tolerance {tolerance:.0e}",
        "",
        "| output | numbers compared | largest value | largest difference |",
        "|---|---:|---:|---:|",
    ]
    for name, each in report["outputs"].items():
        lines.append(
            f"| {name} | {each['count']} | {each['largest']:.3g} | {each['difference']:.1e} |"
        )
    return "\n".join([*lines, "", ""])


def _spell(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _spell_shape(images: Tensor, batch: int | None) -> str:
    return f"({batch or 'batch'}, {', '.join(map(str, images.shape[1:]))})"
