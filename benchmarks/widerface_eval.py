"""WIDER FACE's average precision on the whole validation set: ours, and the reference's loops.

    python benchmarks/widerface_eval.py GROUND_TRUTH [--reference FOLDER]

GROUND_TRUTH holds the four .mat files. Detections are drawn from a seed and written as a
submission. The loops are those of the authors' algorithm, image by image, threshold by threshold,
written anew here; FOLDER, if given, holds evaluation.py and bbox of biubug6/Pytorch_Retinaface,
widerface_evaluate, which is run on the same files. The table goes to benchmarks/widerface_eval.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy import ndarray

from metaheads.evaluation import WiderFace, WiderFaceTruth
from metaheads.evaluation.widerface import LEVELS
from metaheads.profiling import processor_name

REPEATS, FALSE_PER_IMAGE, THRESHOLDS = 3, 40, 1000


def draw(truth: WiderFaceTruth) -> dict[str, ndarray]:
    """Shifted faces, many of them found, and false ones; integers but for the score."""
    rng = np.random.default_rng(0)
    found = {}
    for name, boxes in truth.boxes.items():
        size = np.sqrt(np.maximum(boxes[:, 2:].prod(1), 1))
        kept = rng.random(len(boxes)) < np.clip(0.4 + size / 60, 0, 0.97)
        near = boxes[kept] + rng.normal(0, 0.08, (kept.sum(), 4)) * size[kept, None]
        scores = rng.beta(5, 2, kept.sum())
        low, side = rng.uniform(0, 900, (FALSE_PER_IMAGE, 2)), rng.uniform(8, 80, FALSE_PER_IMAGE)
        false = np.column_stack((low, side, side * 1.2))
        rows = np.column_stack(
            (
                np.maximum(np.concatenate((near, false)), 1).round(),
                np.concatenate((scores, rng.beta(1, 5, len(false)))).round(5),
            )
        )
        found[name] = rows[np.argsort(-rows[:, 4], kind="stable")]
    return found


def ours(truth: Path, folder: Path) -> tuple[list[float], float, float]:
    """APs, seconds for all files, seconds for the evaluation."""
    start = time.perf_counter()
    total = WiderFace(WiderFaceTruth.from_folder(truth))
    total.read_submission(folder)
    read = time.perf_counter()
    scores = total.compute()
    return list(scores.precision.values()), read - start, time.perf_counter() - read


def loops(truth: WiderFaceTruth, found: dict[str, ndarray]) -> tuple[list[float], float]:
    """APs of the reference's algorithm, and its seconds without the files."""
    start = time.perf_counter()
    low = min(float(rows[:, 4].min()) for rows in found.values() if len(rows))
    high = max(float(rows[:, 4].max()) for rows in found.values() if len(rows))
    precisions = []
    for level in LEVELS:
        curve, total = np.zeros((THRESHOLDS, 2)), 0
        for name, boxes in truth.boxes.items():
            counted, rows = truth.counted[level][name], found[name]
            total += int(counted.sum())
            if len(boxes) and len(rows):
                curve += image_curve(boxes, counted, rows, (rows[:, 4] - low) / (high - low))
        with np.errstate(invalid="ignore"):
            precision = np.nan_to_num(curve[:, 1] / curve[:, 0])
        precisions.append(area(curve[:, 1] / total, precision))
    return precisions, time.perf_counter() - start


def image_curve(boxes: ndarray, counted: ndarray, rows: ndarray, scores: ndarray) -> ndarray:
    """(thresholds, 2) proposals and faces found in an image."""
    ious = overlaps(rows, boxes)
    state, proposals, recalls = np.zeros(len(boxes)), np.ones(len(rows)), np.zeros(len(rows))
    for index in range(len(rows)):
        best = ious[index].argmax()
        if ious[index, best] >= 0.5:
            if not counted[best]:
                state[best] = proposals[index] = -1
            elif state[best] == 0:
                state[best] = 1
        recalls[index] = (state == 1).sum()
    curve = np.zeros((THRESHOLDS, 2))
    for step in range(THRESHOLDS):
        above = np.where(scores >= 1 - (step + 1) / THRESHOLDS)[0]
        if len(above):
            last = above[-1]
            curve[step] = (proposals[: last + 1] == 1).sum(), recalls[last]
    return curve


