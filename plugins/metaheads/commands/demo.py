"""`metaheads demo`: pictures in; annotated pictures and a JSON of what was found out."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from metaheads.api import Model, load
from metaheads.augment import check_scales
from metaheads.commands.arguments import (
    SPEEDS,
    add_config_arguments,
    add_speed_arguments,
    add_trust_argument,
    check_output,
)
from metaheads.commands.results import (
    ALIGNED,
    PNGS,
    AlignedFaces,
    PanopticResults,
    ResultsFile,
    to_coco,
)
from metaheads.media import Frame, Source, VideoWriter, find_sources, write_image
from metaheads.structures import Detections, PanopticSegmentation
from metaheads.visualization_panoptic import draw_result

EPILOG = """examples:
  tools/demo.py --config-file yolact/yolact_r18_128_shapes --host mmdet \\
    --checkpoint work_dirs/demo_mmdet/iter_2000.pth --output found data/shapes/val
  tools/demo.py street.mp4 --config-file mine.yaml --checkpoint model_final.pth --classes person dog
  tools/demo.py camera:0 --config-file mine.yaml --checkpoint model_final.pth --show --no-save
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "inputs", nargs="+", help="images, videos, folders, patterns, or a camera (camera:0)"
    )
    add_config_arguments(parser)
    parser.add_argument("--checkpoint", required=True, help="of either host, or imported")
    add_trust_argument(parser)
    parser.add_argument("--device", help="cpu, cuda, ...")
    add_speed_arguments(parser)
    parser.add_argument(
        "--flip",
        action="store_true",
        help="predict from the image and its mirror (keypoint detectors)",
    )
    parser.add_argument(
        "--scales",
        nargs="+",
        type=float,
        default=[],
        help="sizes at which each picture is looked at (models that can merge them); other flags "
        "stand between them and the inputs",
    )
    parser.add_argument("--threshold", type=float, default=0.3, help="lowest score to keep")
    parser.add_argument("--classes", nargs="+", help="keep only these")
    parser.add_argument("--output", default="predictions", help="folder of the results")
    parser.add_argument(
        "--save",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write annotated pictures and videos",
    )
    parser.add_argument(
        "--json",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write results.json: entries as in COCO results, with file, frame and class name; of "
        "panoptic models also panoptic.json and PNGs in COCO's panoptic format",
    )
    parser.add_argument(
        "--align",
        action="store_true",
        help="write every face upright, 112 x 112 pixels, to the folder `aligned` (models of five "
        "keypoints)",
    )
    parser.add_argument("--show", action="store_true", help="show them in a window; q ends")
    parser.add_argument("--keep-going", action="store_true", help="skip what cannot be read")


def run(args: argparse.Namespace) -> int:
    if args.show and sys.platform == "linux" and not _has_screen():
        raise ValueError("--show: there is no screen (DISPLAY, WAYLAND_DISPLAY); leave it out")
    if not 0 <= args.threshold <= 1:
        raise ValueError(f"--threshold {args.threshold}: a score lies between 0 and 1")
    if args.scales:
        check_scales(args.scales)
    output = Path(args.output)
    check_output("--output", output, is_folder=True)
    sources = find_sources(args.inputs)
    names = unique_names([Path(source.name) for source in sources])
    targets = [output / names[Path(source.name)] for source in sources]
    if args.save:
        _refuse_to_overwrite(sources, targets)
    if args.align:
        _refuse_inputs_within(output / ALIGNED, sources)
    model = _load(args)
    if model.is_panoptic and args.json:
        _refuse_to_overwrite(sources, [output / PNGS / each.name for each in targets])
    labels = _labels_of(args.classes, model.class_names)
    if args.save or args.json or args.align:
        output.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_orderly_end())
        _process(model, list(zip(sources, targets, strict=True)), args, labels, stack)
    return 0


def _load(args: argparse.Namespace) -> Model:
    """
    Raises:
        ValueError: also scales for a model that cannot merge them.
    """
    model = load(
        args.config_file,
        args.checkpoint,
        host=args.host,
        device=args.device,
        trust_checkpoint=args.trust_checkpoint,
        flip=args.flip,
        **{name: getattr(args, name) for name in SPEEDS},
    )
    if args.scales and model.is_panoptic:
        raise ValueError("--scales: panoptic models look at an image at one size; leave it out")
    return model


def _process(
    model: Model,
    sources: list[tuple[Source, Path]],
    args: argparse.Namespace,
    labels: set[int] | None,
    stack: contextlib.ExitStack,
) -> None:
    """Predicts, draws and writes; of each source the path of its picture, without a suffix."""
    output = Path(args.output)
    files = _Files.open(model, output if args.json else None, stack)
    faces = AlignedFaces(output if args.align else None)
    done = _Progress(stack, [source for source, _ in sources])
    for number, (source, target) in enumerate(sources, start=1):
        with _Pictures(target if args.save else None, source) as pictures:
            for frame in readable(source, args.keep_going, done):
                assert frame.image is not None
                found = _select(model, frame.image, args, labels)
                faces.add(found, target.name, source, frame)
                files.add(found, target.name, source, number, frame)
                done.count(found)
                if not (args.save or args.show):
                    continue
                drawn = draw_result(frame.image, found, model.class_names)
                pictures.write(drawn)
                if args.show and _show(drawn):
                    return
    where = f" -> {output}" if args.save or args.json or args.align else ""
    what = "segments" if model.is_panoptic else "detections"
    sys.stdout.write(f"{done.frames} pictures, {done.found} {what}{where}\n")


