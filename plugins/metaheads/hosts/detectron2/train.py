"""Training and evaluation in Detectron2, for the command `metaheads train` and for Python."""

from __future__ import annotations

import argparse
import copy
import difflib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from detectron2 import modeling
from detectron2.config import CfgNode, get_cfg, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_setup, launch
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from metaheads import weights
from metaheads.distributed import leave_process_group
from metaheads.hosts.detectron2 import backbones, models  # noqa: F401 - registers our names
from metaheads.hosts.detectron2.checkpoint import Checkpointer, write_atomically
from metaheads.hosts.detectron2.config import add_metaheads_config
from metaheads.hosts.detectron2.datasets import listed_classes, num_classes, register_datasets
from metaheads.hosts.detectron2.lazy import LazyTrainer, evaluate, load_lazy_config
from metaheads.hosts.detectron2.trainer import Trainer

if TYPE_CHECKING:
    from metaheads.commands.train import RunOptions


Cfg = CfgNode | DictConfig


def load_config(
    path: str | Path, overrides: list[tuple[str, str]] | None = None, *, work_dir: str | None = None
) -> Cfg:
    """Detectron2's defaults, ours, the file and the user's options; of a .py the LazyConfig.

    The output folder is what the user or the file says, or else work_dirs/<name of the file>.

    Raises:
        KeyError, TypeError: an option that does not exist or of a wrong type; names the nearest.
    """
    if Path(path).suffix == ".py":
        return load_lazy_config(path, overrides or [], work_dir)
    cfg = get_cfg()
    add_metaheads_config(cfg)
    default = cfg.OUTPUT_DIR
    cfg.merge_from_file(str(path))
    cfg.merge_from_list([word for pair in overrides or [] for word in pair])
    if work_dir:
        cfg.OUTPUT_DIR = work_dir
    elif default == cfg.OUTPUT_DIR:
        cfg.OUTPUT_DIR = str(Path("work_dirs") / Path(path).stem)
    return cfg


