"""RetinaFace MobileNet-0.25 on one thread: the authors' code and a plain eager build against
folding, compiling, bfloat16 and ONNX.

    python benchmarks/face_speed.py [--reference FOLDER]

Network and decoding (boxes, points, NMS) of the same weights and image, interleaved. The weights
are random, the class scores stretched and shifted so that about --candidates priors exceed the
threshold, as on a picture with faces. FOLDER, if given, holds biubug6/Pytorch_Retinaface; its
network and functions are run on the CPU as its detect.py does. The table goes to
benchmarks/face_speed.md.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from metaheads import load
from metaheads.architectures.retinaface import RetinaFaceOutputs
from metaheads.export import RawNetwork, write_network
from metaheads.profiling import processor_name
from metaheads.structures import Detections
from metaheads.weights.retinaface import convert

CONFIG = "retinaface/retinaface_mnet025_640_widerface"
SIZES = (480, 640), (640, 640)
REPEATS = 60
SPREAD = 2.5  # standard deviation of the scores' logits


@torch.no_grad()
def fresh_weights(path: Path, candidates: int) -> None:
    """A checkpoint with running statistics of noise and so many scores above the threshold."""
    torch.manual_seed(0)
    model = load(CONFIG, host="mmdet", device="cpu")
    module, core = model.module, model.module.core
    images = 60 * torch.randn(2, 3, *SIZES[0])
    module.train()
    module.raw_outputs(images)
    module.eval()
    wanted = torch.tensor(core.score_threshold).logit()
    layers = [core.get_submodule(name) for name, _ in core.CLASS_LAYERS]
    for stretch in (True, False):
        logits = module.raw_outputs(images[:1]).class_logits[0]
        margins = (logits[:, 1] - logits[:, 0]).sort(descending=True).values
        for layer in layers:
            if stretch:
                layer.weight *= SPREAD / margins.std()
            else:
                layer.bias.view(-1, 2)[:, 1] += wanted - margins[candidates]
    torch.save(model.checkpoint(), path)


class Run(NamedTuple):
    """A network on the images, and what makes detections of its outputs."""

    network: Callable[[], Any]
    decode: Callable[[Any], Detections]
    is_exact: bool = True


def build(weights: Path, folder: Path, images: Tensor) -> dict[str, Run]:
    """name -> ours."""

    def module(**options: bool) -> torch.nn.Module:
        return load(CONFIG, weights, host="mmdet", device="cpu", **options).module

    plain, folded = module(), module(optimise=True)
    compiled, halved = (module(optimise=True, compile=True) for _ in range(2))
    channels_last = images.to(memory_format=torch.channels_last)
    file = folder / "face.onnx"
    write_network(RawNetwork(copy.deepcopy(plain)).eval(), images, file, is_dynamic=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    fed = {"images": images.numpy()}

    def run_onnx() -> RetinaFaceOutputs:
        return RetinaFaceOutputs(*map(torch.from_numpy, session.run(None, fed)))

    def run_halved() -> RetinaFaceOutputs:
        with torch.autocast("cpu", torch.bfloat16):
            return halved.raw_outputs(channels_last)

    def decode(outputs: RetinaFaceOutputs) -> Detections:
        return plain.core.decode(outputs, [images.shape[-2:]])[0]

    return {
        "plain eager": Run(lambda: plain.raw_outputs(images), decode),
        "optimise": Run(lambda: folded.raw_outputs(channels_last), decode),
        "optimise, compile": Run(lambda: compiled.raw_outputs(channels_last), decode),
        "optimise, compile, bfloat16": Run(run_halved, decode, is_exact=False),
        "ONNX": Run(run_onnx, decode),
    }


def build_authors(weights: Path, folder: Path, images: Tensor) -> Run:
    """biubug6's network and functions with the same weights; the folder is put on the path."""
    sys.path.insert(0, str(folder))
    from data import cfg_mnet
    from layers.functions.prior_box import PriorBox
    from models.retinaface import RetinaFace
    from utils.box_utils import decode, decode_landm
    from utils.nms.py_cpu_nms import py_cpu_nms

    ours = load(CONFIG, weights, host="mmdet", device="cpu").module
    core, values = ours.core, ours.state_dict()
    network = RetinaFace({**cfg_mnet, "pretrain": False}, phase="test").eval()
    for name, value in convert(network.state_dict())[0].items():
        value.copy_(values[name])
    height, width = images.shape[-2:]

    def detect(outputs: tuple[Tensor, Tensor, Tensor]) -> Detections:
        deltas, scores, points = (each[0] for each in outputs)
        priors = PriorBox(cfg_mnet, image_size=(height, width)).forward()
        boxes = decode(deltas, priors, cfg_mnet["variance"]) * torch.tensor([width, height] * 2)
        points = decode_landm(points, priors, cfg_mnet["variance"])
        points = (points * torch.tensor([width, height] * 5)).numpy()
        boxes, scores = boxes.numpy(), scores[:, 1].numpy()
        rows = np.where(scores > core.score_threshold)[0]
        rows = rows[(-scores[rows]).argsort(kind="stable")[: core.max_candidates]]
        ranks = -np.arange(len(rows), dtype=np.float32)  # equal scores have no order
        kept = rows[py_cpu_nms(np.column_stack((boxes[rows], ranks)), core.nms_iou)]
        kept = kept[: core.max_detections]
        found = (torch.from_numpy(each[kept]) for each in (boxes, scores, points.reshape(-1, 5, 2)))
        boxes, scores, points = found
        return Detections(boxes, scores, torch.zeros_like(scores).long(), keypoints=points)

    return Run(lambda: network(images), detect)


