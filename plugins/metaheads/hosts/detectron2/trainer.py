"""Detectron2's trainer with our data, optimizers and checkpoints, on GPUs or CPUs."""

from __future__ import annotations

import contextlib
import logging
import math
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import CfgNode
from detectron2.data import (
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.engine import (
    AMPTrainer,
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    TrainerBase,
    create_ddp_model,
    hooks,
)
from detectron2.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    PascalVOCDetectionEvaluator,
)
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.events import EventWriter

from metaheads.configs import data_path
from metaheads.hosts.detectron2.checkpoint import Checkpointer
from metaheads.hosts.detectron2.config import TRANSFORMS
from metaheads.hosts.detectron2.data import MetaheadsMapper
from metaheads.hosts.detectron2.datasets import mesh_file
from metaheads.hosts.detectron2.evaluation import (
    InstanceEvaluator,
    NMEEvaluator,
    PanopticQualityEvaluator,
    SemanticEvaluator,
    WiderFaceEvaluator,
)
from metaheads.hosts.detectron2.semantic import HostedSemantic

if TYPE_CHECKING:
    from metaheads.commands.train import RunOptions

BEST, BEST_METRIC = "model_best", "segm/AP"


class Trainer(DefaultTrainer):
    """Detectron2's DefaultTrainer for our configs; also runs in several processes without a GPU."""

    def __init__(self, cfg: CfgNode) -> None:
        # DefaultTrainer's own constructor builds its own checkpointer and gives DDP a GPU to use.
        TrainerBase.__init__(self)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        loader = self.build_train_loader(cfg)
        model = distribute(model, broadcast_buffers=False)
        trainer = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = trainer(model, loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def resume(self, path: str) -> None:
        """Goes on from a checkpoint of this trainer.

        Raises:
            ValueError, KeyError: the checkpoint is of another model.
        """
        self.checkpointer.load_strictly(path)
        self.start_iter = self.iter + 1
        self.reshuffle()
        for hook in self._hooks:
            if isinstance(hook, hooks.PeriodicCheckpointer):
                hook.recent_checkpoints = self.checkpointer.periodic_files()

    def reshuffle(self) -> None:
        """Lets a resumed training draw another order than its beginning, also with a fixed SEED."""
        if self.cfg.SEED >= 0:
            cfg = self.cfg.clone()
            cfg.defrost()
            cfg.SEED += self.start_iter
            self._trainer.reset_data_loader(lambda: self.build_train_loader(cfg))

    def train(self) -> dict[str, Any]:
        """Trains to the end; the results of the last evaluation, empty but in the first process."""
        with contextlib.suppress(_Stop):
            self.iterate()
        return getattr(self, "_last_eval_results", {})

    def iterate(self) -> None:
        """All iterations with their hooks."""
        super().train()

    def stop_early(self, patience: int) -> None:
        """Ends the training after so many evaluations without a better AP."""
        (period,) = (hook._period for hook in self._hooks if isinstance(hook, hooks.EvalHook))
        self.register_hooks([StopEarly(patience, period, best_metric(self.cfg))])

    def add_writer(self, writer: EventWriter) -> None:
        """One more place where scalars are logged; for the first process only."""
        (hook,) = (each for each in self._hooks if isinstance(each, hooks.PeriodicWriter))
        hook._writers.append(writer)

    @staticmethod
    def output_dir(cfg: CfgNode) -> str:
        return cfg.OUTPUT_DIR

    @staticmethod
    def initial_weights(cfg: CfgNode) -> str:
        """What a training begins with and what is evaluated without another checkpoint."""
        return cfg.MODEL.WEIGHTS

    @staticmethod
    def with_flags(cfg: CfgNode, options: RunOptions) -> CfgNode:
        """A copy of the config with what the command line's flags mean.

        Raises:
            ValueError: the config does not say for which batch its learning rate is, or its model
                is none of ours and cannot merge several views of an image.
        """
        cfg = cfg.clone()
        cfg.defrost()
        if (options.flip or options.scales) and not hasattr(
            META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), "core_class"
        ):
            raise ValueError(
                "--flip and --scales are for our models; Detectron2's own have TEST.AUG"
            )
        cfg.TEST.FLIP |= options.flip
        cfg.TEST.SCALES = tuple(options.scales) or cfg.TEST.SCALES
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

    @classmethod
    def test(cls, cfg: CfgNode, model: torch.nn.Module, evaluators: Any = None) -> dict[str, Any]:
        """As DefaultTrainer's, with the same model in every process."""
        equalise_buffers(model)
        return super().test(cfg, model, evaluators)

    def build_hooks(self) -> list[HookBase]:
        found = super().build_hooks()
        for hook in found:
            if isinstance(hook, hooks.PeriodicCheckpointer):
                hook.max_to_keep = self.cfg.SOLVER.KEEP_CHECKPOINTS or None
        if comm.is_main_process() and self.cfg.TEST.EVAL_PERIOD > 0:
            names = self.cfg.DATASETS.TEST
            metric = best_metric(self.cfg)
            metric = metric if len(names) == 1 else f"{names[0]}/{metric}"
            # After EvalHook, before the writers.
            found.insert(-1, KeepBest(self.checkpointer, metric))
        return found

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
        """SOLVER.OPTIMIZER over Detectron2's parameter groups, with its kinds of gradient clipping.

        Raises:
            ValueError: another optimizer than SGD and AdamW, or an unknown kind of clipping.
        """
        solver = cfg.SOLVER
        groups = get_default_optimizer_params(
            model,
            base_lr=solver.BASE_LR,
            weight_decay_norm=solver.WEIGHT_DECAY_NORM,
            bias_lr_factor=solver.BIAS_LR_FACTOR,
            weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        )
        common = {"lr": solver.BASE_LR, "weight_decay": solver.WEIGHT_DECAY}
        if solver.OPTIMIZER == "SGD":
            optimizer = torch.optim.SGD(
                groups, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV, **common
            )
        elif solver.OPTIMIZER == "AdamW":
            optimizer = torch.optim.AdamW(groups, **common)
        else:
            raise ValueError(f'SOLVER.OPTIMIZER must be "SGD" or "AdamW", got {solver.OPTIMIZER!r}')
        if not (solver.CLIP_GRADIENTS.ENABLED and solver.CLIP_GRADIENTS.WHOLE_MODEL):
            return maybe_add_gradient_clipping(cfg, optimizer)
        return _clip_whole_model(optimizer, solver.CLIP_GRADIENTS)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        """Detectron2's, which divides by zero when a short run ends within its warm-up."""
        if cfg.SOLVER.WARMUP_ITERS >= cfg.SOLVER.MAX_ITER:
            cfg = cfg.clone()
            cfg.defrost()
            cfg.SOLVER.WARMUP_ITERS = cfg.SOLVER.MAX_ITER - 1
        return super().build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """Detectron2's, whose sampler takes SEED -1, "random", for a number.

        So a resumed training would see the same first images once more.
        """
        if cfg.SEED < 0:
            cfg = cfg.clone()
            cfg.defrost()
            cfg.SEED = comm.shared_random_seed()
        return build_detection_train_loader(cfg, mapper=_build_mapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        mapper = _build_mapper(cfg, is_train=False)
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)

    @classmethod
    def test_loaders(cls, cfg: CfgNode) -> list[Any]:
        return [cls.build_test_loader(cfg, name) for name in cfg.DATASETS.TEST]

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        evaluator_type = MetadataCatalog.get(dataset_name).get("evaluator_type")
        if evaluator_type == "pascal_voc":
            return PascalVOCDetectionEvaluator(dataset_name)
        if evaluator_type == "metaheads_panoptic":
            kind = SemanticEvaluator if _is_semantic(cfg) else PanopticQualityEvaluator
            return kind(dataset_name)
        tasks = ("bbox",)
        tasks += ("segm",) if cfg.MODEL.MASK_ON else ()
        tasks += ("keypoints",) if cfg.MODEL.KEYPOINT_ON and not cfg.TEST.NME else ()
        folder = f"{cfg.OUTPUT_DIR}/inference"
        if len(cfg.DATASETS.TEST) > 1:
            folder = f"{folder}/{dataset_name}"
        sigmas = tuple(cfg.TEST.KEYPOINT_OKS_SIGMAS)
        found: list[DatasetEvaluator] = [
            InstanceEvaluator(dataset_name, tasks, output_dir=folder, kpt_oks_sigmas=sigmas)
        ]
        if cfg.TEST.NME:
            found.append(NMEEvaluator(dataset_name, mesh_file(cfg)))
        wider = cfg.TEST.WIDERFACE
        if wider.GROUND_TRUTH:
            truth = data_path(wider.GROUND_TRUTH)
            found.append(WiderFaceEvaluator(truth, wider.SUBMISSION, wider.WHOLE_PIXELS))
        return DatasetEvaluators(found) if len(found) > 1 else found[0]


