"""Training and evaluation by MMEngine's Runner.

With `load_config`, `coco_sources` and `last_checkpoint` this is what `metaheads train` needs of a
host; hosts/detectron2/train.py has the same names.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.multiprocessing
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings
from torch import nn

from metaheads import weights
from metaheads.checks import check_training
from metaheads.distributed import leave_process_group
from metaheads.errors import blaming, heard_from_processes, tell
from metaheads.hosts.mmdet.checkpoints import forget_checkpoints
from metaheads.hosts.mmdet.checkpoints import last_checkpoint as last_checkpoint
from metaheads.hosts.mmdet.config import apply_views
from metaheads.hosts.mmdet.config import coco_sources as coco_sources
from metaheads.hosts.mmdet.config import load_config as load_config
from metaheads.weights.files import of_file, read_results, write_results

if TYPE_CHECKING:
    from metaheads.commands.train import RunOptions

RESUMABLE = ("meta", "optimizer", "message_hub")
WEIGHTS_OPTION = "load_from"


def output_dir(cfg: Config) -> Path:
    return Path(cfg.work_dir)


def initial_weights(cfg: Config) -> str | None:
    """The checkpoint that the config itself begins with."""
    return cfg.get("load_from")


def dry_run(cfg: Config, options: RunOptions) -> dict[str, float]:
    """The losses of one batch, which went backward, and the detections in one evaluated batch."""
    with blaming(f"{cfg.filename}: MMDetection cannot build what this config says"):
        runner = Runner.from_cfg(cfg)
        model = runner.model
        train, val = (runner.build_dataloader(cfg[f"{x}_dataloader"]) for x in ("train", "val"))
        runner.build_optim_wrapper(runner.optim_wrapper)
        evaluator = runner.build_evaluator(cfg.val_evaluator)
    _check_evaluation(model, evaluator)
    check_training(model)
    if options.checkpoint:
        state = weights.read_checkpoint(options.checkpoint, trust=options.trust_checkpoint)
        with of_file(options.checkpoint):
            weights.load_into(model, state, reinitialise_classes=options.reinitialise_classes)
    data = model.train().data_preprocessor(next(iter(train)), training=True)
    loss, terms = model.parse_losses(model(**data, mode="loss"))
    loss.backward()
    with torch.no_grad():
        found = model.eval().val_step(next(iter(val)))
    counts = sum(len(each.get("pred_instances", ())) for each in found)
    return {**{name: each.item() for name, each in terms.items()}, "detections": counts}


def run(cfg: Config, options: RunOptions) -> dict[str, float]:
    """Trains or evaluates; returns the last metrics (on all machines but the first: none)."""
    if options.num_gpus * options.num_machines == 1 or options.launcher == "pytorch":
        metrics = _run(cfg, options)
        leave_process_group()
        return metrics
    url = _dist_url(options)
    with heard_from_processes() as messages:
        torch.multiprocessing.start_processes(
            _spawned, (messages, cfg, options, url), nprocs=options.num_gpus, start_method="spawn"
        )
    return read_results(_results_file(cfg)) if options.machine_rank == 0 else {}


def _results_file(cfg: Config) -> Path:
    return output_dir(cfg) / "results.json"


def _dist_url(options: RunOptions) -> str:
    if options.dist_url != "auto":
        return options.dist_url
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def _spawned(local_rank: int, messages: Any, *args: Any) -> None:
    tell(messages, _run_one, local_rank, *args)


def _run_one(local_rank: int, cfg: Config, options: RunOptions, url: str) -> None:
    rank = options.machine_rank * options.num_gpus + local_rank
    world_size = options.num_gpus * options.num_machines
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(local_rank), WORLD_SIZE=str(world_size))
    if "custom_imports" in cfg:  # Config.fromfile imports them, in the first process only
        import_modules_from_strings(**cfg.custom_imports)
    _init_process_group(init_method=url, rank=rank, world_size=world_size)
    _run(cfg, options)
    leave_process_group()


def _init_process_group(**kwargs: Any) -> None:
    """Before MMEngine does: its own initialisation asks for a GPU even with gloo."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend, **kwargs)


def _run(cfg: Config, options: RunOptions) -> dict[str, float]:
    if options.launcher == "pytorch" and not torch.distributed.is_initialized():
        _init_process_group()
    _apply(cfg, options)
    kept = _KeepMetrics()
    with blaming(f"{cfg.filename}: MMDetection cannot build what this config says"):
        runner = _Runner.from_cfg(cfg)
        runner.options = options
        runner.register_hook(kept)
        runner.register_hook(_Forget(_results_file(cfg)))
        _build(runner, options)
    if options.eval_only:
        runner.test()
    else:
        runner.train()
        if not kept.metrics and runner.val_loop is not None:
            runner.val_loop.run()  # resumed from its last iteration: a kill came before this
    if not is_main_process():
        return {}
    write_results(_results_file(cfg), kept.metrics)
    return kept.metrics


