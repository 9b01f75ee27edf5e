"""Small cores and targets for the tests of RetinaFace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaheads.architectures.retinaface import RetinaFace, RetinaFaceOutputs
from metaheads.structures import Targets

SIZE = (64, 96)
PAPER: dict[str, Any] = {
    "anchor_sizes": ((8, 10, 12), (16, 20, 25), (32, 40, 50), (64, 80, 100)),
    "extra_levels": 1,
    "has_shared_heads": True,
    "is_deformable": True,
    "positive_iou": (0.7, 0.5),
    "negative_iou": (0.3, 0.4),
    "negatives_per_positive": 3,
}


def make_core(**options: Any) -> RetinaFace:
    torch.manual_seed(0)
    options = {"pyramid_channels": 16, **options}
    return RetinaFace([8, 12, 16], [8, 16, 32], **options)


def make_features(size: tuple[int, int] = SIZE, batch: int = 2, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, c, -(-size[0] // s), -(-size[1] // s), generator=generator)
        for c, s in ((8, 8), (12, 16), (16, 32))
    ]


def make_targets(
    boxes: list[list[float]],
    *,
    is_crowd: list[bool] | None = None,
    num_vertices: int = 0,
    visibility: float = 2,
    size: tuple[int, int] = SIZE,
) -> Targets:
    """Objects with five keypoints on the diagonal, and vertices likewise at depths of 0, 1, ..."""
    corners = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    count = len(corners)
    steps = torch.linspace(0.2, 0.8, 5)[:, None]
    low, sides = corners[:, None, :2], corners[:, None, 2:] - corners[:, None, :2]
    points = low + sides * steps
    vertices = None
    if num_vertices:
        place = low + sides * torch.linspace(0, 1, num_vertices)[:, None]
        depth = torch.arange(num_vertices).expand(count, -1)[..., None]
        vertices = torch.cat((place, depth), -1)
    crowd = torch.tensor(is_crowd or [False] * count, dtype=torch.bool)
    labels = torch.zeros(count, dtype=torch.long)
    keypoints = torch.cat((points, torch.full_like(points[..., :1], visibility)), -1)
    return Targets(size, corners, labels, crowd, keypoints=keypoints, vertices=vertices)


def write_mesh(folder: Path) -> str:
    """A mesh of four vertices; a mirror swaps the outer ones and the inner ones."""
    content = {
        "dimensions": 3,
        "num_vertices": 4,
        "triangles": [[0, 1, 2], [1, 2, 3]],
        "flip": [3, 2, 1, 0],
    }
    path = folder / "mesh.json"
    path.write_text(json.dumps(content))
    return str(path)


def empty_outputs(core: RetinaFace, count: int, batch: int = 1) -> RetinaFaceOutputs:
    """Outputs of `count` priors that are all background."""
    logits = torch.zeros(batch, count, 2)
    logits[..., 0] = 10.0
    points = torch.zeros(batch, count, 2 * core.num_keypoints)
    return RetinaFaceOutputs(logits, torch.zeros(batch, count, 4), points)