def best_metric(cfg: Any) -> str:
    """By which the best checkpoint is chosen: that of the finest task that the model solves."""
    model = getattr(cfg, "MODEL", None)
    names = cfg.DATASETS.TEST if model is not None else ()
    if any(MetadataCatalog.get(n).get("evaluator_type") == "metaheads_panoptic" for n in names):
        return "sem_seg/mIoU" if _is_semantic(cfg) else "panoptic_seg/PQ"
    if model is None or model.MASK_ON:
        return BEST_METRIC
    if cfg.TEST.WIDERFACE.GROUND_TRUTH:
        return "widerface/hard"
    return "keypoints/AP" if model.KEYPOINT_ON and not cfg.TEST.NME else "bbox/AP"


def _is_semantic(cfg: CfgNode) -> bool:
    """Whether the model gives label maps alone, which have no panoptic quality."""
    return issubclass(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), HostedSemantic)


def distribute(model: torch.nn.Module, **options: Any) -> torch.nn.Module:
    """Detectron2's create_ddp_model, which gives a GPU also to a model on the CPU."""
    on_gpu = next(model.parameters()).is_cuda
    devices = [comm.get_local_rank()] if on_gpu else None
    return create_ddp_model(model, device_ids=devices, **options)


def equalise_buffers(model: torch.nn.Module) -> None:
    """Gives every process the first one's buffers, which are those that are saved.

    Each has batch statistics of its own.
    """
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)


