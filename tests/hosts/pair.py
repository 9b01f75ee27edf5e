"""The same model in both hosts, and their data through each host's own loader."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metaheads import weights
from metaheads.configs import config_root


def config_path(host: str, name: str) -> Path:
    return config_root() / host / f"{name}{'.py' if host == 'mmdet' else '.yaml'}"


def mmdet_config(name: str, *overrides: tuple[str, str]):
    import metaheads.hosts.mmdet.train as host

    cfg = host.load_config(config_path("mmdet", name), list(overrides), work_dir="unused")
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[loader].num_workers, cfg[loader].persistent_workers = 0, False
    return cfg


def detectron2_config(name: str, *overrides: tuple[str, str]):
    import metaheads.hosts.detectron2.train as host

    return host.load_config(config_path("detectron2", name), list(overrides))


def mmdet_model(name: str, *overrides: tuple[str, str]) -> nn.Module:
    from mmdet.utils import register_all_modules

    from metaheads.hosts.mmdet import MODELS

    register_all_modules()
    return MODELS.build(mmdet_config(name, *overrides).model)


def detectron2_model(name: str, *overrides: tuple[str, str]) -> nn.Module:
    from detectron2.modeling import build_model

    return build_model(detectron2_config(name, *overrides))


def same_weights(mmdet: nn.Module, detectron2: nn.Module) -> None:
    """Carries MMDetection's weights into Detectron2's model, strictly."""
    weights.load_into(detectron2, mmdet.state_dict())


def mmdet_detections(model: nn.Module, name: str) -> dict[int, Any]:
    """Image id -> finished detections, by MMDetection's own loader and pipeline."""
    from mmengine.runner import Runner

    from metaheads.hosts.mmdet.inference import to_detections

    found = {}
    with torch.no_grad():
        for batch in Runner.build_dataloader(copy.deepcopy(mmdet_config(name).val_dataloader)):
            for sample in model.eval().test_step(batch):
                found[sample.img_id] = to_detections(sample.pred_instances)
    return found


def detectron2_detections(model: nn.Module, name: str) -> dict[int, Any]:
    """Image id -> finished detections, by Detectron2's own loader and our trainer's mapper."""
    from metaheads.hosts.detectron2.inference import to_detections
    from metaheads.hosts.detectron2.trainer import Trainer

    cfg = detectron2_config(name, ("DATALOADER.NUM_WORKERS", "0"))
    found = {}
    with torch.no_grad():
        for inputs in Trainer.build_test_loader(cfg, cfg.DATASETS.TEST[0]):
            for each, output in zip(inputs, model.eval()(inputs), strict=True):
                found[each["image_id"]] = to_detections(output["instances"])
    return found
