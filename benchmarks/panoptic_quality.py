"""Panoptic quality of 1,000 images of 640 x 480 with 30 segments each, from files.

    python benchmarks/panoptic_quality.py

Writes the PNGs to a temporary folder; 20 kinds of pictures are repeated, each a file of its own.
Images per second with one and with two processes, reading of the PNGs included, and without it; and
the peak memory of all processes together. The table goes to benchmarks/panoptic_quality.md.
"""

from __future__ import annotations

import datetime
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from metaheads.evaluation import (
    LabelledSegment,
    PanopticFiles,
    PanopticQuality,
    evaluate_panoptic_files,
)

IMAGES, KINDS, SEGMENTS, SIZE, CATEGORIES = 1000, 20, 30, (480, 640), 10
REPEATS = 3


def draw(rng: np.random.Generator) -> np.ndarray:
    """(480, 640) segments 1..30: what is nearest to each of so many points."""
    points = rng.uniform(0, 1, (SEGMENTS, 2)) * SIZE
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    distances = [(y - row) ** 2 + (x - column) ** 2 for row, column in points]
    return np.argmin(distances, axis=0) + 1


def write(folder: Path) -> tuple[Path, Path, Path, Path]:
    """Truth, and a prediction that is shifted by six pixels."""
    rng = np.random.default_rng(0)
    ids = np.sort(rng.choice(np.arange(1, 2**24), SEGMENTS, replace=False))
    ids = np.concatenate(([0], ids))
    categories = rng.integers(1, CATEGORIES + 1, SEGMENTS)
    infos = [
        {"id": int(number), "category_id": int(category), "iscrowd": 0}
        for number, category in zip(ids[1:], categories, strict=True)
    ]
    annotations = []
    for side in ("truth", "found"):
        (folder / side).mkdir()
    for index in range(IMAGES):
        name = f"{index}.png"
        for side, shift in (("truth", 0), ("found", 6)):
            path = folder / side / name
            if index >= KINDS:
                shutil.copy(folder / side / f"{index % KINDS}.png", path)
                continue
            if not shift:
                drawn = draw(rng)
            colors = ids[np.roll(drawn, shift, 1)][..., None] >> np.array([0, 8, 16]) & 255
            Image.fromarray(colors.astype(np.uint8)).save(path)
        annotations.append({"image_id": index, "file_name": name, "segments_info": infos})
    kinds = [{"id": i, "isthing": int(i % 2)} for i in range(1, CATEGORIES + 1)]
    content = json.dumps({"annotations": annotations, "categories": kinds})
    for side in ("truth", "found"):
        (folder / f"{side}.json").write_text(content)
    return folder / "truth.json", folder / "truth", folder / "found.json", folder / "found"


def in_a_process_of_its_own(given: tuple, processes: int) -> tuple[float, float, float]:
    """Seconds, peak MB of the parent and of its largest child, and PQ; memory is its own."""
    reader, writer = os.pipe()
    if not (pid := os.fork()):
        start = time.perf_counter()
        scores = evaluate_panoptic_files(*given, processes=processes)
        seconds = time.perf_counter() - start
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        peak = (own + (processes if processes > 1 else 0) * workers) / 1024
        os.write(writer, json.dumps([seconds, peak, scores.mean.all.pq]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        result = json.load(file)
    os.waitpid(pid, 0)
    return tuple(result)


def without_reading(given: tuple) -> float:
    """Seconds for as many images that are in memory already."""
    truth, found = PanopticFiles(*given[:2]), PanopticFiles(*given[2:])
    pairs: list[tuple[tuple[np.ndarray, list[LabelledSegment]], ...]] = [
        (truth.read(index), found.read(index)) for index in range(KINDS)
    ]
    quality = PanopticQuality(truth.is_thing)
    start = time.perf_counter()
    for index in range(IMAGES):
        sides = pairs[index % KINDS]
        quality.update(*([part] for side in sides for part in side))
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        given = write(Path(folder))
        runs: dict[int, list[tuple[float, float, float]]] = {1: [], 2: []}
        for _ in range(REPEATS):
            for processes, results in runs.items():
                results.append(in_a_process_of_its_own(given, processes))
        seconds = statistics.median(without_reading(given) for _ in range(REPEATS))
    from metaheads.profiling import processor_name  # only now: torch would count as memory

    qualities = {quality for results in runs.values() for _, _, quality in results}
    assert len(qualities) == 1, "the number of processes does not matter"
    lines = [
        "# Panoptic quality",
        "",
        f"`python benchmarks/panoptic_quality.py`, {datetime.date.today()}, {processor_name()}, "
        f"{os.cpu_count()} cores, numpy {np.__version__}; {IMAGES} images of {SIZE[1]} x {SIZE[0]} "
        f"with {SEGMENTS} segments, PQ {100 * qualities.pop():.3f} with each. Peak memory: all "
        f"processes together, each at its largest. Medians of {REPEATS} interleaved runs.",
        "",
        "| what | images per second | peak memory, MB |",
        "|---|---:|---:|",
    ]
    for processes, results in runs.items():
        taken, peak, _ = map(statistics.median, zip(*results, strict=True))
        plural = "es" if processes > 1 else ""
        lines.append(f"| files, {processes} process{plural} | {IMAGES / taken:.0f} | {peak:.0f} |")
    lines.append(f"| maps in memory, 1 process | {IMAGES / seconds:.0f} | |")
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
