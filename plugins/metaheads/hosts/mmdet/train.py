"""Training and evaluation by MMEngine's Runner."""

from __future__ import annotations

import contextlib
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
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from metaheads import weights
from metaheads.distributed import leave_process_group
from metaheads.hosts.mmdet.checkpoints import forget_checkpoints
from metaheads.hosts.mmdet.checkpoints import last_checkpoint as last_checkpoint  # a host has one

if TYPE_CHECKING:
    from metaheads.commands.train import RunOptions

RESUMABLE = ("meta", "optimizer", "message_hub")
WEIGHTS_OPTION = "load_from"
_RUNNER_OPTIONS = tuple(inspect.signature(Runner.__init__).parameters)[1:]


def load_config(path: Path, overrides: list[tuple[str, str]], *, work_dir: str | None) -> Config:
    """A config with the user's options merged in; work_dir defaults to work_dirs/<name>.

    Raises:
        KeyError: an option whose section the config does not have; names the nearest.
    """
    cfg = Config.fromfile(path)
    values = {key: DictAction._parse_iterable(value) for key, value in overrides}
    for key in values:
        _check_key(cfg, key, path)
    cfg.merge_from_dict(values)
    cfg.work_dir = work_dir or cfg.get("work_dir") or str(Path("work_dirs") / Path(path).stem)
    return cfg


def _check_key(cfg: Config, key: str, path: Path) -> None:
    """Every part of a dotted key but the last must exist; a top-level one may also be an argument
    of MMEngine's Runner."""
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
    torch.multiprocessing.start_processes(
        _spawned, (cfg, options, url), nprocs=options.num_gpus, start_method="spawn"
    )
    return json.loads(_results_file(cfg).read_text()) if options.machine_rank == 0 else {}


def _results_file(cfg: Config) -> Path:
    return output_dir(cfg) / "results.json"


def _dist_url(options: RunOptions) -> str:
    if options.dist_url != "auto":
        return options.dist_url
    if options.num_machines > 1:
        raise ValueError("--dist-url tcp://host:port is needed for more than one machine")
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def _spawned(local_rank: int, cfg: Config, options: RunOptions, url: str) -> None:
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
    runner = _Runner.from_cfg(cfg)
    runner.trust_checkpoint = options.trust_checkpoint
    if cfg.resume:
        runner.register_hook(_CheckResumed())
    elif options.checkpoint:
        state = weights.read_checkpoint(options.checkpoint, trust=options.trust_checkpoint)
        runner.register_hook(_LoadWeights(state, options.reinitialise_classes))
    kept = _KeepMetrics()
    runner.register_hook(kept)
    if options.eval_only:
        runner.test()
    else:
        if not cfg.resume and is_main_process():
            forget_checkpoints(cfg.work_dir)
        runner.train()
        if not kept.metrics and runner.val_loop is not None:
            runner.val_loop.run()  # resumed from its last iteration: a kill came before this
    if not is_main_process():
        return {}
    _results_file(cfg).write_text(json.dumps(kept.metrics))
    return kept.metrics


def _apply(cfg: Config, options: RunOptions) -> None:
    """Flags that are options of MMEngine's config, and what several processes need."""
    if options.resume_from:
        cfg.resume, cfg.load_from = True, options.resume_from
    cfg.resume = cfg.get("resume", False) and not options.eval_only
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
    """MMEngine's, which leaves it to torch how checkpoints are read: before 2.6 they could run
    code."""

    trust_checkpoint = False

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        rule = "NO_WEIGHTS_ONLY" if self.trust_checkpoint else "WEIGHTS_ONLY"
        with _environment(f"TORCH_FORCE_{rule}_LOAD", "1"):
            return super().load_checkpoint(*args, **kwargs)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


class _CheckResumed(Hook):
    """Refuses to go on from a checkpoint of another model; MMEngine would only log it."""

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        weights.load_into(_model(runner), checkpoint["state_dict"])


class _LoadWeights(Hook):
    """Puts weights of either host into the model, after MMEngine has initialised it."""

    def __init__(self, state: dict, reinitialise_classes: bool) -> None:
        self._state, self._reinitialise = state, reinitialise_classes

    def before_train(self, runner: Runner) -> None:
        coverage = weights.load_into(
            _model(runner), self._state, reinitialise_classes=self._reinitialise
        )
        runner.logger.info(coverage.summary())

    before_test = before_train


def _model(runner: Runner) -> torch.nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


class _KeepMetrics(Hook):
    """Remembers the metrics of the last evaluation."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.metrics = {name: float(value) for name, value in (metrics or {}).items()}

    after_test_epoch = after_val_epoch
