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
from metaheads.hosts.mmdet.checkpoints import find_latest_checkpoint, forget_checkpoints

if TYPE_CHECKING:
    from metaheads.commands.train import RunOptions

_RUNNER_OPTIONS = tuple(inspect.signature(Runner.__init__).parameters)[1:]
_RESUMABLE = ("meta", "optimizer", "message_hub")


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


def last_checkpoint(work_dir: Path) -> Path | None:
    """The checkpoint of a work directory with the most training steps."""
    return find_latest_checkpoint(work_dir)


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
    return Path(cfg.work_dir) / "results.json"


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
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        cfg.launcher = "pytorch"
        if not torch.cuda.is_available():
            # DDP refuses device ids for a module on the CPU.
            wrapper = dict(type="MMDistributedDataParallel", device_ids=None)
            cfg.model_wrapper_cfg = dict(wrapper, broadcast_buffers=False)
    _apply(cfg, options)
    checkpoint = options.checkpoint
    resume_from = options.resume_from
    if options.resume and not resume_from:
        resume_from = find_latest_checkpoint(cfg.work_dir)
    if options.eval_only:
        checkpoint = checkpoint or resume_from
        if not (checkpoint or cfg.get("load_from")):
            raise ValueError("nothing to evaluate: give --checkpoint, --resume or load_from")
    elif resume_from:
        _set_resume(cfg, str(resume_from), options.trust_checkpoint)
    runner = Runner.from_cfg(cfg)
    if cfg.resume:
        runner.register_hook(_CheckResumed())
    elif checkpoint:
        state = weights.read_checkpoint(checkpoint, trust=options.trust_checkpoint)
        runner.register_hook(_LoadWeights(state, options.reinitialise_classes))
    kept = _KeepMetrics()
    runner.register_hook(kept)
    if options.eval_only:
        runner.test()
    else:
        if not cfg.resume and is_main_process():
            forget_checkpoints(cfg.work_dir)
        with _reading(trust=options.trust_checkpoint):
            runner.train()
        if not kept.metrics and runner.val_loop is not None:
            runner.val_loop.run()  # resumed from its last iteration: a kill came before this
    if not is_main_process():
        return {}
    _results_file(cfg).write_text(json.dumps(kept.metrics))
    return kept.metrics


def _set_resume(cfg: Config, checkpoint: str, trust: bool) -> None:
    """Lets MMEngine go on from a checkpoint.

    Raises:
        ValueError: it is not whole, needs code to be read, or holds only weights.
    """
    weights.check_resumable(checkpoint, _RESUMABLE, trust=trust)
    cfg.resume, cfg.load_from = True, checkpoint


@contextlib.contextmanager
def _reading(*, trust: bool) -> Iterator[None]:
    """How MMEngine, which leaves it to torch, reads checkpoints: before 2.6 they could run code."""
    rule = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" if trust else "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(rule)
    os.environ[rule] = "1"
    try:
        yield
    finally:
        del os.environ[rule]
        if before is not None:
            os.environ[rule] = before


def _apply(cfg: Config, options: RunOptions) -> None:
    """Flags that are options of MMEngine's config."""
    cfg.resume = False
    if options.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.loss_scale = "dynamic"
    if options.auto_scale_lr:
        cfg.auto_scale_lr = dict(cfg.get("auto_scale_lr") or {}, enable=True)


class _CheckResumed(Hook):
    """Refuses to go on from a checkpoint of another model; MMEngine would only log it."""

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        weights.load_into(model, checkpoint["state_dict"])


class _LoadWeights(Hook):
    """Puts weights of either host into the model, after MMEngine has initialised it."""

    def __init__(self, state: dict, reinitialise_classes: bool) -> None:
        self._state, self._reinitialise = state, reinitialise_classes

    def before_train(self, runner: Runner) -> None:
        if runner.iter == 0:  # a resumed run has its own weights
            self._load(runner)

    def before_test(self, runner: Runner) -> None:
        self._load(runner)

    def _load(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        coverage = weights.load_into(model, self._state, reinitialise_classes=self._reinitialise)
        runner.logger.info(coverage.summary())


class _KeepMetrics(Hook):
    """Remembers the metrics of the last evaluation."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.metrics = {name: float(value) for name, value in (metrics or {}).items()}

    after_test_epoch = after_val_epoch
