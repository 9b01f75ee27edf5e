"""Detectron2's LazyConfigs: Python files that describe objects, built by `instantiate`.

They have what Detectron2's own script for them expects: `model`, `dataloader.train`, `.test` and
`.evaluator`, `optimizer`, `lr_multiplier`, and `train` as in its `common/train.py`.
"""

from __future__ import annotations

import copy
import difflib
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import AMPTrainer, SimpleTrainer, TrainerBase, hooks
from detectron2.engine.defaults import default_writers
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils import comm
from detectron2.utils.registry import locate
from omegaconf import DictConfig

from metaheads.hosts.detectron2.checkpoint import Checkpointer
from metaheads.hosts.detectron2.trainer import (
    BEST_METRIC,
    KeepBest,
    Trainer,
    distribute,
    equalise_buffers,
)
from metaheads.options import check_parameter

if TYPE_CHECKING:
    from metaheads.commands.train import RunOptions

_SECTIONS = ("model", "dataloader", "optimizer", "lr_multiplier", "train")


def load_lazy_config(
    path: str | Path, overrides: list[tuple[str, str]], work_dir: str | None
) -> DictConfig:
    """The config with the user's options; its output folder as for a YAML config.

    Raises:
        KeyError: it lacks a section that a training needs, or an option that nothing takes.
    """
    cfg = LazyConfig.load(str(path))
    absent = [name for name in _SECTIONS if name not in cfg]
    if absent:
        raise KeyError(f"{path} has no {', '.join(absent)}: a LazyConfig to train has them")
    for key, _ in overrides:
        _check_key(cfg, key, path)
    cfg = LazyConfig.apply_overrides(cfg, [f"{key}={value}" for key, value in overrides])
    if work_dir:
        cfg.train.output_dir = work_dir
    elif cfg.train.get("output_dir", "./output") == "./output":
        cfg.train.output_dir = str(Path("work_dirs") / Path(path).stem)
    return cfg


def _check_key(cfg: DictConfig, key: str, path: str | Path) -> None:
    """Every part of a dotted key must exist, or be an argument of what `_target_` names."""
    section: Any = cfg
    for part in key.split("."):
        if not isinstance(section, DictConfig):  # an item of a list, or a value: OmegaConf knows
            return
        if part not in section:
            if "_target_" not in section:
                nearest = difflib.get_close_matches(part, [str(name) for name in section], n=1)
                hint = f"; did you mean {nearest[0]}?" if nearest else ""
                raise KeyError(f"{path} has no option {key}{hint}")
            target = section["_target_"]
            check_parameter(locate(target) if isinstance(target, str) else target, part)
            return
        section = section[part]


class LazyTrainer(Trainer):
    """Our trainer, made from a LazyConfig."""

    def __init__(self, cfg: DictConfig) -> None:
        TrainerBase.__init__(self)
        model = self.build_model(cfg)
        cfg.optimizer.params.model = model
        optimizer = instantiate(cfg.optimizer)
        loader = instantiate(cfg.dataloader.train)
        ddp_model = distribute(model, **cfg.train.get("ddp", {}))
        is_mixed = cfg.train.get("amp", {}).get("enabled", False)
        self._trainer = (AMPTrainer if is_mixed else SimpleTrainer)(ddp_model, loader, optimizer)
        self.checkpointer = Checkpointer(model, cfg.train.output_dir, trainer=weakref.proxy(self))
        self.start_iter, self.max_iter = 0, cfg.train.max_iter
        found = [
            hooks.IterationTimer(),
            hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            hooks.EvalHook(cfg.train.eval_period, lambda: self._evaluate(cfg, ddp_model)),
        ]
        if comm.is_main_process():
            writers = default_writers(cfg.train.output_dir, self.max_iter)
            saver = hooks.PeriodicCheckpointer(self.checkpointer, **cfg.train.checkpointer)
            found.insert(2, saver)  # before the evaluation, which may take long
            found.append(KeepBest(self.checkpointer, BEST_METRIC))
            found.append(hooks.PeriodicWriter(writers, period=cfg.train.log_period))
        self.register_hooks(found)

    def iterate(self) -> None:
        """DefaultTrainer's would ask a CfgNode for expected results."""
        TrainerBase.train(self, self.start_iter, self.max_iter)

    def reshuffle(self) -> None:
        """The loader is what its author wrote."""

    def _evaluate(self, cfg: DictConfig, model: torch.nn.Module) -> dict[str, Any]:
        self._last_eval_results = self.test(cfg, model)
        return self._last_eval_results

    @staticmethod
    def output_dir(cfg: DictConfig) -> str:
        return cfg.train.output_dir

    @staticmethod
    def initial_weights(cfg: DictConfig) -> str:
        return cfg.train.get("init_checkpoint", "")

    @staticmethod
    def with_flags(cfg: DictConfig, options: RunOptions) -> DictConfig:
        if options.flip or options.scales:
            raise ValueError("--flip and --scales: a LazyConfig's model has them as arguments")
        if options.auto_scale_lr:
            raise ValueError(
                "--auto-scale-lr: a LazyConfig does not say for which batch its rate is"
            )
        cfg = copy.deepcopy(cfg)
        if options.amp:
            cfg.train.amp = {"enabled": True}
        return cfg

    @classmethod
    def test_loaders(cls, cfg: DictConfig) -> list[Any]:
        return [instantiate(cfg.dataloader.test)]

    @classmethod
    def build_model(cls, cfg: DictConfig) -> torch.nn.Module:
        return instantiate(cfg.model).to(cfg.train.device)

    @classmethod
    def test(
        cls, cfg: DictConfig, model: torch.nn.Module, evaluators: Any = None
    ) -> dict[str, Any]:
        """The results of the config's evaluator; empty without one, and but in the first
        process."""
        if "evaluator" not in cfg.dataloader:
            return {}
        equalise_buffers(model)
        loader = instantiate(cfg.dataloader.test)
        results = inference_on_dataset(
            model, loader, evaluators or instantiate(cfg.dataloader.evaluator)
        )
        if comm.is_main_process():
            print_csv_format(results)
        return results or {}
