"""An architecture of ten lines, registered in both hosts: every tool must serve it unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from tests.hosts.installed import HOSTS
from torch import Tensor, nn

from metaheads.configs import config_root
from metaheads.structures import Detections, FixedDetections, Targets


class ToyOutputs(NamedTuple):
    logits: Tensor  # (B, classes, h, w)


class Toy(nn.Module):
    """A score per class and cell; the best cell of each class is a box, and its own mask."""

    CLASS_LAYERS = (("layer", 0),)

    def __init__(self, in_channels: list[int], strides: list[int], *, num_classes: int = 2) -> None:
        super().__init__()
        self.stride, self.num_classes = strides[0], num_classes
        self.layer = nn.Conv2d(in_channels[0], num_classes, 1)

    def forward(self, features: list[Tensor]) -> ToyOutputs:
        return ToyOutputs(self.layer(features[0]))

    def losses(self, outputs: ToyOutputs, targets: list[Targets]) -> dict[str, Tensor]:
        wanted = torch.zeros_like(outputs.logits)
        for index, target in enumerate(targets):
            wanted[index, target.labels] = 1.0
        return {"loss_toy": F.binary_cross_entropy_with_logits(outputs.logits, wanted)}

    def decode(self, outputs: ToyOutputs, image_sizes: list[tuple[int, int]]) -> list[Detections]:
        return [self._decode(each) for each in outputs.logits.sigmoid()]

    def decode_fixed(self, outputs: ToyOutputs, image_size: tuple[int, int]) -> FixedDetections:
        scores, cells = outputs.logits.sigmoid().flatten(2).max(2)
        scores, labels = scores.topk(self.num_classes, 1)
        cells, width = cells.gather(1, labels), outputs.logits.shape[3]
        y, x = cells // width, cells % width
        boxes = torch.stack((x, y, x + 1, y + 1), 2) * float(self.stride)
        masks = torch.ones_like(scores)[..., None, None].expand(-1, -1, 2, 2)
        return FixedDetections(boxes, scores, labels, masks=masks)

    def _decode(self, maps: Tensor) -> Detections:
        scores, cells = maps.flatten(1).max(1)
        scores, labels = scores.sort(descending=True)
        y, x = cells[labels] // maps.shape[2], cells[labels] % maps.shape[2]
        boxes = torch.stack((x, y, x + 1, y + 1), 1) * float(self.stride)
        masks = torch.ones_like(scores)[:, None, None].expand(-1, 2, 2)
        return Detections(boxes, scores, labels, masks=masks, mask_frames=boxes)


MMDET = """
_base_ = "{base}"
model = dict(
    type="metaheads.Toy",
    core=dict(_delete_=True, in_channels=[64, 128, 256], strides=[4, 8, 16], num_classes=7),
)
"""
DETECTRON2 = """
_BASE_: {base}
MODEL:
  META_ARCHITECTURE: Toy
  TOY:
    NUM_CLASSES: 7
"""


def write_configs(folder: Path) -> dict[str, Path]:
    """Registers the toy in the hosts that are installed; host -> its config on the embedded data
    set."""
    written = {}
    for host in HOSTS:
        register, text, suffix = _HOSTED[host]
        register()
        written[host] = folder / f"toy{suffix}"
        base = config_root() / host / f"yolact/yolact_r18_128_shapes{suffix}"
        written[host].write_text(text.format(base=base))
    return written


def _register_in_mmdet() -> None:
    from metaheads.hosts.mmdet import MODELS, HostedInstances

    if "Toy" not in MODELS:
        MODELS.register_module("Toy", module=type("Toy", (HostedInstances,), {"core_class": Toy}))


def _register_in_detectron2() -> None:
    from detectron2.modeling import META_ARCH_REGISTRY

    from metaheads.hosts.detectron2 import config, models

    if "Toy" not in META_ARCH_REGISTRY:
        config.OPTION_NODES["MODEL.TOY"] = Toy
        META_ARCH_REGISTRY.register(type("Toy", (models.HostedInstances,), {"core_class": Toy}))


_HOSTED = {
    "mmdet": (_register_in_mmdet, MMDET, ".py"),
    "detectron2": (_register_in_detectron2, DETECTRON2, ".yaml"),
}
