"""`metaheads benchmark`: where the time of a prediction goes, one model or several side by side."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from metaheads.api import as_rgb, check_device, load
from metaheads.commands.arguments import SPEEDS, add_trust_argument, check_output
from metaheads.configs import HOSTS, find_config
from metaheads.datasets.shapes import make_shapes
from metaheads.media import find_images
from metaheads.profiling import (
    StageClock,
    giga_multiply_adds,
    peak_memory,
    processor_name,
)
from metaheads.visualization_panoptic import draw_result

PREDICTION = ("load", "preprocess", "backbone", "neck", "heads", "decode", "masks", "draw")
TRAINING = ("preprocess", "forward", "loss", "backward", "optimiser")
EPILOG = """examples:
  tools/benchmark.py mmdet:yolact/yolact_r18_256_nuclei mmdet:mask_rcnn/mask_rcnn_r18_nuclei \\
    --checkpoint yolact.pth mask_rcnn.pth --images data/nuclei/val --out benchmark
  tools/benchmark.py mmdet:yolact/yolact_r18_256_nuclei peer.py --train --batch 8
  tools/benchmark.py detectron2:yolact/yolact_r50_550_coco --images pictures --device cuda --amp
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "configs",
        nargs="+",
        metavar="[HOST:]CONFIG[@optimise+...]",
        help="path or name, with mmdet: or detectron2: in front where both hosts have the name, "
        f"behind @ what makes it faster ({', '.join(SPEEDS)}); all are compared with the first",
    )
    parser.add_argument("--checkpoint", nargs="+", default=[], help="one for each config")
    add_trust_argument(parser)
    parser.add_argument("--images", nargs="+", help="images or folders (default: drawn scenes)")
    parser.add_argument("--max-images", type=int, default=8, help="the first so many of them")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--batch", type=int, default=1, help="images per pass of the network")
    parser.add_argument("--amp", action="store_true", help="mixed precision (bfloat16 on CPUs)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count, after one")
    parser.add_argument(
        "--train", action="store_true", help="a training step on the config's data instead"
    )
    parser.add_argument("--threshold", type=float, default=0.05, help="lowest score, also to draw")
    parser.add_argument("--out", help="folder for benchmark.md, .json and .png")


def run(args: argparse.Namespace) -> int:
    if args.out:
        check_output("--out", args.out, is_folder=True)
    if args.checkpoint and len(args.checkpoint) != len(args.configs):
        raise ValueError(
            f"--checkpoint: {len(args.checkpoint)} files for {len(args.configs)} configs; "
            "give one for each, in their order"
        )
    check_device(args.device)
    for name in ("batch", "repeats", "max_images"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
    if args.train and (args.checkpoint or args.images):
        raise ValueError(
            "--train takes the config's data and fresh weights: leave out --checkpoint and --images"
        )
    if not args.train and args.images:
        for path in find_images(args.images, args.max_images):
            as_rgb(path)  # a broken one is told before the models are loaded
    checkpoints = args.checkpoint or [None] * len(args.configs)
    if args.train:
        contenders = [TrainingContender(config, args) for config in args.configs]
    else:
        contenders = [
            Contender(config, checkpoint, args)
            for config, checkpoint in zip(args.configs, checkpoints, strict=True)
        ]
    if not (args.checkpoint or args.train):
        sys.stdout.write(
            "note: without --checkpoint the models are untrained: what they find is chance, and "
            "the times of decode, masks and draw say nothing\n"
        )
    with tempfile.TemporaryDirectory() as folder:
        images = [] if args.train else _images(args.images, args.max_images, folder)
        if not args.train and args.batch > len(images):
            raise ValueError(
                f"--batch {args.batch}, but there are {len(images)} images (--images, --max-images)"
            )
        for contender in tqdm(contenders, unit="model", desc="warming up"):
            contender.measure_once(images)
            contender.time_round(images)
            contender.times.clear()
        rounds = [contender for _ in range(args.repeats) for contender in contenders]
        for contender in tqdm(rounds, unit="round", desc="timing"):
            contender.time_round(images)
    report = {
        "models": [contender.report() for contender in contenders],
        "command": spell_command(args, [contender.name for contender in contenders]),
        "what": "image" if not args.train else "step",
        "stages": TRAINING if args.train else PREDICTION,
        "images": len(images) or args.batch,
        "batch": args.batch,
        "repeats": args.repeats,
        "amp": args.amp,
        **environment(args.device),
    }
    table = to_markdown(report)
    sys.stdout.write(table)
    if args.out:
        out = Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "benchmark.md").write_text(table)
        (out / "benchmark.json").write_text(json.dumps(report, indent=1) + "\n")
        draw_chart(report, out / "benchmark.png")
        sys.stdout.write(f"{out}/benchmark.md, .json, .png\n")
    return 0