class KeepBest(HookBase):
    """Keeps the best weights as `model_best.pth`, and in it how good they are.

    Args:
        checkpointer: writes them; they do not become the checkpoint to resume from.
        metric: as the evaluation names it in the log.
    """

    def __init__(self, checkpointer: Checkpointer, metric: str) -> None:
        self._checkpointer, self._metric = checkpointer, metric
        self._best, self._seen = -math.inf, -1
        self._training = uuid.uuid4().hex

    def state_dict(self) -> dict[str, str]:
        return {"training": self._training}

    def load_state_dict(self, state: dict[str, str]) -> None:
        self._training = state["training"]

    def before_train(self) -> None:
        best = Path(self._checkpointer.save_dir) / f"{BEST}.pth"
        if self.trainer.start_iter > 0 and best.is_file():
            # Not from the checkpoint resumed from, which may be older than the last evaluation.
            content = torch.load(best, map_location="cpu", weights_only=True)
            if content.get("training") == self._training:  # not of one before it in this folder
                self._best = content["best"]

    def after_step(self) -> None:
        value, iteration = self.trainer.storage.latest().get(self._metric, (-math.inf, -1))
        if iteration <= self._seen:
            return
        self._seen = iteration
        if value > self._best:  # NaN, when nothing was found, is not better
            self._best = value
            self._checkpointer.save(BEST, tag=False, best=float(value), training=self._training)

    def after_train(self) -> None:
        self.after_step()


class _Stop(BaseException):
    """The end of a training before its time; no error, which Detectron2 would log."""


class StopEarly(HookBase):
    """Ends a training whose evaluations no longer get better, in all processes at once.

    Args:
        patience: so many evaluations may be no better than the best.
        period: iterations between evaluations.
        metric: the end of its name in the log.
    """

    def __init__(self, patience: int, period: int, metric: str) -> None:
        self._patience, self._period, self._metric, self._waited = patience, period, metric, 0
        self._best, self._seen = -math.inf, -1

    def after_step(self) -> None:
        if self._period < 1 or (self.trainer.iter + 1) % self._period:
            return
        # Only the first process has metrics; its decision is everybody's.
        for name, (value, iteration) in self.trainer.storage.latest().items():
            if name.endswith(self._metric) and iteration > self._seen:
                self._seen = iteration
                self._waited = 0 if value > self._best else self._waited + 1
                self._best = max(self._best, value)
        if max(comm.all_gather(self._waited)) >= self._patience:
            logging.getLogger("metaheads").info(
                f"stopped early: no better {self._metric} in {self._patience} evaluations"
            )
            self.trainer.checkpointer.save("model_final", iteration=self.trainer.iter)
            raise _Stop


def _build_mapper(cfg: CfgNode, is_train: bool) -> MetaheadsMapper | None:
    """The mapper that INPUT.MAPPER names; None lets Detectron2 build its own."""
    if not cfg.INPUT.MAPPER:
        return None
    if cfg.INPUT.MAPPER not in TRANSFORMS:
        names = ", ".join(map(repr, [*TRANSFORMS, ""]))
        raise ValueError(f"INPUT.MAPPER must be one of {names}, got {cfg.INPUT.MAPPER!r}")
    return MetaheadsMapper(cfg, is_train)


def _clip_whole_model(optimizer: torch.optim.Optimizer, clip: CfgNode) -> torch.optim.Optimizer:
    if clip.CLIP_TYPE != "norm":
        raise ValueError(
            f'SOLVER.CLIP_GRADIENTS.WHOLE_MODEL needs CLIP_TYPE "norm", got {clip.CLIP_TYPE!r}'
        )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def clip_gradients(*_: Any) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, clip.CLIP_VALUE, clip.NORM_TYPE)

    # Here, not before `optimizer.step`: under AMP the gradients are unscaled by then.
    optimizer.register_step_pre_hook(clip_gradients)
    return optimizer
