"""`metaheads train`: one entry for the trainers of both hosts."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from metaheads import weights
from metaheads.augment import check_scales
from metaheads.commands.arguments import add_config_arguments, add_trust_argument
from metaheads.configs import find_config
from metaheads.datasets.check import check_all
from metaheads.errors import blaming
from metaheads.weights.files import spell_results

EPILOG = """examples:
  tools/train_net.py --config-file yolact/yolact_r18_256_nuclei --host mmdet
  tools/train_net.py --config-file my_config.yaml --num-gpus 4 SOLVER.BASE_LR 0.002
  tools/train_net.py --config-file my_config.py --resume --cfg-options train_cfg.max_iters=2000
  tools/train_net.py --config-file my_config.py --eval-only --checkpoint iter_300.pth
"""
TRACKERS = ("wandb", "mlflow")


@dataclass(frozen=True)
class RunOptions:
    """What a host's `run` needs besides its config.

    Attributes:
        resume: go on from the last checkpoint of the work directory, if there is one; `train` turns
            it into `resume_from` before a host sees it.
        resume_from: go on from this checkpoint.
        checkpoint: weights to begin with (or to evaluate), of either host or imported.
        reinitialise_classes: leave the class layers of `checkpoint` out.
        trust_checkpoint: read a checkpoint that needs arbitrary code.
        eval_only: evaluate, do not train.
        flip, scales: evaluate on images and their mirrors, and at several sizes, the own first.
        dry_run: build everything, go forward and backward with one batch, evaluate one, and stop.
        early_stopping: end after so many evaluations without a better mask AP; 0: never.
        track: "wandb" or "mlflow": log there, too.
        num_gpus: processes on this machine (CPU processes where there is no GPU).
    """

    resume: bool = False
    resume_from: str | None = None
    checkpoint: str | None = None
    reinitialise_classes: bool = False
    trust_checkpoint: bool = False
    eval_only: bool = False
    flip: bool = False
    scales: tuple[float, ...] = ()
    dry_run: bool = False
    early_stopping: int = 0
    track: str | None = None
    amp: bool = False
    auto_scale_lr: bool = False
    num_gpus: int = 1
    num_machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"
    launcher: str = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_config_arguments(parser)
    parser.add_argument("--work-dir", help="output folder (OUTPUT_DIR, work_dir)")
    parser.add_argument("--checkpoint", help="weights to begin with or to evaluate, of either host")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--resume-from", metavar="PATH", help="go on from this checkpoint")
    parser.add_argument("--eval-only", action="store_true", help="evaluate, do not train")
    parser.add_argument("--flip", action="store_true", help="with --eval-only: mirror images, too")
    parser.add_argument(
        "--scales",
        nargs="+",
        type=float,
        default=(),
        help="with --eval-only: sizes at which each image is looked at; other flags stand between "
        "them and KEY VALUE",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="build everything, one batch forward and backward, one evaluated image; then stop",
    )
    parser.add_argument(
        "--reinitialise-classes",
        action="store_true",
        help="load --checkpoint without its class layers (another number of classes)",
    )
    add_trust_argument(parser)
    parser.add_argument(
        "--early-stopping",
        type=int,
        default=0,
        metavar="N",
        help="end after N evaluations without a better mask AP (the best checkpoint is kept)",
    )
    parser.add_argument(
        "--track", choices=TRACKERS, help="log to Weights & Biases or MLflow, besides TensorBoard"
    )
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision")
    parser.add_argument("--auto-scale-lr", action="store_true", help="scale the rate to the batch")
    parser.add_argument("--no-data-check", action="store_true", help="skip the check of the data")
    parser.add_argument("--num-gpus", type=int, default=1, help="processes on this machine")
    parser.add_argument("--num-machines", type=int, default=1)
    parser.add_argument("--machine-rank", type=int, default=0)
    parser.add_argument("--dist-url", default="auto", help="tcp://host:port; auto on one machine")
    parser.add_argument("--launcher", choices=["none", "pytorch"], default="none", help="torchrun")
    parser.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="options of the config"
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="options of the config"
    )


def run(args: argparse.Namespace) -> int:
    options = RunOptions(**{field.name: getattr(args, field.name) for field in fields(RunOptions)})
    options = replace(options, scales=tuple(options.scales))
    metrics = train(
        args.config_file,
        args.host,
        parse_overrides([*args.cfg_options, *args.opts]),
        options,
        work_dir=args.work_dir,
        check_data=not args.no_data_check,
    )
    if metrics:
        sys.stdout.write(spell_results(metrics))
    return 0


def train(
    config: str,
    host_name: str | None,
    overrides: list[tuple[str, str]],
    options: RunOptions,
    *,
    work_dir: str | None = None,
    check_data: bool = True,
) -> dict[str, float]:
    """Trains or evaluates a config in its host and returns the host's metrics.

    Raises:
        FileNotFoundError, ValueError, KeyError, TypeError: what is wrong with the config, the
            options, the checkpoint or the data, before any long work begins.
    """
    path, host_name = find_config(config, host_name)
    for name in ("checkpoint", "resume_from"):
        file = getattr(options, name)
        if file is not None and not Path(file).is_file():
            raise FileNotFoundError(f"--{name.replace('_', '-')} {file}: no such file")
    host: Any = importlib.import_module(f"metaheads.hosts.{host_name}.train")
    _check_options(options)
    with blaming(f"{path}: this config cannot be read"):
        cfg = host.load_config(path, overrides, work_dir=work_dir)
    options = _choose_checkpoint(host, cfg, options)
    if check_data and os.environ.get("RANK", "0") == "0":  # of torchrun's processes the first
        for report in check_all(host.coco_sources(cfg, train=not options.eval_only)):
            sys.stdout.write(report.summary() + "\n")
    if options.dry_run:
        return host.dry_run(cfg, options)
    return host.run(cfg, options)


def _check_options(options: RunOptions) -> None:
    """Raises ValueError for what contradicts itself, or what this machine does not have."""
    for name in ("num_gpus", "num_machines"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
    if not 0 <= options.machine_rank < options.num_machines:
        raise ValueError(
            f"--machine-rank {options.machine_rank}: the {options.num_machines} machines are "
            f"numbered from 0 to {options.num_machines - 1}"
        )
    is_resumed = options.resume or options.resume_from
    if options.dry_run and (options.num_gpus > 1 or options.eval_only or is_resumed):
        raise ValueError(
            "--dry-run is for one process and for the beginning of a training: leave out "
            "--num-gpus, --eval-only, --resume and --resume-from"
        )
    if (options.flip or options.scales) and not options.eval_only:
        raise ValueError("--flip and --scales are for evaluations: add --eval-only")
    if options.scales:
        check_scales(options.scales)
    if options.early_stopping < 0:
        raise ValueError("--early-stopping: a number of evaluations, 0 for never")
    if options.track and importlib.util.find_spec(options.track) is None:
        raise ValueError(f"--track {options.track} needs its package: pip install {options.track}")
    if options.num_machines > 1 and options.dist_url == "auto" and options.launcher == "none":
        raise ValueError("--dist-url tcp://host:port is needed for more than one machine")
    if options.launcher == "pytorch" and "RANK" not in os.environ:
        raise ValueError("--launcher pytorch is for torchrun: torchrun --nproc-per-node 2 ...")
    if not torch.cuda.is_available():
        if options.amp:
            raise ValueError("--amp needs a GPU, and torch sees none here; leave it out")
    elif options.num_gpus > torch.cuda.device_count() and options.launcher == "none":
        raise ValueError(
            f"--num-gpus {options.num_gpus}: this machine has {torch.cuda.device_count()}"
        )


def _choose_checkpoint(host: Any, cfg: Any, options: RunOptions) -> RunOptions:
    """What `resume` means becomes `resume_from` or, for an evaluation, `checkpoint`.

    Raises:
        FileNotFoundError: the weights that the config names are not there.
        ValueError: no training can go on from the file, or there is nothing to evaluate.
    """
    resume_from = options.resume_from
    if options.resume and not resume_from:
        folder = host.output_dir(cfg)
        found = host.last_checkpoint(folder)
        resume_from = str(found) if found else None
        if not found and options.eval_only and not options.checkpoint:
            raise FileNotFoundError(
                f"--eval-only --resume: no training in {folder}; give --checkpoint FILE"
            )
        if not found and any(folder.glob("*.pth")) and not options.eval_only:
            sys.stderr.write(
                f"--resume: no training was cut off in {folder}, a new one begins; to go on from "
                "one of the checkpoints there, stop this and give --resume-from FILE\n"
            )
    initial = host.initial_weights(cfg)
    is_used = initial and not (options.checkpoint or resume_from)
    if is_used and "://" not in initial and not Path(initial).is_file():
        raise FileNotFoundError(f"{host.WEIGHTS_OPTION} of the config: no file {initial}")
    if options.eval_only:
        checkpoint = options.checkpoint or resume_from
        if not (checkpoint or initial):
            raise ValueError(
                "nothing to evaluate: give --checkpoint or --resume, or weights in the config "
                f"({host.WEIGHTS_OPTION})"
            )
        return replace(options, resume=False, resume_from=None, checkpoint=checkpoint)
    if resume_from:
        weights.check_resumable(resume_from, host.RESUMABLE, trust=options.trust_checkpoint)
    return replace(options, resume=False, resume_from=resume_from)


def parse_overrides(words: list[str]) -> list[tuple[str, str]]:
    """["a.b=1", "C.D", "2"] -> [("a.b", "1"), ("C.D", "2")].

    Raises:
        ValueError: a key without a value.
    """
    pairs, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            continue
        if word.startswith("--"):
            raise ValueError(f"{word} stands behind KEY VALUE options: put flags before them")
        if "=" in word:
            key, value = word.split("=", 1)
        elif rest:
            key, value = word, rest.pop(0)
        else:
            raise ValueError(f"option {word!r} has no value: write KEY VALUE or KEY=VALUE")
        pairs.append((key, value))
    return pairs