@torch.no_grad()
def measure(weights: Path, size: tuple[int, int], reference: Path | None) -> list[str]:
    images = 60 * torch.randn(1, 3, *size)
    core = load(CONFIG, weights, host="mmdet", device="cpu").module.core
    with tempfile.TemporaryDirectory() as folder:
        runs = build(weights, Path(folder), images)
        if reference:
            runs = {"authors' code, eager": build_authors(weights, reference, images), **runs}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        found: dict[str, Detections] = {}
        for _ in range(REPEATS + 3):  # the first ones compile and warm up
            for name, run in runs.items():
                start = time.perf_counter()
                outputs = run.network()
                middle = time.perf_counter()
                found[name] = run.decode(outputs)
                end = time.perf_counter()
                times[name].append((1000 * (middle - start), 1000 * (end - middle)))
    expected = found["plain eager"]
    for name, each in found.items():  # rounding moves a few overlaps across NMS's threshold
        if runs[name].is_exact:
            distance = torch.cdist(expected.boxes, each.boxes, p=torch.inf).amin(1)
            assert (distance < 0.05).float().mean() > 0.95, name
    priors, passing = _counts(core, runs["plain eager"].network())
    lines = [
        "",
        f"## {size[1]} x {size[0]} pixels, {priors} priors",
        "",
        f"{passing} of them exceed the score threshold, {len(expected)} detections.",
        "",
        "| | network, ms | decoding, ms | share of decoding | images/s | times plain eager |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    medians = {
        name: [statistics.median(part) for part in zip(*each[3:], strict=True)]
        for name, each in times.items()
    }
    plain = sum(medians["plain eager"])
    for name, (network, decoding) in medians.items():
        total = network + decoding
        lines.append(
            f"| {name} | {network:.1f} | {decoding:.2f} | {100 * decoding / network:.1f} % | "
            f"{1000 / total:.1f} | {plain / total:.2f} |"
        )
    return lines


def _counts(core: torch.nn.Module, outputs: RetinaFaceOutputs) -> tuple[int, int]:
    scores = outputs.class_logits[0].softmax(1)[:, 1]
    return len(scores), int((scores > core.score_threshold).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=300, help="priors above the threshold")
    parser.add_argument("--reference", type=Path, help="biubug6/Pytorch_Retinaface")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# RetinaFace MobileNet-0.25 on one CPU core",
        "",
        f"`python benchmarks/face_speed.py{' --reference FOLDER' if args.reference else ''}`, "
        f"{datetime.date.today()}, {processor_name()}, one "
        f"thread, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}; medians of "
        f"{REPEATS} interleaved runs, at least 95 % of the boxes of plain eager within 0.05 pixels "
        "in all but bfloat16.",
    ]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "fresh.pth"
        fresh_weights(weights, args.candidates)
        for size in SIZES:
            lines += measure(weights, size, args.reference)
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
