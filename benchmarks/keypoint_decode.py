"""Decoding of CenterNet and CornerNet against MMDetection's, and corner pooling against MMCV's.

    python benchmarks/keypoint_decode.py

80 classes, 128 x 128 cells, one image, one thread; interleaved, medians. What the decoders find is
compared. The tables go to benchmarks/keypoint_decode.md.
"""

from __future__ import annotations

import datetime
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from mmcv.ops import CornerPool
from mmdet.models.dense_heads import CenterNetHead, CornerHead
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from torch import Tensor, nn

from metaheads.architectures.centernet_points import CenterNetPoints, PointOutputs
from metaheads.architectures.cornernet import CornerNet, CornerOutputs
from metaheads.architectures.cornernet.decode import find_pairs
from metaheads.backbones import Hourglass
from metaheads.ops.corner_pool import DIRECTIONS, corner_pool
from metaheads.profiling import processor_name
from metaheads.weights import load_into
from metaheads.weights.cornernet import convert_mmdet

CLASSES, SIZE, REPEATS = 80, 128, 15


def smooth_maps(channels: int, *, sharpness: float = 1.5) -> Tensor:
    """(1, channels, 128, 128) with soft hills, as heatmaps have."""
    coarse = torch.randn(1, channels, SIZE // 8, SIZE // 8)
    fine = F.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")
    return sharpness * fine - 4 + 0.01 * torch.randn(1, channels, SIZE, SIZE)


def interleaved(candidates: dict[str, Callable], repeats: int = REPEATS) -> dict[str, float]:
    """Median milliseconds of each."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats + 1):  # the first warms up
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(each[1:]) for name, each in times.items()}


@torch.no_grad()
def centernet() -> tuple[dict[str, float], str]:
    heatmap, sizes = smooth_maps(CLASSES), torch.rand(1, 2, SIZE, SIZE) * 20
    offsets = torch.rand(1, 2, SIZE, SIZE)
    ours = CenterNetPoints([8], [4], num_classes=CLASSES).eval()
    theirs = CenterNetHead(
        8,
        8,
        CLASSES,
        test_cfg={"topk": 100, "local_maximum_kernel": 3, "max_per_img": 100},
    )
    maps = PointOutputs(heatmap, sizes, offsets)
    size = (4 * SIZE, 4 * SIZE)

    def run_ours():
        return ours.decode([maps], [size])[0]

    def run_theirs():
        return theirs._decode_heatmap(heatmap.sigmoid(), sizes, offsets, size, k=100, kernel=3)

    found, (boxes, labels) = run_ours(), run_theirs()
    assert torch.equal(found.labels, labels[0]), "both decode the same"
    assert torch.allclose(found.boxes, boxes[0, :, :4], atol=1e-3)
    times = interleaved({"ours": run_ours, "MMDetection's CenterNetHead": run_theirs})
    return times, f"{len(labels[0])} detections equal"


@torch.no_grad()
def cornernet() -> tuple[dict[str, float], str]:
    heat = [smooth_maps(CLASSES) for _ in range(2)]
    offsets = [torch.rand(1, 2, SIZE, SIZE) for _ in range(2)]
    tags = [0.1 * torch.randn(1, 1, SIZE, SIZE) for _ in range(2)]
    ours = CornerNet([8], [4], num_classes=CLASSES).eval()
    theirs = CornerHead(CLASSES, 8, num_feat_levels=1, corner_emb_channels=1)
    maps = CornerOutputs(*heat, *tags, *offsets)
    meta = {"pad_shape": (4 * SIZE, 4 * SIZE, 3), "batch_input_shape": (4 * SIZE, 4 * SIZE)}

    def run_ours():
        return find_pairs(ours, maps)[0]

    def run_theirs():
        return theirs._decode_heatmap(
            *(each.sigmoid() for each in heat),
            *offsets,
            *tags,
            img_meta={**meta, "border": [0, 0, 0, 0]},
            k=100,
            kernel=3,
            distance_threshold=0.5,
            num_dets=1000,
        )

    found, (boxes, scores, _) = run_ours(), run_theirs()
    scores = scores.flatten()
    count = int((scores > 0).sum())
    top = min(count, len(found), 50)
    order = scores.argsort(descending=True)[:top]
    expected = boxes.reshape(-1, boxes.shape[-1])[order, :4]
    assert torch.allclose(found.scores[:top], scores[order], atol=1e-5)
    distances = torch.cdist(found.boxes[:top] * 4, expected, p=torch.inf).amin(1)
    inside = (expected > 0).all(1) & (expected < 4 * SIZE).all(1)
    assert distances[inside].max() < 1e-2, "both decode the same"
    times = interleaved({"ours": run_ours, "MMDetection's CornerHead": run_theirs})
    return times, f"{top} best pairs equal"


@torch.no_grad()
def hourglass(side: int) -> tuple[dict[str, float], str]:
    """CornerNet with Hourglass-104, equal weights: ours leaves the heads of the first stack out."""
    config = dict(
        type="CornerNet",
        backbone=dict(type="HourglassNet", num_stacks=2, feat_channel=256),
        neck=None,
        bbox_head=dict(
            type="CornerHead",
            num_classes=CLASSES,
            in_channels=256,
            num_feat_levels=2,
            corner_emb_channels=1,
        ),
    )
    theirs = MODELS.build(config).eval()
    ours = nn.ModuleDict({"backbone": Hourglass(), "core": CornerNet([256, 256], [4, 4])}).eval()
    load_into(ours, convert_mmdet(theirs.state_dict())[0])
    images = torch.randn(1, 3, side, side)

    def run_ours():
        return ours["core"](ours["backbone"](images))

    def run_theirs():
        return theirs.bbox_head(theirs.extract_feat(images))

    difference = (run_ours()[0].tl_heatmap - run_theirs()[0][-1]).abs().max()
    assert difference < 1e-3, "both compute the same"
    times = interleaved({"ours": run_ours, "MMDetection's CornerNet": run_theirs}, repeats=5)
    return times, f"raw outputs within {difference:.0e}"


def pooling(direction: str, *, backward: bool) -> dict[str, float]:
    maps = torch.randn(1, 128, SIZE, SIZE, requires_grad=backward)
    grad = torch.randn(1, 128, SIZE, SIZE)
    theirs = CornerPool(direction)

    def run(pool: Callable[[Tensor], Tensor]) -> None:
        pooled = pool(maps)
        if backward:
            pooled.backward(grad)

    return interleaved(
        {"ours": lambda: run(lambda x: corner_pool(x, direction)), "MMCV's": lambda: run(theirs)}
    )


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    register_all_modules()
    lines = [
        "# Decoding and pooling of keypoints",
        "",
        f"`python benchmarks/keypoint_decode.py`, {datetime.date.today()}, {processor_name()}, one "
        f"thread, torch {torch.__version__}; medians of {REPEATS} interleaved runs; {CLASSES} "
        f"classes, {SIZE} x {SIZE} cells; pooling of 128 channels.",
        "",
        "| what | ours, ms | theirs, ms | times faster | compared |",
        "|---|---:|---:|---:|---|",
    ]
    rows = {"CenterNet, decode": centernet(), "CornerNet, decode to pairs": cornernet()}
    for side in (127, 255):
        rows[f"CornerNet-104 at {side} x {side}, network"] = hourglass(side)
    for direction in DIRECTIONS:
        rows[f"{direction} pooling, forward"] = pooling(direction, backward=False), ""
        rows[f"{direction} pooling, forward and backward"] = pooling(direction, backward=True), ""
    for what, (times, note) in rows.items():
        ours, theirs = times.values()
        lines.append(f"| {what} | {ours:.1f} | {theirs:.1f} | {theirs / ours:.2f} | {note} |")
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