def _build(runner: Runner, options: RunOptions) -> None:
    """Builds at once what MMEngine builds when it comes to it: what is wrong is told early."""
    model = _unwrapped(runner.model)
    if options.eval_only:
        _check_evaluation(model, runner.test_loop.evaluator)
        return
    check_training(model)
    if runner.val_loop is not None:
        _check_evaluation(model, runner.val_loop.evaluator)
    _ = runner.train_loop
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)


def _check_evaluation(model: nn.Module, evaluator: Evaluator) -> None:
    """Raises ValueError where a metric of ours measures what the model does not give."""
    for metric in evaluator.metrics:
        if hasattr(metric, "check_model"):
            metric.check_model(model)


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, within what MMEngine wraps it in."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _apply(cfg: Config, options: RunOptions) -> None:
    """Flags that are options of MMEngine's config, and what several processes need."""
    apply_views(cfg, flip=options.flip, scales=options.scales)
    if options.resume_from:
        cfg.resume = True
    cfg.resume = cfg.get("resume", False) and not options.eval_only
    cfg.load_from = options.resume_from or options.checkpoint or cfg.get("load_from")
    if options.early_stopping:
        stop = dict(type="EarlyStoppingHook", rule="greater", min_delta=1e-6)  # equal: no better
        best = cfg.default_hooks.checkpoint.get("save_best")
        stop["monitor"] = best if isinstance(best, str) and best != "auto" else "coco/segm_mAP"
        stop["patience"] = options.early_stopping
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), stop]
    if options.track:
        visualizer = dict(cfg.get("visualizer") or dict(type="DetLocalVisualizer"))
        visualizer.pop("name", None)  # MMEngine would take an older one of this name instead
        backends = visualizer.get("vis_backends") or [dict(type="LocalVisBackend")]
        tracker = _tracker(options.track, output_dir(cfg).absolute())
        cfg.visualizer = dict(visualizer, vis_backends=[*backends, tracker])
    if options.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.loss_scale = "dynamic"
    if options.auto_scale_lr:
        if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
            raise ValueError(
                "--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config: the "
                "batch that its learning rate is for"
            )
        cfg.auto_scale_lr = dict(cfg.get("auto_scale_lr") or {}, enable=True)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        cfg.launcher = "pytorch"
        if not torch.cuda.is_available():
            # DDP refuses device ids for a module on the CPU.
            wrapper = dict(type="MMDistributedDataParallel", device_ids=None)
            cfg.model_wrapper_cfg = dict(wrapper, broadcast_buffers=False)


def _tracker(name: str, folder: Path) -> dict[str, Any]:
    """MMEngine's own back end, which overlooks the variables of MLflow."""
    if name == "wandb":
        return dict(type="WandbVisBackend", init_kwargs=dict(name=folder.name))
    import mlflow

    return dict(
        type="MLflowVisBackend",
        run_name=folder.name,
        exp_name=os.environ.get("MLFLOW_EXPERIMENT_NAME"),
        tracking_uri=mlflow.get_tracking_uri(),
    )


class _Runner(Runner):
    """MMEngine's, with another way of loading checkpoints.

    It leaves it to torch how a file is read, which could run code before torch 2.6, and takes what
    fits. Here a training goes on, and an evaluation runs, only with all of a checkpoint, which may
    be of either host. What a config itself names in `load_from` for a training is MMEngine's
    business.
    """

    options: RunOptions

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> Any:
        model = _unwrapped(self.model)
        is_local = self.options.eval_only and Path(filename).is_file()
        if not self._resume and (filename == self.options.checkpoint or is_local):
            state = weights.read_checkpoint(filename, trust=self.options.trust_checkpoint)
            renew = self.options.reinitialise_classes
            with of_file(filename):
                coverage = weights.load_into(model, state, reinitialise_classes=renew)
            self.logger.info(f"{filename}: {coverage.summary()}")
            checkpoint = {"state_dict": model.state_dict()}
            self.call_hook("after_load_checkpoint", checkpoint=checkpoint)  # EMAHook has a copy
            return checkpoint
        with _safe_loading(trust=self.options.trust_checkpoint):
            checkpoint = super().load_checkpoint(filename, *args, **kwargs)
        if self._resume:
            with of_file(filename):
                weights.load_into(model, checkpoint["state_dict"])
        return checkpoint


@contextlib.contextmanager
def _safe_loading(*, trust: bool) -> Iterator[None]:
    """Whether torch.load may run code, for who does not say it."""
    names = ("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ[names[0 if trust else 1]] = "1"
    try:
        yield
    finally:
        del os.environ[names[0 if trust else 1]]
        os.environ.update(before)


class _Forget(Hook):
    """When a run really begins, nobody may take the results of the one before it for its own, nor
    a new training be resumed into the old one."""

    def __init__(self, results: Path) -> None:
        self._results = results

    def before_train(self, runner: Runner) -> None:
        self.before_test(runner)
        if runner.iter == 0 and is_main_process():
            forget_checkpoints(runner.work_dir)

    def before_test(self, runner: Runner) -> None:
        if is_main_process():
            self._results.unlink(missing_ok=True)


class _KeepMetrics(Hook):
    """Remembers the metrics of the last evaluation."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.metrics = {name: float(value) for name, value in (metrics or {}).items()}

    after_test_epoch = after_val_epoch
