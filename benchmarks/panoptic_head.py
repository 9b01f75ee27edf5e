"""UPSNet's panoptic head against the heuristic fusions of MMDetection and Detectron2.

    python benchmarks/panoptic_head.py

From semantic scores at stride 4 and mask logits to the panoptic map of the image, one thread, one
image, interleaved, medians. 80 things, 53 kinds of stuff; boxes of all sizes; a fusion semantic
head has 54 channels, ours 133. The table goes to benchmarks/panoptic_head.md.
"""

from __future__ import annotations

import datetime
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from detectron2.structures import Boxes, Instances
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from metaheads.architectures import UPSNet
from metaheads.profiling import processor_name
from metaheads.structures import Detections, Geometry

REPEATS = 5
THINGS, STUFF = 80, 53


def scene(count: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Semantic scores (133, h, w), boxes, labels, mask logits."""
    height, width = size
    coarse = torch.randn(1, THINGS + STUFF, height // 32, width // 32)
    scores = F.interpolate(3 * coarse, (height // 4, width // 4), mode="bicubic")[0]
    centre = torch.rand(count, 2) * torch.tensor([width, height])
    half = (torch.rand(count, 2) ** 2) * torch.tensor([width, height]) / 4 + 8
    limit = torch.tensor([width, height, width, height])
    boxes = torch.cat((centre - half, centre + half), 1).clamp(min=0).minimum(limit)
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, 28),) * 2, indexing="ij")
    masks = 6 * (1 - x**2 - y**2) + torch.randn(count, 28, 28)
    return scores, boxes, torch.randint(0, THINGS, (count,)), masks


def ours(scene_of: tuple, size: tuple[int, int]) -> Callable[[], Tensor]:
    scores, boxes, labels, masks = scene_of
    core = UPSNet([8] * 4, [4, 8, 16, 32], head_widths=(8,)).eval()
    found = Detections(boxes, torch.linspace(0.99, 0.61, len(boxes)), labels)
    outputs = core([torch.zeros(1, 8, 8 // 2**i, 8 // 2**i) for i in range(4)])
    outputs = outputs._replace(semantic=scores[None])
    geometry = [Geometry.from_resize(size, size)]
    return lambda: core.decode(outputs, [found], [masks], geometry)[0].ids


def detectron2s(scene_of: tuple, size: tuple[int, int]) -> Callable[[], Tensor]:
    scores, boxes, labels, masks = scene_of
    stuff = torch.cat((scores[STUFF:].amax(0, keepdim=True), scores[:STUFF]))

    def run() -> Tensor:
        instances = Instances(size)
        instances.pred_boxes, instances.pred_classes = Boxes(boxes), labels
        instances.scores = torch.linspace(0.99, 0.61, len(boxes))
        instances.pred_masks = masks.sigmoid()[:, None]
        full = F.interpolate(stuff[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
        semantic = sem_seg_postprocess(full, size, *size).argmax(0)
        instances = detector_postprocess(instances, *size)
        return combine_semantic_and_instance_outputs(instances, semantic, 0.5, 4096, 0.5)[0]

    return run


def mmdetections(scene_of: tuple, size: tuple[int, int]) -> Callable[[], Tensor]:
    scores, boxes, labels, masks = scene_of
    stuff = torch.cat((scores[:STUFF], scores[STUFF:].amax(0, keepdim=True)))
    config = ConfigDict(mask_overlap=0.5, stuff_area_limit=4096)
    head = HeuristicFusionHead(THINGS, STUFF, test_cfg=config)

    def run() -> Tensor:
        full = F.interpolate(stuff[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
        full = F.interpolate(full[None], size, mode="bilinear", align_corners=False)[0]
        pasted = torch.zeros(len(boxes), *size, dtype=torch.bool)
        for number in range(len(boxes)):  # as FCNMaskHead does on CPUs
            part, place = _do_paste_mask(
                masks.sigmoid()[number, None, None], boxes[number, None], *size, skip_empty=True
            )
            pasted[(number, *place)] = part[0] >= 0.5
        found = InstanceData(bboxes=boxes, labels=labels, masks=pasted)
        found.scores = torch.linspace(0.99, 0.61, len(boxes))
        return head.predict([found], [full])[0].sem_seg

    return run


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = [
        "# Panoptic heads",
        "",
        f"`python benchmarks/panoptic_head.py`, {datetime.date.today()}, {processor_name()}, one "
        f"thread, torch {torch.__version__}; medians of {REPEATS} interleaved runs.",
        "",
        "| image | instances | UPSNet's head, ms | MMDetection's fusion, ms | Detectron2's, ms |",
        "|---|---:|---:|---:|---:|",
    ]
    for size in ((480, 640), (800, 1216)):
        for count in (10, 50, 100):
            each = scene(count, size)
            runs = [make(each, size) for make in (ours, mmdetections, detectron2s)]
            times: list[list[float]] = [[] for _ in runs]
            for _ in range(REPEATS + 1):
                for kept, run in zip(times, runs, strict=True):
                    start = time.perf_counter()
                    assert run().shape[-2:] == size
                    kept.append(1000 * (time.perf_counter() - start))
            medians = [statistics.median(kept[1:]) for kept in times]
            spelled = " | ".join(f"{each:.0f}" for each in medians)
            lines.append(f"| {size[0]} x {size[1]} | {count} | {spelled} |")
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