def coco_sources(cfg: Cfg, *, train: bool) -> list[dict[str, Any]]:
    """The COCO data sets of a config, as arguments of `check_coco`; none of a LazyConfig.

    Raises:
        KeyError: a name in DATASETS that is not registered; names the nearest.
    """
    if isinstance(cfg, DictConfig):
        return []  # its data loader is what its author wrote
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST] if train else [*cfg.DATASETS.TEST]
    sources: list[dict[str, Any]] = []
    classes = None  # of the first file: the others must number theirs alike
    for name in names:
        if name not in DatasetCatalog.list():
            nearest = difflib.get_close_matches(name, DatasetCatalog.list(), n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise KeyError(f"no data set {name!r}: enter it in DATASETS.REGISTER{hint}")
        metadata = MetadataCatalog.get(name)
        if metadata.get("json_file") and metadata.get("evaluator_type") == "coco":
            if classes is None and sources:
                classes = listed_classes(sources[0]["annotation_file"])
            sources.append(
                {
                    "annotation_file": Path(metadata.json_file),
                    "image_folder": Path(metadata.image_root),
                    "class_names": classes,
                    "num_classes": num_classes(cfg),
                    "use_masks": cfg.MODEL.MASK_ON,
                }
            )
    return sources


def last_checkpoint(work_dir: Path) -> Path | None:
    """The checkpoint that a folder's training would resume from."""
    tag = Path(work_dir) / "last_checkpoint"
    return Path(work_dir) / Path(tag.read_text().strip()).name if tag.is_file() else None


def run(cfg: Cfg, options: RunOptions) -> dict[str, float]:
    """Trains or evaluates, in as many processes as asked for.

    Returns:
        The last metrics ("segm/AP": ... in percent); empty on all machines but the first.
    """
    if options.launcher == "pytorch":
        return _run_under_torchrun(cfg, options)
    if options.num_gpus * options.num_machines == 1:
        return _run(cfg, options)
    if options.num_machines > 1 and options.dist_url == "auto":
        raise ValueError("--dist-url tcp://host:port is needed for more than one machine")
    launch(
        _run_and_leave,
        options.num_gpus,
        num_machines=options.num_machines,
        machine_rank=options.machine_rank,
        dist_url=options.dist_url,
        args=(cfg, options),
    )
    return json.loads(_results_file(cfg).read_text()) if options.machine_rank == 0 else {}


def build_model(
    cfg: CfgNode, checkpoint: str | Path | None = None, *, trust_checkpoint: bool = False
) -> torch.nn.Module:
    """The model of a config in evaluation mode, with a checkpoint of either host, strictly loaded.

    Without a checkpoint MODEL.WEIGHTS counts, loaded as Detectron2 does.
    """
    model = modeling.build_model(cfg)
    if checkpoint is not None:
        weights.load_into(model, weights.read_checkpoint(checkpoint, trust=trust_checkpoint))
    else:
        Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    return model.eval()


def _run_under_torchrun(cfg: Cfg, options: RunOptions) -> dict[str, float]:
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    return _run_and_leave(cfg, options)


def _run_and_leave(cfg: Cfg, options: RunOptions) -> dict[str, float]:
    metrics = _run(cfg, options)
    leave_process_group()
    return metrics


def _run(cfg: Cfg, options: RunOptions) -> dict[str, float]:
    if not torch.cuda.is_available():  # processes on one machine share its cores
        torch.set_num_threads(max(torch.get_num_threads() // comm.get_local_size(), 1))
    if isinstance(cfg, CfgNode):
        register_datasets(cfg)  # a spawned process has its own catalog
    cfg = _apply(cfg, options)
    default_setup(cfg, argparse.Namespace(eval_only=options.eval_only))
    setup_logger(_output_dir(cfg), distributed_rank=comm.get_rank(), name="metaheads")
    results = _evaluate(cfg, options) if options.eval_only else _train(cfg, options)
    if not comm.is_main_process():
        return {}
    metrics = {name: float(value) for name, value in flatten_results_dict(results).items()}
    write_atomically(_results_file(cfg), lambda file: file.write(json.dumps(metrics).encode()))
    return metrics


def _train(cfg: Cfg, options: RunOptions) -> dict[str, Any]:
    is_lazy = isinstance(cfg, DictConfig)
    trainer = LazyTrainer(cfg) if is_lazy else Trainer(cfg)
    resume_from = options.resume_from
    if options.resume and not resume_from:
        resume_from = trainer.checkpointer.get_checkpoint_file()
    if resume_from:
        trainer.resume(str(resume_from))
        return trainer.train()
    trainer.checkpointer.forget()
    if options.checkpoint:
        _load_weights(trainer.checkpointer.model, options.checkpoint, options)
    else:
        trainer.checkpointer.load(_weights(cfg), checkpointables=[])
    return trainer.train()


def _evaluate(cfg: Cfg, options: RunOptions) -> dict[str, Any]:
    if isinstance(cfg, DictConfig):
        model = instantiate(cfg.model).to(cfg.train.device)
    else:
        model = modeling.build_model(cfg)
    checkpointer = Checkpointer(model, _output_dir(cfg))
    resume_from = options.resume_from
    if options.resume and not resume_from:
        resume_from = checkpointer.get_checkpoint_file()
    checkpoint = options.checkpoint or resume_from
    if checkpoint:
        _load_weights(model, checkpoint, options)
    elif _weights(cfg).endswith(".pkl"):  # of Detectron2's model zoo
        checkpointer.load(_weights(cfg), checkpointables=[])
    elif _weights(cfg):
        checkpointer.load_strictly(_weights(cfg), checkpointables=[])
    else:
        raise ValueError(
            "nothing to evaluate: give --checkpoint, --resume or MODEL.WEIGHTS "
            "(LazyConfig: train.init_checkpoint)"
        )
    return evaluate(cfg, model) if isinstance(cfg, DictConfig) else Trainer.test(cfg, model)


def _load_weights(model: torch.nn.Module, checkpoint: str | Path, options: RunOptions) -> None:
    state = weights.read_checkpoint(checkpoint, trust=options.trust_checkpoint)
    coverage = weights.load_into(model, state, reinitialise_classes=options.reinitialise_classes)
    logging.getLogger("metaheads").info(f"{checkpoint}: {coverage.summary()}")


def _apply(cfg: Cfg, options: RunOptions) -> Cfg:
    """Flags that are options of Detectron2's config."""
    if options.amp and not torch.cuda.is_available():
        raise ValueError("--amp: Detectron2 trains in mixed precision on GPUs only; leave it out")
    if isinstance(cfg, DictConfig):
        if options.auto_scale_lr:
            raise ValueError(
                "--auto-scale-lr: a LazyConfig does not say for which batch its rate is"
            )
        cfg = copy.deepcopy(cfg)
        if options.amp:
            cfg.train.amp = {"enabled": True}
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.AMP.ENABLED |= options.amp
    if options.auto_scale_lr:
        reference = cfg.SOLVER.REFERENCE_BATCH_SIZE
        if reference < 1:
            raise ValueError(
                "--auto-scale-lr needs SOLVER.REFERENCE_BATCH_SIZE, the batch of BASE_LR"
            )
        cfg.SOLVER.BASE_LR *= cfg.SOLVER.IMS_PER_BATCH / reference
        cfg.SOLVER.BASE_LR_END *= cfg.SOLVER.IMS_PER_BATCH / reference
    cfg.freeze()
    return cfg


def _results_file(cfg: Cfg) -> Path:
    return Path(_output_dir(cfg)) / "results.json"


def _output_dir(cfg: Cfg) -> str:
    return cfg.train.output_dir if isinstance(cfg, DictConfig) else cfg.OUTPUT_DIR


def _weights(cfg: Cfg) -> str:
    if isinstance(cfg, DictConfig):
        return cfg.train.get("init_checkpoint", "")
    return cfg.MODEL.WEIGHTS
