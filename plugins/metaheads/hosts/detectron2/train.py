"""Training and evaluation in Detectron2, for the command `metaheads train` and for Python."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from detectron2 import modeling
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.engine import default_setup, launch
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from metaheads import weights
from metaheads.checks import check_points, check_training
from metaheads.distributed import leave_process_group
from metaheads.errors import blaming, heard_from_processes, tell
from metaheads.hosts.detectron2 import backbones, models  # noqa: F401 - registers our names
from metaheads.hosts.detectron2.checkpoint import Checkpointer
from metaheads.hosts.detectron2.config import add_metaheads_config
from metaheads.hosts.detectron2.datasets import (
    mesh_file,
    num_classes,
    num_keypoints,
    register_datasets,
)
from metaheads.hosts.detectron2.lazy import LazyTrainer, load_lazy_config
from metaheads.hosts.detectron2.panoptic_data import PANOPTIC
from metaheads.hosts.detectron2.tracking import TrackingWriter
from metaheads.hosts.detectron2.trainer import Trainer
from metaheads.weights.files import of_file, read_results, write_results

if TYPE_CHECKING:
    from metaheads.commands.train import RunOptions

RESUMABLE = ("trainer",)
WEIGHTS_OPTION = "MODEL.WEIGHTS, of a LazyConfig train.init_checkpoint"
Cfg = CfgNode | DictConfig
_CANNOT_BUILD = "Detectron2 cannot build what the config says"


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
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture not in modeling.META_ARCH_REGISTRY:
        known = [name for name, _ in modeling.META_ARCH_REGISTRY]
        nearest = difflib.get_close_matches(architecture, known, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
        raise KeyError(f"MODEL.META_ARCHITECTURE: there is no {architecture!r}; {hint}")
    if work_dir:
        cfg.OUTPUT_DIR = work_dir
    elif default == cfg.OUTPUT_DIR:
        cfg.OUTPUT_DIR = str(Path("work_dirs") / Path(path).stem)
    return cfg


def coco_sources(cfg: Cfg, *, train: bool) -> list[dict[str, Any]]:
    """The COCO data sets of a config, as arguments of `check_coco` or `check_panoptic_data`.

    None of a LazyConfig.

    Raises:
        KeyError: a name in DATASETS that is not registered; names the nearest.
    """
    if isinstance(cfg, DictConfig):
        return []  # its data loader is what its author wrote
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST] if train else [*cfg.DATASETS.TEST]
    sources: list[dict[str, Any]] = []
    for name in names:
        if name not in DatasetCatalog.list():
            nearest = difflib.get_close_matches(name, DatasetCatalog.list(), n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise KeyError(
                f"no data set {name!r}: enter it in DATASETS.REGISTER or REGISTER_PANOPTIC{hint}"
            )
        metadata = MetadataCatalog.get(name)
        if metadata.get("json_file") and metadata.get("evaluator_type") == "coco":
            sources.append(
                {
                    "annotation_file": Path(metadata.json_file),
                    "image_folder": Path(metadata.image_root),
                    "num_classes": num_classes(cfg),
                    "use_masks": cfg.MODEL.MASK_ON,
                    "num_keypoints": num_keypoints(cfg),
                    "mesh_file": mesh_file(cfg),
                }
            )
        if metadata.get("evaluator_type") == PANOPTIC:
            sources.append(_panoptic_source(cfg, metadata))
    return sources


def _panoptic_source(cfg: CfgNode, metadata: Metadata) -> dict[str, Any]:
    is_theirs = cfg.MODEL.META_ARCHITECTURE == "PanopticFPN"
    counts = cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES - 1
    if not is_theirs:
        ours = cfg.MODEL.get(cfg.MODEL.META_ARCHITECTURE.upper(), {})
        counts = ours.get("NUM_THINGS"), ours.get("NUM_STUFF")
    return {
        "annotation_file": Path(metadata.panoptic_json),
        "png_folder": Path(metadata.panoptic_root),
        "image_folder": Path(metadata.image_root),
        "num_things": counts[0],
        "num_stuff": counts[1],
        "num_classes": None if is_theirs else ours.get("NUM_CLASSES"),
    }


def output_dir(cfg: Cfg) -> Path:
    return Path(_trainer(cfg).output_dir(cfg))


def initial_weights(cfg: Cfg) -> str:
    """The weights that the config itself begins with; "" for none."""
    return _trainer(cfg).initial_weights(cfg)


def last_checkpoint(work_dir: Path) -> Path | None:
    """The checkpoint that a folder's training would resume from."""
    tag = Path(work_dir) / "last_checkpoint"
    return Path(work_dir) / Path(tag.read_text().strip()).name if tag.is_file() else None


def dry_run(cfg: Cfg, options: RunOptions) -> dict[str, float]:
    """The losses of one batch, which went backward, and the detections in one evaluated batch."""
    with blaming(_CANNOT_BUILD):
        trainer = _trainer(cfg)(cfg)
        batch = next(iter(trainer._trainer.data_loader))
        evaluated = next(iter(_trainer(cfg).test_loaders(cfg)))
    model = trainer._trainer.model
    _check_evaluation(cfg, model)
    check_training(model)
    if options.checkpoint:
        _load_weights(model, options.checkpoint, options)
    with EventStorage():  # Detectron2's own heads log into it
        terms = model(batch)
    loss = sum(terms.values())
    loss.backward()
    with torch.no_grad():
        found = model.eval()(next(iter(evaluated)))
    counts = sum(len(each.get("instances", ())) for each in found)
    losses = {"loss": loss.item(), **{name: each.item() for name, each in terms.items()}}
    return {**losses, "detections": counts}