class Contender:
    """One model and what has been measured of its predictions."""

    stages: tuple[str, ...] = PREDICTION

    def __init__(self, config: str, checkpoint: str | None, args: argparse.Namespace) -> None:
        self.args = args
        plain, speeds = split_speeds(config)
        host, name = split_host(plain)
        self.name = Path(config).name if Path(name).is_file() else config
        self.model = load(
            name,
            checkpoint,
            host=host,
            device=args.device,
            trust_checkpoint=args.trust_checkpoint,
            **dict.fromkeys(speeds, True),
        )
        self.module = self.model.module
        self.times: list[dict[str, float]] = []  # milliseconds of each round, by stage
        self.once: dict[str, Any] = {}

    def measure_once(self, images: list[Path]) -> None:
        """Warm-up, memory, operations and number of detections."""
        batch = [as_rgb(path) for path in images[: self.args.batch]]
        self._predict(batch)
        self._measure(lambda: self._predict(batch), len(batch))

    def time_round(self, images: list[Path]) -> None:
        clock = StageClock(self.args.device)
        size, count = self.args.batch, 0
        for first in range(0, len(images), size):
            paths = images[first : first + size]
            with clock.stage("load"):
                batch = [as_rgb(path) for path in paths]
            with clock.watch(self.model.probes()):
                found = self._predict(batch)
            count += sum(map(len, found))
            with clock.stage("draw"):
                for image, each in zip(batch, found, strict=True):
                    draw_result(image, each, self.model.class_names)
        self._record(clock, len(images))
        self.once["detections"] = count / len(images)

    def report(self) -> dict[str, Any]:
        """Medians of the rounds in milliseconds, with the quartiles of the total."""
        totals = [sum(times.values()) for times in self.times]
        quartiles = statistics.quantiles(totals, n=4) if len(totals) > 1 else totals * 3
        return {
            "name": self.name,
            "stages_ms": {
                stage: statistics.median(times.get(stage, 0.0) for times in self.times)
                for stage in self.stages
            },
            "total_ms": statistics.median(totals),
            "quartiles_ms": [quartiles[0], quartiles[2]],
            **self.once,
        }

    def _measure(self, run: Callable[[], Any], images: int) -> None:
        self.once = {
            "parameters": sum(p.numel() for p in self.module.parameters()),
            "memory_mib": peak_memory(run, self.args.device),
            "gmacs": giga_multiply_adds(run) / images,
        }

    def _record(self, clock: StageClock, parts: int) -> None:
        self.times.append({name: 1000 * s / parts for name, s in clock.seconds().items()})

    def _predict(self, batch: list[np.ndarray]) -> list:
        with self._mixed():
            return self.model.predict_results(batch, self.args.threshold)

    def _mixed(self) -> contextlib.AbstractContextManager:
        device = torch.device(self.args.device).type
        dtype = torch.bfloat16 if device == "cpu" else torch.float16
        return torch.autocast(device, dtype) if self.args.amp else contextlib.nullcontext()


class TrainingContender(Contender):
    """One model and what has been measured of its training step."""

    stages = TRAINING

    def __init__(self, config: str, args: argparse.Namespace) -> None:
        self.args, self.times, self.once = args, [], {}
        plain, speeds = split_speeds(config)
        if speeds:
            raise ValueError(f"{config}: what stands behind @ is for predictions, not for --train")
        host, name = split_host(plain)
        self.name = Path(config).name if Path(name).is_file() else config
        path, host = find_config(name, host)
        steps = importlib.import_module(f"metaheads.hosts.{host}.steps")
        self.step = steps.build(path, args.device, args.batch)
        self.module = self.step.module

    def measure_once(self, images: list[Path]) -> None:
        self._step(StageClock(self.args.device))
        self._measure(lambda: self._step(StageClock(self.args.device)), self.args.batch)

    def time_round(self, images: list[Path]) -> None:
        clock = StageClock(self.args.device)
        self._step(clock)
        self._record(clock, 1)

    def _step(self, clock: StageClock) -> None:
        with clock.watch(self.step.probes), clock.stage("loss"), self._mixed():
            loss = self.step.loss()
        with clock.stage("backward"):
            self.step.optimizer.zero_grad()
            loss.backward()
        with clock.stage("optimiser"):
            self.step.optimizer.step()


