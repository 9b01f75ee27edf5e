"""YOLACT from raw outputs to masks: ours against MMDetection's, side by side in one run.

    python benchmarks/yolact_decode.py

One thread, interleaved, medians. Both decode the same made-up raw outputs of a 550-pixel, 80-class
YOLACT with MMDetection's anchors and its second score threshold; the detections are compared before
anything is timed. The table goes to benchmarks/yolact_decode.md.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import platform
import statistics
import time
from pathlib import Path

import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.hub import get_config
from torch import Tensor

from metaheads.architectures import Yolact
from metaheads.architectures.yolact import YolactOutputs
from metaheads.hosts.mmdet import MODELS
from metaheads.profiling import peak_memory, processor_name
from metaheads.structures import Geometry

LOADS = ((30, (480, 640)), (150, (480, 640)), (1000, (480, 640)), (150, (1080, 1920)))
LEVELS = ((69, 69), (35, 35), (18, 18), (9, 9), (5, 5))
CLASSES, ANCHORS, PROTOTYPES = 80, 3, 32


def make_outputs(core: Yolact, confident: int) -> YolactOutputs:
    """Raw outputs with so many confident priors, at the density of a trained model's neighbours."""
    generator = torch.Generator().manual_seed(confident)
    priors = core.priors(list(LEVELS), torch.device("cpu"))
    count = len(priors)
    logits = torch.randn(1, count, CLASSES + 1, generator=generator) * 0.3
    logits[..., 0] += 9  # background
    chosen = torch.randperm(count, generator=generator)[:confident]
    labels = torch.randint(CLASSES, (confident,), generator=generator)
    logits[0, chosen, labels + 1] += 7 + 4 * torch.rand(confident, generator=generator)
    prototypes = torch.rand(1, PROTOTYPES, 18, 18, generator=generator)
    prototypes = torch.nn.functional.interpolate(prototypes, (138, 138), mode="bicubic").relu()
    return YolactOutputs(
        torch.randn(1, count, 4, generator=generator) * 0.3,
        logits,
        torch.randn(1, count, PROTOTYPES, generator=generator).tanh(),
        prototypes,
        torch.zeros(1, CLASSES, *LEVELS[0]),
        priors,
    )


class Peer:
    """MMDetection's YOLACT heads, fed with the same raw outputs."""

    def __init__(self) -> None:
        register_all_modules()
        cfg: Config = get_config("mmdet::yolact/yolact_r50_1xb8-55e_coco.py")
        cfg.model.backbone.init_cfg = None
        self.model = MODELS.build(cfg.model).eval()
        self.model.mask_head.protonet = torch.nn.Identity()

    def inputs(self, outputs: YolactOutputs) -> tuple:
        """Per level, channels first, background last."""
        logits = torch.cat((outputs.class_logits[..., 1:], outputs.class_logits[..., :1]), -1)
        maps = [self._levels(t) for t in (logits, outputs.box_deltas, outputs.mask_coefficients)]
        return (*maps, outputs.prototypes)

    @staticmethod
    def _levels(values: Tensor) -> list[Tensor]:
        parts = values[0].split([h * w * ANCHORS for h, w in LEVELS])
        return [
            part.view(h, w, -1).permute(2, 0, 1)[None].contiguous()
            for part, (h, w) in zip(parts, LEVELS, strict=True)
        ]

    @torch.no_grad()
    def __call__(self, inputs: tuple, size: tuple[int, int]):
        scores, deltas, coefficients, prototypes = inputs
        meta = {
            "img_shape": (550, 550),
            "ori_shape": size,
            "scale_factor": (550 / size[1], 550 / size[0]),
        }
        results = self.model.bbox_head.predict_by_feat(
            scores, deltas, coefficients, [meta], rescale=False
        )
        masks, semantic = self.model.mask_head.forward((prototypes,), results)
        return self.model.mask_head.predict_by_feat(
            masks, semantic, results_list=results, batch_img_metas=[meta], rescale=True
        )[0]


@torch.no_grad()
def decode(core: Yolact, outputs: YolactOutputs, size: tuple[int, int]):
    return core.decode(outputs, [(550, 550)])[0].finish(Geometry.from_resize((550, 550), size))


def compare(ours, theirs) -> tuple[int, int, int]:
    """Detections of ours and theirs, and the pixels that differ in the masks both have."""
    key = {}
    for index in range(len(theirs.labels)):
        key[int(theirs.labels[index]), round(float(theirs.scores[index]), 5)] = index
    pixels = 0
    for index in range(len(ours)):
        other = key.pop((int(ours.labels[index]), round(float(ours.scores[index]), 5)), None)
        if other is not None:
            pixels += int((ours.masks[index] != theirs.masks[other]).sum())
    return len(ours), len(theirs.labels), pixels


def milliseconds(functions: list, repeats: int) -> list[float]:
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats + 1):  # the first round warms up
        for index, function in enumerate(functions):
            start = time.perf_counter()
            function()
            times[index].append(1000 * (time.perf_counter() - start))
    return [statistics.median(each[1:]) for each in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    peer = Peer()
    core = Yolact(
        [512, 1024, 2048],
        [8, 16, 32],
        anchor_ratios=(2.0, 1.0, 0.5),  # MMDetection's ratios are height / width
        use_square_anchors=False,
        filter_class_scores=True,
    )
    rows = []
    for confident, size in LOADS:
        outputs = make_outputs(core, confident)
        inputs = peer.inputs(outputs)

        def run_ours(outputs=outputs, size=size):
            return decode(core, outputs, size)

        def run_theirs(inputs=inputs, size=size):
            return peer(copy.copy(inputs), size)

        number, other, pixels = compare(run_ours(), run_theirs())
        ours, theirs = milliseconds([run_ours, run_theirs], args.repeats)
        our_peak, their_peak = peak_memory(run_ours)["host"], peak_memory(run_theirs)["host"]
        rows.append(
            f"| {confident}, {size[0]}x{size[1]} | {number} / {other} | {pixels} "
            f"| {ours:.1f} | {theirs:.1f} | {theirs / ours:.1f}x "
            f"| {our_peak:.0f} | {their_peak:.0f} | {our_peak / their_peak:.2f} |"
        )
        print(rows[-1], flush=True)
    header = (
        "| confident priors, image | detections ours / theirs | differing pixels "
        "| ours, ms | theirs, ms | speed-up | ours, MiB | theirs, MiB | memory ratio |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
    )
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    where = f"{processor_name()}, one thread, {versions}"
    text = (
        "# YOLACT: decode, NMS and masks against MMDetection 3.3\n\n"
        f"`python benchmarks/yolact_decode.py`, {datetime.date.today()}, {where}. Medians of "
        f"{args.repeats} interleaved runs; memory is the growth of the peak, result included.\n\n"
    )
    Path(__file__).with_suffix(".md").write_text(text + header + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