def run(cfg: Cfg, options: RunOptions) -> dict[str, float]:
    """Trains or evaluates, in as many processes as asked for.

    Returns:
        The last metrics ("segm/AP": ... in percent); empty on all machines but the first.
    """
    if options.launcher == "pytorch":
        return _run_under_torchrun(cfg, options)
    if options.num_gpus * options.num_machines == 1:
        return _run(cfg, options)
    with heard_from_processes() as messages:
        launch(
            tell,
            options.num_gpus,
            num_machines=options.num_machines,
            machine_rank=options.machine_rank,
            dist_url=options.dist_url,
            args=(messages, _run_and_leave, cfg, options),
        )
    return read_results(_results_file(cfg)) if options.machine_rank == 0 else {}


def build_model(
    cfg: CfgNode, checkpoint: str | Path | None = None, *, trust_checkpoint: bool = False
) -> torch.nn.Module:
    """The model of a config in evaluation mode, with a checkpoint of either host, strictly loaded.

    Without a checkpoint MODEL.WEIGHTS counts, loaded as Detectron2 does.
    """
    model = modeling.build_model(cfg)
    if checkpoint is not None:
        state = weights.read_checkpoint(checkpoint, trust=trust_checkpoint)
        with of_file(checkpoint):
            weights.load_into(model, state)
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


def _trainer(cfg: Cfg) -> type[Trainer]:
    return LazyTrainer if isinstance(cfg, DictConfig) else Trainer


def _run(cfg: Cfg, options: RunOptions) -> dict[str, float]:
    if not torch.cuda.is_available():  # processes on one machine share its cores
        torch.set_num_threads(max(torch.get_num_threads() // comm.get_local_size(), 1))
    if isinstance(cfg, CfgNode):
        register_datasets(cfg)  # a spawned process has its own catalog
    cfg = _trainer(cfg).with_flags(cfg, options)
    default_setup(cfg, argparse.Namespace(eval_only=options.eval_only))
    setup_logger(str(output_dir(cfg)), distributed_rank=comm.get_rank(), name="metaheads")
    results = _evaluate(cfg, options) if options.eval_only else _train(cfg, options)
    if not comm.is_main_process():
        return {}
    metrics = {name: float(value) for name, value in flatten_results_dict(results).items()}
    write_results(_results_file(cfg), metrics)
    return metrics


def _train(cfg: Cfg, options: RunOptions) -> dict[str, Any]:
    with blaming(_CANNOT_BUILD):
        trainer = _trainer(cfg)(cfg)
    _check_evaluation(cfg, trainer.checkpointer.model)
    check_training(trainer.checkpointer.model)
    if options.early_stopping:
        trainer.stop_early(options.early_stopping)
    if options.track and comm.is_main_process():
        with blaming(f"--track {options.track}: it cannot begin"):
            trainer.add_writer(TrackingWriter(options.track, output_dir(cfg)))
    if options.resume_from:
        trainer.resume(options.resume_from)
        _results_file(cfg).unlink(missing_ok=True)
        return trainer.train()
    if options.checkpoint:
        _load_weights(trainer.checkpointer.model, options.checkpoint, options)
    else:
        with blaming(f"{WEIGHTS_OPTION} {initial_weights(cfg)}: cannot be loaded"):
            trainer.checkpointer.load(initial_weights(cfg), checkpointables=[])
    trainer.checkpointer.forget()
    _results_file(cfg).unlink(missing_ok=True)
    return trainer.train()


def _evaluate(cfg: Cfg, options: RunOptions) -> dict[str, Any]:
    with blaming(_CANNOT_BUILD):
        model = _trainer(cfg).build_model(cfg)
    _check_evaluation(cfg, model)
    checkpointer = Checkpointer(model, str(output_dir(cfg)))
    initial = initial_weights(cfg)
    if options.checkpoint:
        _load_weights(model, options.checkpoint, options)
    else:
        with blaming(f"{WEIGHTS_OPTION} {initial}: cannot be loaded"):
            checkpointer.load_strictly(initial, checkpointables=[])
    _results_file(cfg).unlink(missing_ok=True)
    return _trainer(cfg).test(cfg, model)


def _check_evaluation(cfg: Cfg, model: torch.nn.Module) -> None:
    """Raises ValueError where the config measures what the model does not give."""
    if isinstance(cfg, CfgNode) and (cfg.TEST.NME or cfg.MODEL.KEYPOINT_ON):
        check_points(model, mesh_file(cfg) if cfg.TEST.NME else "")


def _load_weights(model: torch.nn.Module, checkpoint: str | Path, options: RunOptions) -> None:
    state = weights.read_checkpoint(checkpoint, trust=options.trust_checkpoint)
    with of_file(checkpoint):
        renew = options.reinitialise_classes
        coverage = weights.load_into(model, state, reinitialise_classes=renew)
    logging.getLogger("metaheads").info(f"{checkpoint}: {coverage.summary()}")


def _results_file(cfg: Cfg) -> Path:
    return output_dir(cfg) / "results.json"