def split_host(config: str) -> tuple[str | None, str]:
    """ "mmdet:a/b" -> ("mmdet", "a/b"); without a host in front (None, config)."""
    host, colon, name = config.partition(":")
    return (host, name) if colon and host in HOSTS else (None, config)


def split_speeds(config: str) -> tuple[str, list[str]]:
    """ "a/b@optimise+compile" -> ("a/b", ["optimise", "compile"]).

    Raises:
        ValueError: something else stands behind the @.
    """
    plain, at, words = config.partition("@")
    speeds = words.split("+") if at else []
    for word in speeds:
        if word not in SPEEDS:
            raise ValueError(f"{config}: behind @ stand {', '.join(SPEEDS)}, with + between them")
    return plain, speeds


def spell_command(args: argparse.Namespace, names: list[str]) -> str:
    """The command that measures the same again, without the paths of checkpoints and images."""
    flags = [f"--{name}" for name in ("train", "amp") if getattr(args, name)]
    numbers = ["batch", "repeats", "device"]
    if not args.train:
        numbers += ["max-images", "threshold"]
    flags += [f"--{name} {getattr(args, name.replace('-', '_'))}" for name in numbers]
    if not args.train:
        flags += ["--checkpoint ..."] * bool(args.checkpoint) + ["--images ..."] * bool(args.images)
    return f"metaheads benchmark {' '.join([*names, *flags])}"


def environment(device: str) -> dict[str, Any]:
    """What the figures depend on: device, threads, versions."""
    names = ("torch", "torchvision", "mmcv", "mmdet", "detectron2")
    versions = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    on_gpu = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else processor_name(),
        "threads": torch.get_num_threads(),
        "versions": versions,
        "date": str(datetime.date.today()),
    }


def to_markdown(report: dict[str, Any]) -> str:
    """The table: milliseconds per image and ratios against the first model."""
    first, stages = report["models"][0], report["stages"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    has_found = "detections" in first
    lines = [
        f"`{report['command']}`",
        "",
        f"Milliseconds per {report['what']}, medians of {report['repeats']} interleaved rounds "
        f"over {report['images']} images, batch {report['batch']}{', AMP' * report['amp']}; "
        f"{report['device']}, {report['threads']} threads; {versions}; {report['date']}.",
        "",
        f"| model | {' | '.join(stages)} | total | quartiles | ratio | GMACs | parameters | "
        + ("memory | detections |" if has_found else "memory |"),
        f"|---|{'---:|' * (len(stages) + 6 + has_found)}",
    ]
    for model in report["models"]:
        times = " | ".join(f"{model['stages_ms'][name]:.1f}" for name in stages)
        low, high = model["quartiles_ms"]
        memory = ", ".join(f"{name} {mib:.0f} MiB" for name, mib in model["memory_mib"].items())
        lines.append(
            f"| {model['name']} | {times} | {model['total_ms']:.1f} | {low:.1f}-{high:.1f} | "
            f"{model['total_ms'] / first['total_ms']:.2f} | {model['gmacs']:.1f} | "
            f"{model['parameters'] / 1e6:.1f} M | {memory} |"
            + (f" {model['detections']:.0f} |" if has_found else "")
        )
    return "\n".join(lines) + "\n"


def draw_chart(report: dict[str, Any], target: Path) -> None:
    """A bar for each model, stacked by stage."""
    from matplotlib.figure import Figure

    names = [model["name"] for model in report["models"]]
    figure = Figure(figsize=(9, 1.2 + 0.6 * len(names)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(names))
    for stage in report["stages"]:
        widths = np.array([model["stages_ms"][stage] for model in report["models"]])
        axes.barh(names, widths, left=left, label=stage)
        left += widths
    axes.invert_yaxis()
    axes.set_xlabel(f"ms per {report['what']}, {report['device']}, {report['threads']} threads")
    figure.legend(ncols=len(report["stages"]), fontsize="small", loc="outside lower center")
    figure.savefig(target, dpi=120)


def _images(inputs: list[str] | None, count: int, folder: str) -> list[Path]:
    """The images asked for, or scenes drawn into `folder`."""
    if not inputs:
        make_shapes(folder, num_train=0, num_val=count, num_clips=0, num_faces=(0, 0))
    return find_images(inputs or [f"{folder}/val"], count)
