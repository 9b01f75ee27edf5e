"""Training and evaluation by MMEngine's Runner."""

from __future__ import annotations

import contextlib
import copy
import difflib
import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.multiprocessing
from mmdet.datasets import CocoDataset
from mmengine import registry as registries
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import Registry, init_default_scope
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from metaheads import weights
from metaheads.distributed import leave_process_group
from metaheads.errors import blaming, heard_from_processes, tell
from metaheads.hosts.mmdet.checkpoints import forget_checkpoints
from metaheads.hosts.mmdet.checkpoints import last_checkpoint as last_checkpoint  # a host has one
from metaheads.options import check_parameter

if TYPE_CHECKING:
    from metaheads.commands.train import RunOptions

RESUMABLE = ("meta", "optimizer", "message_hub")
WEIGHTS_OPTION = "load_from"
_RUNNER_OPTIONS = tuple(inspect.signature(Runner.__init__).parameters)[1:]


def load_config(path: Path, overrides: list[tuple[str, str]], *, work_dir: str | None) -> Config:
    """A config with the user's options merged in; work_dir defaults to work_dirs/<name>.

    Raises:
        KeyError: an option that nothing takes; names the nearest.
        TypeError: a text where a number or a switch stands.
        ValueError: no config of MMDetection.
    """
    cfg = Config.fromfile(path)
    if "model" not in cfg:
        raise ValueError(f"{path} is no config of MMDetection: it has no model")
    values = {key: DictAction._parse_iterable(value) for key, value in overrides}
    init_default_scope(cfg.get("default_scope", "mmdet"))
    merged = copy.deepcopy(cfg)
    for key, value in values.items():
        _check_key(cfg, key, value, path)
    merged.merge_from_dict(values)
    for key in values:
        _check_argument(cfg, merged, key)
    cfg = merged
    cfg.work_dir = work_dir or cfg.get("work_dir") or str(Path("work_dirs") / Path(path).stem)
    return cfg


def _check_key(cfg: Config, key: str, value: Any, path: Path) -> None:
    """Every part of a dotted key but the last must exist; a top-level one may also be an argument
    of MMEngine's Runner. A text does not stand where a number was."""
    section: Any = cfg
    parts = key.split(".")
    for depth, part in enumerate(parts):
        where = ".".join(parts[: depth + 1])
        if isinstance(section, list | tuple):
            if not part.isdecimal() or int(part) >= len(section):
                raise KeyError(
                    f"{path.name}: {'.'.join(parts[:depth])} is a list of {len(section)}: "
                    f"{where} needs a number from 0 to {len(section) - 1}"
                )
            section = section[int(part)]
            continue
        known = [*section, *(_RUNNER_OPTIONS if depth == 0 else ())]
        is_option = depth == len(parts) - 1 and depth > 0
        if part not in known and not is_option:
            nearest = difflib.get_close_matches(part, known, n=1, cutoff=0.4)
            hint = f"; did you mean {'.'.join([*parts[:depth], nearest[0]])}?" if nearest else ""
            raise KeyError(f"{path.name} has no option {where}{hint}")
        section = section.get(part, {})
    if isinstance(section, int | float) and isinstance(value, str):
        raise TypeError(
            f"option {key}: expected {type(section).__name__} as in {section}, got {value!r}"
        )


def _check_argument(cfg: Config, merged: Config, key: str) -> None:
    """A new last part of a dotted key is an argument of what its section's `type` names now."""
    *parts, name = key.split(".")
    before, section = (_section(each, parts) for each in (cfg, merged))
    if isinstance(section, dict) and name not in before and "type" in section:
        builder = _find_class(section["type"])
        if builder is not None:
            check_parameter(builder, name, ".".join([*parts, ""]))


def _section(cfg: Any, parts: list[str]) -> Any:
    for part in parts:
        cfg = cfg[int(part)] if isinstance(cfg, list | tuple) else cfg.get(part, {})
    return cfg


def _find_class(name: Any) -> Any:
    """What a `type` in a config means; None if no registry knows it."""
    if not isinstance(name, str):
        return name
    for registry in vars(registries).values():
        if isinstance(registry, Registry):
            with registry.switch_scope_and_registry(None) as scoped:
                found = scoped.get(name)
            if found is not None:
                return found
    return None


def coco_sources(cfg: Config, *, train: bool) -> list[dict[str, Any]]:
    """The COCO data sets of a config, as arguments of `check_coco`."""
    loaders = [cfg.train_dataloader, cfg.val_dataloader] if train else [cfg.test_dataloader]
    datasets = [dataset for loader in loaders if loader for dataset in _unwrap(loader.dataset)]
    return [
        {
            "annotation_file": Path(dataset.get("data_root") or "") / dataset.ann_file,
            "image_folder": Path(dataset.get("data_root") or "") / dataset.data_prefix.img,
            "class_names": class_names(dataset),
            "num_classes": _num_classes(cfg.model),
            "use_masks": _uses_masks(cfg),
        }
        for dataset in datasets
        if dataset.type in ("CocoDataset", "mmdet.CocoDataset", CocoDataset)
    ]