def _refuse_to_overwrite(sources: list[Source], targets: list[Path]) -> None:
    inputs = {source.path.resolve() for source in sources if source.path}
    for source, target in zip(sources, targets, strict=True):
        if written_file(target, source).resolve() in inputs:
            raise ValueError(
                f"--output {target.parent}: {source.name} would be overwritten; choose another "
                "folder"
            )


def _refuse_inputs_within(folder: Path, sources: list[Source]) -> None:
    """Of faces only the run tells how many files it writes and removes."""
    for source in sources:
        if source.path and source.path.resolve().parent == folder.resolve():
            raise ValueError(
                f"--output {folder.parent}: --align writes to {folder}, where {source.name} lies; "
                "choose another folder"
            )


def written_file(target: Path, source: Source) -> Path:
    """An MP4 for a video, a PNG for an image (not with_suffix: a name may hold dots)."""
    return target.with_name(target.name + (".mp4" if source.rate else ".png"))


@contextlib.contextmanager
def _orderly_end() -> Iterator[None]:
    """A termination, as a scheduler sends it, closes the files, like Ctrl-C."""

    def leave(*_: Any) -> None:
        raise SystemExit(143)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def readable(source: Source, keep_going: bool, done: _Progress) -> Iterator[Frame]:
    """The frames of a source.

    Raises:
        ValueError: one cannot be read, unless `keep_going`.
    """
    for frame in source:
        if frame.image is not None:
            yield frame
        elif keep_going:
            done.skip(frame)
        else:
            raise ValueError(f"{frame.fault} (--keep-going skips it)")


def unique_names(paths: list[Path]) -> dict[Path, str]:
    """A name for the picture of each image: its stem, with its folder and suffix where needed."""
    spelled = [lambda p: p.stem, lambda p: p.name, lambda p: "_".join(p.absolute().parts[1:])]
    counts = [Counter(map(spell, paths)) for spell in spelled]
    names = {}
    for path in paths:
        candidates = [(spell(path), count) for spell, count in zip(spelled, counts, strict=True)]
        unique = (name for name, count in candidates if count[name] == 1)
        names[path] = next(unique, candidates[-1][0])
    return names


def _labels_of(classes: list[str] | None, known: Sequence[str]) -> set[int] | None:
    """Class names -> labels; None for all.

    Raises:
        ValueError: a name that the model does not know; names the nearest.
    """
    if classes is None:
        return None
    for name in classes:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"it knows {', '.join(known)}"
            raise ValueError(f"--classes: the model has no class {name!r}; {hint}")
    return {index for index, name in enumerate(known) if name in classes}


def _select(
    model: Model, image: np.ndarray, args: argparse.Namespace, labels: set[int] | None
) -> Detections | PanopticSegmentation:
    if model.is_panoptic:
        segmentation = model.predict_panoptic(image, args.threshold)
        return segmentation.keep(lambda segment: labels is None or segment.label in labels)
    found = model.predict(image, args.threshold, args.scales)
    if labels is None:
        return found
    return found[[index for index, label in enumerate(found.labels.tolist()) if label in labels]]


def _has_screen() -> bool:
    """OpenCV's windows end the whole process without one."""
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _show(picture: np.ndarray) -> bool:
    """Shows it in a window; True when the user wants to stop.

    Raises:
        ValueError: there is no screen, or an OpenCV without windows.
    """
    try:
        cv2.imshow("metaheads", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return cv2.waitKey(1) & 0xFF == ord("q")
    except cv2.error as error:
        raise ValueError(
            f"--show: OpenCV cannot open a window here ({error.err}); leave it out"
        ) from error


class _Pictures:
    """Writes what is drawn of a source: a PNG of an image, an MP4 of a video; nothing without a
    target."""

    def __init__(self, target: Path | None, source: Source) -> None:
        self._image = self._video = None
        if target and source.rate:
            self._video = VideoWriter(written_file(target, source), source.rate)
        elif target:
            self._image = written_file(target, source)

    def __enter__(self) -> _Pictures:
        return self

    def write(self, picture: np.ndarray) -> None:
        if self._video:
            self._video.write(picture)
        elif self._image:
            write_image(self._image, picture)

    def __exit__(self, *_: Any) -> None:
        if self._video:
            self._video.close()


class _Files(NamedTuple):
    """Where results go besides the pictures."""

    results: ResultsFile
    panoptic: PanopticResults
    class_names: Sequence[str]

    @classmethod
    def open(cls, model: Model, folder: Path | None, stack: contextlib.ExitStack) -> _Files:
        """Closed by the stack; without a folder nothing is written."""
        names = model.class_names
        results = ResultsFile(folder and folder / "results.json")
        panoptic = PanopticResults(folder if model.is_panoptic else None, names, model.num_things)
        return cls(stack.enter_context(results), stack.enter_context(panoptic), names)

    def add(
        self,
        found: Detections | PanopticSegmentation,
        name: str,
        source: Source,
        number: int,
        frame: Frame,
    ) -> None:
        """Of a panoptic segmentation results.json has the things."""
        if isinstance(found, PanopticSegmentation):
            self.panoptic.add(found, name, source, number, frame)
            found = found.things()
        self.results.add(to_coco(found, number, source.name, frame, self.class_names))


class _Progress:
    """A bar over all frames of all sources, and the counts."""

    def __init__(self, stack: contextlib.ExitStack, sources: list[Source]) -> None:
        lengths = [source.length for source in sources]
        total = None if None in lengths else sum(lengths)
        self._bar = stack.enter_context(tqdm(total=total, unit="picture"))
        self.frames = self.found = 0

    def count(self, found: Detections | PanopticSegmentation) -> None:
        self.frames += 1
        self.found += len(found)
        self._bar.update()

    def skip(self, frame: Frame) -> None:
        self._bar.write(f"skipped: {frame.fault}", file=sys.stderr)
        self._bar.update()
