"""A network as ONNX or torch.export, and how far what was written is from the model."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metaheads.structures import Detections, FixedDetections

# What runs a written file: (B, 3, H, W) normalised images -> its outputs, in their order.
Program = Callable[[Tensor], list[Tensor]]
SUFFIXES = (".onnx", ".pt2")


class RawNetwork(nn.Module):
    """(B, 3, H, W) normalised images -> the architecture's raw outputs as a flat tuple."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor for _, tensor in flatten_outputs(self._outputs(images)))

    @torch.no_grad()
    def named(self, images: Tensor) -> dict[str, Tensor]:
        """The outputs by their names."""
        return dict(flatten_outputs(self._outputs(images)))

    def _outputs(self, images: Tensor) -> Any:
        return self.module.raw_outputs(images)  # type: ignore[operator]


class DetectingNetwork(RawNetwork):
    """(B, 3, H, W) normalised images -> `FixedDetections` as a flat tuple."""

    def _outputs(self, images: Tensor) -> FixedDetections:
        size = tuple(images.shape[-2:])
        return self.module.core.decode_fixed(super()._outputs(images), size)  # type: ignore[operator, union-attr]


@torch.no_grad()
def write_network(
    network: RawNetwork, images: Tensor, out: Path, *, is_dynamic: bool = True
) -> Program:
    """Writes a network as `out` (.onnx or .pt2).

    Args:
        network: in evaluation mode.
        images: an example.
        out: the file.
        is_dynamic: any batch size runs, not only the example's.

    Returns:
        What runs the written file.

    Raises:
        ValueError: another suffix, a package is missing for ONNX, or torch is too old for it.
    """
    if out.suffix not in SUFFIXES:
        raise ValueError(f"{out}: the name must end in {' or '.join(SUFFIXES)}")
    # An example of two: a batch of one would be taken for a constant.
    example = torch.cat([images, images]) if is_dynamic else images
    shapes = ({0: torch.export.Dim("batch", min=1, max=1024)},) if is_dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' remarks about their own future
        if out.suffix == ".pt2":
            exported = torch.export.export(network, (example,), dynamic_shapes=shapes)
            torch.export.save(exported, out)
            return torch.export.load(out).module()
        return _write_onnx(network, example, shapes, list(network.named(images)), out)


def _write_onnx(
    network: nn.Module,
    example: Tensor,
    shapes: tuple | None,
    names: list[str],
    out: Path,
) -> Program:
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
    assert program is not None
    program.save(out, external_data=False)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])

    def run_onnx(batch: Tensor) -> list[Tensor]:
        return [torch.from_numpy(each) for each in session.run(None, {"images": batch.numpy()})]

    return run_onnx


@dataclass
class Difference:
    """How far an output of the written file is from the model's.

    Attributes:
        difference: the largest one.
        largest: the largest magnitude in the model's output.
        count: numbers compared.
        relative: the largest difference as a part of the largest magnitude, but at least of 1.
    """

    difference: float = 0.0
    largest: float = 0.0
    count: int = 0

    @property
    def relative(self) -> float:
        return self.difference / max(self.largest, 1.0)

    def add(self, expected: Tensor, found: Tensor) -> None:
        if expected.numel():
            difference = (expected.float() - found.float()).abs().max()
            worst = torch.maximum(difference, torch.tensor(self.difference))  # NaN stays NaN
            self.difference = float(worst)
            self.largest = max(self.largest, float(expected.abs().max()))
            self.count += expected.numel()


@torch.no_grad()
def compare_outputs(
    network: RawNetwork, program: Program, inputs: Iterable[Tensor]
) -> dict[str, Difference]:
    """Raw outputs of the model and of the written file, number by number."""
    differences: dict[str, Difference] = {}
    for images in inputs:
        expected = network.named(images)
        for (name, ours), theirs in zip(expected.items(), program(images), strict=True):
            differences.setdefault(name, Difference()).add(ours, theirs)
    return differences


@dataclass
class DetectionReport:
    """Detections of the written file against the model's own `decode`.

    Attributes:
        count: detections of the model, all compared.
        unmatched: detections of either that the other has not.
        absent: fields that only one of the two has.
        differences: of the matched ones, by field; boxes as a part of the longer side of the input.
    """

    count: int
    unmatched: int
    absent: set[str]
    differences: dict[str, Difference]


@torch.no_grad()
def compare_detections(
    network: DetectingNetwork, program: Program, inputs: Iterable[Tensor]
) -> DetectionReport:
    """Detections of the model, by its own `decode`, and of the written file.

    The order of detections whose scores are nearly equal does not count: each is compared with the
    nearest box of its class.
    """
    report = DetectionReport(0, 0, set(), {})
    names: list[str] = []
    for images in inputs:
        names = names or list(network.named(images))
        module, size = network.module, tuple(images.shape[-2:])
        expected = module.core.decode(module.raw_outputs(images), [size] * len(images))  # type: ignore[operator, union-attr]
        values = dict(zip(names, program(images), strict=True))
        found = FixedDetections(**values)
        for index, ours in enumerate(expected):
            _compare_image(report, ours, found.of_image(index), max(size))
    return report


def _compare_image(report: DetectionReport, ours: Detections, found: Detections, side: int) -> None:
    # A score of exactly 0 means that there were no more peaks: these are in no order.
    ours, found = ours[ours.scores > 0], found[found.scores > 0]
    report.count += len(ours)
    distances = torch.cdist(ours.boxes, found.boxes, p=torch.inf)
    distances = distances.masked_fill(ours.labels[:, None] != found.labels[None], torch.inf)
    distances += (ours.scores[:, None] - found.scores[None]).abs()  # of equal boxes the right one
    rows, columns = _pair(distances)
    report.unmatched += len(ours) + len(found) - 2 * len(rows)
    ours, found = ours[rows], found[columns]
    for name in ("boxes", "scores", "masks", "mask_scores", "keypoints", "vertices"):
        a, b = getattr(ours, name), getattr(found, name)
        if (a is None) != (b is None):
            report.absent.add(name)
        elif a is not None and b is not None:
            scale = side if name in ("boxes", "keypoints", "vertices") else 1
            report.differences.setdefault(name, Difference()).add(a / scale, b / scale)


def _pair(distances: Tensor) -> tuple[list[int], list[int]]:
    """Rows and columns that are each other's nearest."""
    if not distances.numel():
        return [], []
    nearest = distances.argmin(1)
    mutual = distances.argmin(0)[nearest] == torch.arange(len(distances))
    mutual &= distances.amin(1) < torch.inf
    rows = mutual.nonzero()[:, 0]
    return rows.tolist(), nearest[rows].tolist()


def flatten_outputs(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of named tuples, tuples, lists and dicts of tensors; None is left out."""
    if isinstance(value, Tensor):
        yield name or "output", value
    elif hasattr(value, "_fields"):
        for field in value._fields:
            yield from flatten_outputs(getattr(value, field), f"{name}_{field}" if name else field)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from flatten_outputs(item, f"{name}_{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from flatten_outputs(item, f"{name}_{index}" if name else str(index))