def class_names(dataset: ConfigDict) -> tuple[str, ...]:
    """The classes of a CocoDataset's config, by default COCO's."""
    metainfo = dataset.get("metainfo") or {}
    return tuple(metainfo.get("classes") or CocoDataset.METAINFO["classes"])


def _unwrap(dataset: ConfigDict) -> list[ConfigDict]:
    """The data sets within RepeatDataset, ConcatDataset and the like."""
    if "dataset" in dataset:
        return _unwrap(dataset.dataset)
    if "datasets" in dataset:
        return [inner for each in dataset.datasets for inner in _unwrap(each)]
    return [dataset]


def _uses_masks(cfg: Config) -> bool:
    """Whether the training loads masks."""
    datasets = _unwrap(cfg.train_dataloader.dataset) if cfg.get("train_dataloader") else []
    steps = [step for dataset in datasets for step in dataset.get("pipeline", [])]
    return any(step.get("with_mask") for step in steps)


def _num_classes(model: Any) -> int | None:
    """`num_classes` of our core or of the host's (box) head."""
    sections = [model.get("core"), model.get("bbox_head")]
    heads = model.get("roi_head", {}).get("bbox_head")
    sections += heads if isinstance(heads, list | tuple) else [heads]
    counts = (section.get("num_classes") for section in sections if isinstance(section, dict))
    return next((count for count in counts if isinstance(count, int)), None)


def output_dir(cfg: Config) -> Path:
    return Path(cfg.work_dir)


def initial_weights(cfg: Config) -> str | None:
    """The checkpoint that the config itself begins with."""
    return cfg.get("load_from")


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
    return json.loads(_results_file(cfg).read_text()) if options.machine_rank == 0 else {}


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
    if is_main_process():
        _results_file(cfg).unlink(missing_ok=True)
    kept = _KeepMetrics()
    with blaming(f"{cfg.filename}: MMDetection cannot build what this config says"):
        runner = _Runner.from_cfg(cfg)
        runner.options = options
        runner.register_hook(kept)
        runner.register_hook(_Forget())
        _build(runner, options)
    if options.eval_only:
        runner.test()
    else:
        runner.train()
        if not kept.metrics and runner.val_loop is not None:
            runner.val_loop.run()  # resumed from its last iteration: a kill came before this
    if not is_main_process():
        return {}
    _results_file(cfg).write_text(json.dumps(kept.metrics))
    return kept.metrics


def _build(runner: Runner, options: RunOptions) -> None:
    """Builds at once what MMEngine builds when it comes to it: what is wrong is told early."""
    if options.eval_only:
        _ = runner.test_loop
        return
    _ = runner.train_loop, runner.val_loop
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)


def _apply(cfg: Config, options: RunOptions) -> None:
    """Flags that are options of MMEngine's config, and what several processes need."""
    if options.resume_from:
        cfg.resume = True
    cfg.resume = cfg.get("resume", False) and not options.eval_only
    cfg.load_from = options.resume_from or options.checkpoint or cfg.get("load_from")
    if options.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.loss_scale = "dynamic"
    if options.auto_scale_lr:
        cfg.auto_scale_lr = dict(cfg.get("auto_scale_lr") or {}, enable=True)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        cfg.launcher = "pytorch"
        if not torch.cuda.is_available():
            # DDP refuses device ids for a module on the CPU.
            wrapper = dict(type="MMDistributedDataParallel", device_ids=None)
            cfg.model_wrapper_cfg = dict(wrapper, broadcast_buffers=False)


class _Runner(Runner):
    """MMEngine's, with another way of loading checkpoints.

    It leaves it to torch how a file is read, which could run code before torch 2.6, and takes what
    fits. Here a training goes on, and an evaluation runs, only with all of a checkpoint, which may
    be of either host. What a config itself names in `load_from` for a training is MMEngine's
    business.
    """

    options: RunOptions

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> Any:
        model = self.model.module if is_model_wrapper(self.model) else self.model
        is_local = self.options.eval_only and Path(filename).is_file()
        if not self._resume and (filename == self.options.checkpoint or is_local):
            state = weights.read_checkpoint(filename, trust=self.options.trust_checkpoint)
            renew = self.options.reinitialise_classes
            coverage = weights.load_into(model, state, reinitialise_classes=renew)
            self.logger.info(f"{filename}: {coverage.summary()}")
            checkpoint = {"state_dict": model.state_dict()}
            self.call_hook("after_load_checkpoint", checkpoint=checkpoint)  # EMAHook has a copy
            return checkpoint
        with _safe_loading(trust=self.options.trust_checkpoint):
            checkpoint = super().load_checkpoint(filename, *args, **kwargs)
        if self._resume:
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
    """When a new training really begins, a later resume must not find the one before it."""

    def before_train(self, runner: Runner) -> None:
        if runner.iter == 0 and is_main_process():
            forget_checkpoints(runner.work_dir)


class _KeepMetrics(Hook):
    """Remembers the metrics of the last evaluation."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.metrics = {name: float(value) for name, value in (metrics or {}).items()}

    after_test_epoch = after_val_epoch
