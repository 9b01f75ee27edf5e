"""The golden cases of RetinaFace's data: its label file, and WIDER FACE's evaluation."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from metaheads.datasets.face_labels import FACE_POINTS, Face, read_retinaface
from metaheads.evaluation import WiderFace, WiderFaceTruth
from metaheads.evaluation.widerface import LEVELS

from .cases import ANY, DEFAULT_FOLDER, Case, UnknownCase

KNOWN = {
    "eval": {
        "ground_truth": ["inline", "wider_face_val"],
        "num_images": ANY,
        "iou_thresholds": [[0.5, 0.75], [0.5]],
        "num_score_thresholds": [1000],
        "plus_one": [True],
        "normalize_scores": [True],
        "levels": [list(LEVELS)],
    },
    "label_txt": {
        "num_images": ANY,
        "num_landmarks": [len(FACE_POINTS)],
        "numbers_per_face": [20],
        "label_without_landmarks": [-1],
    },
}
# Where the four .mat files of the validation set lie; not part of the project.
TRUTH_FOLDER = Path(
    os.environ.get("METAHEADS_WIDERFACE")
    or DEFAULT_FOLDER.parent / "data" / "widerface_ground_truth"
)


def run_eval(case: Case) -> None:
    options, results = case.options, case.about["results"]
    read = {"inline": read_inline, "wider_face_val": read_official}[options["ground_truth"]]
    truth, found = read(case)
    assert len(truth.boxes) == options["num_images"]
    for iou_threshold in options["iou_thresholds"]:
        evaluation = WiderFace(
            truth,
            iou_threshold=iou_threshold,
            num_thresholds=options["num_score_thresholds"],
        )
        for name, rows in found.items():
            evaluation.add(name, rows)
        ours = list(evaluation.compute().precision.values())
        theirs = results.pop(f"AP@{iou_threshold:g}")
        assert np.allclose(ours, theirs, rtol=1e-12, atol=0), f"{ours}, not {theirs}"
    counts = {level: sum(map(sum, each.values())) for level, each in truth.counted.items()}
    expected = results.pop("face_counts", None) or case.about["ground_truth"]["faces"]
    assert counts == expected
    if results:
        raise UnknownCase(f"results that the golden test does not use: {sorted(results)}")


def read_inline(case: Case) -> tuple[WiderFaceTruth, dict[str, np.ndarray]]:
    """Ground truth and detections in the arrays; an easy face is medium and hard, too."""
    names = case.about["images"]
    boxes, found = {}, {}
    counted: dict[str, dict[str, np.ndarray]] = {level: {} for level in LEVELS}
    for index, name in enumerate(names):
        boxes[name] = case.array(f"gt{index}").double().numpy()
        found[name] = case.array(f"pred{index}").numpy()
        own = case.array(f"lvl{index}").numpy()
        for number, level in enumerate(LEVELS, start=1):
            counted[level][name] = (own > 0) & (own <= number)
    return WiderFaceTruth(boxes, counted), found


def read_official(case: Case) -> tuple[WiderFaceTruth, dict[str, np.ndarray]]:
    """The official files; detections in one list, by running number of the image."""
    for name, expected in case.about["ground_truth"]["sha256"].items():
        assert hashlib.sha256((TRUTH_FOLDER / name).read_bytes()).hexdigest() == expected, name
    truth = WiderFaceTruth.from_folder(TRUTH_FOLDER)
    about = case.about["ground_truth"]
    assert len(truth.boxes) == about["images"]
    assert sum(map(len, truth.boxes.values())) == about["boxes"]
    assert len({name.split("/")[0] for name in truth.boxes}) == about["events"]
    boxes, image = case.array("box").double().numpy(), case.array("image").numpy()
    scores = np.round(case.array("score").double().numpy(), 4)
    rows = np.column_stack((boxes, scores))
    return truth, {name: rows[image == index] for index, name in enumerate(truth.boxes)}


def run_label_txt(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "label.txt"
        file.write_text(case.about["label_txt"])
        images = read_retinaface(file)
    assert [image.path for image in images] == case.about["images"]
    assert len(images) == case.options["num_images"]
    absent = case.options["label_without_landmarks"]
    for index, image in enumerate(images):
        rows = np.array([to_row(face, absent) for face in image.faces], np.float32)
        case.compare_exactly(f"target{index}", torch.from_numpy(rows.reshape(-1, 15)))


def to_row(face: Face, absent: int) -> list[float]:
    """x1, y1, x2, y2, the points, and whether it has them, as the original's data set gives it."""
    x, y, width, height = face.box
    assert face.points is not None
    points = face.points[:, :2].ravel().tolist()
    assert bool(face.keypoints.any()) == face.has_points
    return [x, y, x + width, y + height, *points, 1 if face.has_points else absent]


RUN_SORT = {"eval": run_eval, "label_txt": run_label_txt}
