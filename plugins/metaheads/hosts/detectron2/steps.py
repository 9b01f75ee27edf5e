"""One training step of a Detectron2 model, for `metaheads benchmark --train`."""

from __future__ import annotations

from pathlib import Path

from detectron2.utils.events import EventStorage
from torch import Tensor

from metaheads.api import TrainingStep, necks
from metaheads.hosts.detectron2.train import load_config
from metaheads.hosts.detectron2.trainer import Trainer
from metaheads.profiling import Probe

_HEADS = ("rpn_head", "head", "box_head", "box_predictor")  # Detectron2's names


def build(path: Path, device: str, batch_size: int) -> TrainingStep:
    """The model of a config, its optimizer, and the losses of one batch of its training data."""
    overrides = {"MODEL.DEVICE": device, "SOLVER.IMS_PER_BATCH": str(batch_size), "SEED": "0"}
    overrides["DATALOADER.NUM_WORKERS"] = "0"
    cfg = load_config(path, list(overrides.items()))
    module = Trainer.build_model(cfg).train()
    batch = next(iter(Trainer.build_train_loader(cfg)))

    def loss() -> Tensor:
        with EventStorage():  # Detectron2's own heads log into it
            return sum(module(batch).values())

    found: list[Probe] = [
        (module.backbone, "forward", "forward"),
        *((part, "forward", "forward") for part in necks(module)),
    ]
    if hasattr(module, "core"):
        found.append((module.core, "forward", "forward"))
    for name in ("_network_image", "_pad", "preprocess_image"):
        if hasattr(module, name):
            found.append((module, name, "preprocess"))
    for name, part in module.named_modules():
        if name.rpartition(".")[2] in _HEADS:
            found.append((part, "forward", "forward"))
    return TrainingStep(module, Trainer.build_optimizer(cfg, module), loss, found)