def overlaps(rows: ndarray, boxes: ndarray) -> ndarray:
    """(M, N) IoU of x, y, width, height, both ends counted."""
    low = np.maximum(rows[:, None, :2], boxes[:, :2])
    high = np.minimum((rows[:, :2] + rows[:, 2:4])[:, None], boxes[:, :2] + boxes[:, 2:])
    shared = np.maximum(high - low + 1, 0).prod(2)
    return shared / ((rows[:, 2:4] + 1).prod(1)[:, None] + (boxes[:, 2:] + 1).prod(1) - shared)


def area(recall: ndarray, precision: ndarray) -> float:
    recall = np.concatenate(([0.0], recall, [1.0]))
    precision = np.concatenate(([0.0], precision, [0.0]))
    for index in range(len(precision) - 1, 0, -1):
        precision[index - 1] = max(precision[index - 1], precision[index])
    steps = np.where(recall[1:] != recall[:-1])[0]
    return float(((recall[steps + 1] - recall[steps]) * precision[steps + 1]).sum())


def reference(folder: Path, submission: Path, truth: Path) -> tuple[list[float], float]:
    """The authors' script, in a process of its own: APs, and seconds with start and files."""
    start = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "evaluation.py", "-p", submission, "-g", truth]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    found = [float(each) for each in re.findall(r"Val AP: (\S+)", done.stdout)]
    return found, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("truth", type=Path, metavar="GROUND_TRUTH")
    parser.add_argument("--reference", type=Path, help="folder of the authors' evaluation.py")
    args = parser.parse_args()
    truth = WiderFaceTruth.from_folder(args.truth)
    found = draw(truth)
    runs: dict[str, list[float]] = {"files": [], "ours": [], "loops": [], "reference": []}
    with tempfile.TemporaryDirectory() as name:
        folder, writer = Path(name), WiderFace(truth)
        writer.found = found
        writer.write_submission(folder)
        results = []
        for _ in range(REPEATS):
            precisions, files, seconds = ours(args.truth, folder)
            runs["files"].append(files)
            runs["ours"].append(seconds)
            results.append(precisions)
            precisions, seconds = loops(truth, found)
            runs["loops"].append(seconds)
            results.append(precisions)
        if args.reference:
            with contextlib.redirect_stderr(io.StringIO()):
                precisions, seconds = reference(
                    args.reference.resolve(), folder, args.truth.resolve()
                )
            runs["reference"].append(seconds)
            results.append(precisions)
    assert np.allclose(results, results[0], rtol=1e-12, atol=0), results
    lines = to_table(runs, results[0], sum(map(len, found.values())))
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def to_table(runs: dict[str, list[float]], precisions: list[float], count: int) -> list[str]:
    files, fast, slow = (statistics.median(runs[name]) for name in ("files", "ours", "loops"))
    named = ", ".join(f"{n} {100 * v:.3f}" for n, v in zip(LEVELS, precisions, strict=True))
    lines = [
        "# WIDER FACE's evaluation",
        "",
        f"`python benchmarks/widerface_eval.py GROUND_TRUTH`, {datetime.date.today()}, "
        f"{processor_name()}, {os.cpu_count()} cores, numpy {np.__version__}; 3,226 images with "
        f"{count} drawn detections. AP with each: {named}. Medians of {REPEATS} interleaved runs; "
        "the authors' script once, with its start.",
        "",
        "| what | seconds |",
        "|---|---:|",
        f"| ours, detections in memory | {fast:.2f} |",
        f"| the authors' algorithm in plain loops, detections in memory | {slow:.2f} |",
        f"| reading submission and ground truth, ours | {files:.2f} |",
    ]
    if runs["reference"]:
        lines.append(
            f"| the authors' own script, from files | {runs['reference'][0]:.2f} |\n"
            f"| ours, from files | {files + fast:.2f} |"
        )
    return [*lines, "", f"{slow / fast:.0f} times as fast as the loops."]


if __name__ == "__main__":
    main()
