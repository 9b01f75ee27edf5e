"""RetinaFace MobileNet-0.25 on one thread: a plain eager build against folding, compiling and ONNX.

    python benchmarks/face_speed.py

Network and decoding (boxes, points, NMS) of the same weights and image, interleaved. The weights
are random, the class scores shifted so that about --candidates priors exceed the threshold, as on
a picture with faces. The table goes to benchmarks/face_speed.md.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor

from metaheads import load
from metaheads.architectures.retinaface import RetinaFaceOutputs
from metaheads.export import RawNetwork, write_network
from metaheads.profiling import processor_name
from metaheads.structures import Detections

CONFIG = "retinaface/retinaface_mnet025_640_widerface"
SIZES = (480, 640), (640, 640)
REPEATS = 60


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
    logits = module.raw_outputs(images[:1]).class_logits[0]
    margins = (logits[:, 1] - logits[:, 0]).sort(descending=True).values
    wanted = torch.tensor(core.score_threshold).logit()
    for name, _ in core.CLASS_LAYERS:
        core.get_submodule(name).bias.view(-1, 2)[:, 1] += wanted - margins[candidates]
    torch.save(model.checkpoint(), path)


def build(
    weights: Path, folder: Path, images: Tensor
) -> dict[str, Callable[[], RetinaFaceOutputs]]:
    """name -> what runs the network on these images."""

    def network(**options: bool) -> torch.nn.Module:
        return load(CONFIG, weights, host="mmdet", device="cpu", **options).module

    plain, folded = network(), network(optimise=True)
    compiled = network(optimise=True, compile=True)
    channels_last = images.to(memory_format=torch.channels_last)
    file = folder / "face.onnx"
    write_network(RawNetwork(copy.deepcopy(plain)).eval(), images, file, is_dynamic=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    fed = {"images": images.numpy()}

    def run_onnx() -> RetinaFaceOutputs:
        return RetinaFaceOutputs(*map(torch.from_numpy, session.run(None, fed)))

    return {
        "plain eager": lambda: plain.raw_outputs(images),
        "optimise (folded, channels last)": lambda: folded.raw_outputs(channels_last),
        "optimise and compile": lambda: compiled.raw_outputs(channels_last),
        "export to ONNX, onnxruntime": run_onnx,
    }


@torch.no_grad()
def measure(weights: Path, size: tuple[int, int]) -> list[str]:
    images = 60 * torch.randn(1, 3, *size)
    core = load(CONFIG, weights, host="mmdet", device="cpu").module.core
    with tempfile.TemporaryDirectory() as folder:
        runs = build(weights, Path(folder), images)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        found: dict[str, Detections] = {}
        for _ in range(REPEATS + 3):  # the first ones compile and warm up
            for name, run in runs.items():
                start = time.perf_counter()
                outputs = run()
                middle = time.perf_counter()
                (found[name],) = core.decode(outputs, [size])
                end = time.perf_counter()
                times[name].append((1000 * (middle - start), 1000 * (end - middle)))
    expected = found["plain eager"]
    for name, each in found.items():  # equal scores may change places
        assert len(each) == len(expected), name
        assert torch.cdist(expected.boxes, each.boxes, p=torch.inf).amin(1).max() < 0.05, name
    priors, passing = _counts(core, runs["plain eager"]())
    lines = [
        "",
        f"## {size[1]} x {size[0]} pixels, {priors} priors",
        "",
        f"{passing} of them exceed the score threshold, {len(expected)} detections.",
        "",
        "| | network, ms | decoding, ms | share of decoding | images/s | times faster |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    first = 0.0
    for name, each in times.items():
        network, decoding = (statistics.median(part) for part in zip(*each[3:], strict=True))
        first = first or network + decoding
        total = network + decoding
        lines.append(
            f"| {name} | {network:.1f} | {decoding:.2f} | {100 * decoding / network:.1f} % | "
            f"{1000 / total:.1f} | {first / total:.2f} |"
        )
    return lines


def _counts(core: torch.nn.Module, outputs: RetinaFaceOutputs) -> tuple[int, int]:
    scores = outputs.class_logits[0].softmax(1)[:, 1]
    return len(scores), int((scores > core.score_threshold).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=300, help="priors above the threshold")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# RetinaFace MobileNet-0.25 on one CPU core",
        "",
        f"`python benchmarks/face_speed.py`, {datetime.date.today()}, {processor_name()}, one "
        f"thread, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}; medians of "
        f"{REPEATS} interleaved runs, the same detections from all.",
    ]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "fresh.pth"
        fresh_weights(weights, args.candidates)
        for size in SIZES:
            lines += measure(weights, size)
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
