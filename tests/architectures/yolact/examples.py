"""A small core, its inputs and its ground truth."""

from __future__ import annotations

import torch
from torch import Tensor

from metaheads.architectures.yolact import Yolact
from metaheads.structures import Targets

SIZE = (128, 160)
SCALES = ((16.0,), (32.0,), (64.0,), (96.0,))


def make_core(**options) -> Yolact:
    options = {"num_classes": 3, "fpn_channels": 8, "num_extra_levels": 1, **options}
    options = {"anchor_scales": SCALES, "num_prototypes": 6, "max_size": 128, **options}
    return Yolact([4, 6, 8], [8, 16, 32], **options)


def make_features(batch: int = 2, size: tuple[int, int] = SIZE) -> list[Tensor]:
    return [
        torch.randn(batch, channels, size[0] // stride, size[1] // stride)
        for channels, stride in ((4, 8), (6, 16), (8, 32))
    ]


def make_targets(
    boxes: list[list[float]], is_crowd: list[bool] | None = None, size: tuple[int, int] = SIZE
) -> Targets:
    """Objects that fill their boxes, with labels 0, 1, 2, 0, ..."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[max(int(y1), 0) : max(int(y2), 0), max(int(x1), 0) : max(int(x2), 0)] = True
    return Targets(
        image_size=size,
        boxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        labels=torch.arange(len(boxes)) % 3,
        is_crowd=torch.tensor(is_crowd or [False] * len(boxes), dtype=torch.bool),
        masks=masks,
    )


OBJECTS = [[10.0, 12.0, 60.0, 70.0], [80.0, 20.0, 150.0, 110.0]]
NOTHING: list[list[float]] = []
TINY = [
    [20.0, 20.0, 20.0, 20.0],  # no area
    [30.0, 30.0, 31.0, 31.0],  # one pixel
    [40.0, 40.0, 80.0, 40.4],  # a line
    [-50.0, -50.0, -10.0, -10.0],  # outside
    [150.0, 100.0, 900.0, 900.0],  # across the border
    [70.0, 60.0, 50.0, 40.0],  # corners swapped
]
