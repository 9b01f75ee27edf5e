"""One training step of an MMDetection model, for `metaheads benchmark --train`."""

from __future__ import annotations

from pathlib import Path

from mmdet.utils import register_all_modules
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from torch import Tensor

from metaheads.api import TrainingStep, necks
from metaheads.hosts.mmdet.config import load_config
from metaheads.hosts.mmdet.registry import MODELS
from metaheads.profiling import Probe


def build(path: Path, device: str, batch_size: int) -> TrainingStep:
    """The model of a config, its optimizer, and the losses of one batch of its training data."""
    register_all_modules()
    cfg = load_config(path, [], work_dir=None)
    module = MODELS.build(cfg.model).to(device).train()
    loader = cfg.train_dataloader
    loader.batch_size, loader.num_workers, loader.persistent_workers = batch_size, 0, False
    batch = next(iter(Runner.build_dataloader(loader, seed=0)))

    def loss() -> Tensor:
        data = module.data_preprocessor({key: [*value] for key, value in batch.items()}, True)
        return module.parse_losses(module(**data, mode="loss"))[0]

    found: list[Probe] = [
        (module.data_preprocessor, "forward", "preprocess"),
        (module.backbone, "forward", "forward"),
        *((part, "forward", "forward") for part in necks(module)),
    ]
    if hasattr(module, "core"):
        found.append((module.core, "forward", "forward"))
    for part in module.modules():  # MMDetection's heads
        if hasattr(part, "loss_by_feat"):
            found.append((part, "forward", "forward"))
    return TrainingStep(
        module, build_optim_wrapper(module, cfg.optim_wrapper).optimizer, loss, found
    )
