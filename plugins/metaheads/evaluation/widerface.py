"""WIDER FACE's average precision (Yang et al., CVPR 2016), by the protocol of its own evaluation.

Scores are stretched to [0, 1] over the whole submission; precision and recall are measured at 1000
thresholds; boxes count both of their ends (the +1 convention). Each of the lists easy, medium and
hard names the faces that count in it; a detection whose best face is not among them is neither
right nor wrong. The best face is sought among all, and a second detection of one is wrong. An image
without any face is left out.

Letters: N faces, M detections of an image, D detections of all images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from metaheads.messages import list_some

LEVELS = ("easy", "medium", "hard")
TRUTH_FILE = "wider_face_val.mat"
LEVEL_FILE = "wider_{}_val.mat"
_SOURCE = (
    "they are in eval_tools.zip of WIDER FACE (http://shuoyang1213.me/WIDERFACE) and in "
    "widerface_evaluate/ground_truth of biubug6/Pytorch_Retinaface"
)


@dataclass
class WiderFaceTruth:
    """The faces of all images.

    Attributes:
        boxes: "event/image" without a suffix -> (N, 4) float64 x, y, width, height.
        counted: level -> "event/image" -> (N,) bool, whether a face is in the level's list.
    """

    boxes: dict[str, ndarray]
    counted: dict[str, dict[str, ndarray]]

    @classmethod
    def from_folder(cls, folder: str | Path) -> WiderFaceTruth:
        """Reads the four .mat files of the validation set.

        Raises:
            FileNotFoundError: some are missing; names them and where they come from.
            ValueError: one is no such file.
        """
        folder = Path(folder)
        paths = {level: folder / LEVEL_FILE.format(level) for level in LEVELS}
        absent = [p.name for p in (folder / TRUTH_FILE, *paths.values()) if not p.is_file()]
        if absent:
            raise FileNotFoundError(f"{folder} lacks {', '.join(absent)}; {_SOURCE}")
        truth = _read_mat(folder / TRUTH_FILE, "event_list", "file_list", "face_bbx_list")
        events, files, faces = (table[:, 0] for table in truth)
        names = [
            f"{event[0]}/{file[0][0]}"
            for event, own in zip(events, files, strict=True)
            for file in own
        ]
        boxes = [_as_boxes(cell[0]) for own in faces for cell in own]
        counted = {}
        for level, path in paths.items():
            (table,) = _read_mat(path, "gt_list")
            lists = [cell[0] for own in table[:, 0] for cell in own]
            if len(lists) != len(names):
                raise ValueError(f"{path} is of {len(lists)} images, {TRUTH_FILE} of {len(names)}")
            counted[level] = {
                name: _as_mask(numbers, len(own), path)
                for name, own, numbers in zip(names, boxes, lists, strict=True)
            }
        return cls(dict(zip(names, boxes, strict=True)), counted)


class WiderFaceScores(NamedTuple):
    """Average precision in [0, 1] by level; nan where a level's list is empty."""

    precision: dict[str, float]

    def to_percent(self) -> dict[str, float]:
        return {level: 100 * value for level, value in self.precision.items()}


class WiderFace:
    """Collects the detections of images.

    Args:
        truth: the faces.
        iou_threshold: overlap from which a detection is a face's.
        num_thresholds: of the scores.
        whole_pixels: x, y, right and bottom lose what follows the point, as in the submissions that
            the authors' `test_widerface.py` writes.

    Attributes:
        found: "event/image" -> (M, 5) float64 x, y, width, height, score. Those of several
            processes are one dict.
    """

    def __init__(
        self,
        truth: WiderFaceTruth,
        *,
        iou_threshold: float = 0.5,
        num_thresholds: int = 1000,
        whole_pixels: bool = False,
    ) -> None:
        self.truth = truth
        self.iou_threshold, self.num_thresholds = iou_threshold, num_thresholds
        self.whole_pixels = whole_pixels
        self.reset()

    def reset(self) -> None:
        self.found: dict[str, ndarray] = {}

    def update(self, path: str | Path, boxes: ndarray, scores: ndarray) -> None:
        """Adds the detections of an image; those of an image seen before are replaced.

        Args:
            path: of the image; its folder and its name without suffix are the event and the image.
            boxes: (M, 4) xyxy in the image's pixels.
            scores: (M,).

        Raises:
            ValueError: the truth has no such image.
        """
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        if self.whole_pixels:
            boxes = np.trunc(boxes)
        sides = boxes[:, 2:] - boxes[:, :2]
        scores = np.asarray(scores, np.float64).reshape(-1, 1)
        self.add(image_key(path), np.hstack((boxes[:, :2], sides, scores)))

    def add(self, name: str, rows: ndarray) -> None:
        """`update` with "event/image" and (M, 5) x, y, width, height, score."""
        if name not in self.truth.boxes:
            raise ValueError(
                f"{name} is no image of WIDER FACE's validation set: images are called by their "
                "folder and name, 0--Parade/0_Parade_marchingband_1_849.jpg"
            )
        self.found[name] = rows

    def compute(self) -> WiderFaceScores:
        """Of all images; those without detections have found nothing."""
        names = [name for name, rows in self.found.items() if len(rows)]
        scores = _normalise([self.found[name][:, 4] for name in names])
        own, parts = [], []
        for name, own_scores in zip(names, scores, strict=True):
            boxes = self.truth.boxes[name]
            if len(boxes):
                order = np.argsort(-own_scores, kind="stable")
                face, is_first = _match(self.found[name][order, :4], boxes, self.iou_threshold)
                counted = [_pick(self.truth.counted[level][name], face) for level in LEVELS]
                parts.append((own_scores[order], face >= 0, is_first, *counted))
                own.append(name)
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        precision = {}
        for index, level in enumerate(LEVELS):
            total = sum(int(each.sum()) for each in self.truth.counted[level].values())
            precision[level] = self._average_precision(columns, index, total)
        return WiderFaceScores(precision)

    def _average_precision(self, columns: list[ndarray], level: int, total: int) -> float:
        """Of a level that has so many faces; `columns` are scores (D,), is_matched, is_first and
        whether the matched face counts, by level."""
        if not total:
            return float("nan")
        if not columns:
            return 0.0
        scores, is_matched, is_first = columns[:3]
        counts = columns[3 + level]
        steps = self.num_thresholds
        thresholds = 1 - (np.arange(steps) + 1) / steps  # falling
        # The first threshold that a score reaches; it then reaches all lower ones.
        first = steps - np.searchsorted(thresholds[::-1], scores, side="right")
        proposals = np.bincount(first[~is_matched | counts], minlength=steps + 1)
        hits = np.bincount(first[is_first & counts], minlength=steps + 1)
        proposals, hits = proposals.cumsum()[:steps], hits.cumsum()[:steps]
        return _area(hits / total, hits / np.maximum(proposals, 1))

    def write_submission(self, folder: str | Path) -> None:
        """Writes `event/image.txt` for all images: the name, the number of faces, their lines.

        A line is x, y, width, height, score; the best comes first.
        """
        for name in self.truth.boxes:
            rows = self.found.get(name, np.zeros((0, 5)))
            rows = rows[np.argsort(-rows[:, 4], kind="stable")]
            lines = [" ".join(f"{value:.10g}" for value in row) for row in rows]
            path = Path(folder) / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = "\n".join((f"{name.rpartition('/')[2]}.jpg", str(len(rows)), *lines))
            path.write_text(text + "\n")

    def read_submission(self, folder: str | Path) -> None:
        """Takes the detections of all images from such a folder.

        Raises:
            ValueError: files are missing, or one is malformed; names it and the line.
        """
        folder = Path(folder)
        absent = [name for name in self.truth.boxes if not (folder / f"{name}.txt").is_file()]
        if absent:
            raise ValueError(
                f"{folder} lacks {len(absent)} of {len(self.truth.boxes)} files: "
                f"{list_some([f'{name}.txt' for name in absent])}; an image without faces has a "
                "file, too"
            )
        for name in self.truth.boxes:
            self.add(name, _read_rows(folder / f"{name}.txt"))


def evaluate_submission(submission: str | Path, truth: str | Path) -> WiderFaceScores:
    """The folder of a submission against the folder of the four .mat files.

    Raises:
        FileNotFoundError, ValueError: as of `WiderFaceTruth.from_folder` and `read_submission`.
    """
    total = WiderFace(WiderFaceTruth.from_folder(truth))
    total.read_submission(submission)
    return total.compute()


def image_key(path: str | Path) -> str:
    """ "event/image" of an image's path."""
    path = Path(path)
    return f"{path.parent.name}/{path.stem}"


def _match(found: ndarray, faces: ndarray, iou_threshold: float) -> tuple[ndarray, ndarray]:
    """The face that each detection overlaps most, if enough.

    Args:
        found: (M, 4) x, y, width, height, the best first.
        faces: (N, 4), likewise; N at least 1.

    Returns:
        (M,) face, -1 for none; (M,) bool, whether no better detection has the same face.
    """
    low = np.maximum(found[:, None, :2], faces[None, :, :2])
    found_high, faces_high = found[:, :2] + found[:, 2:], faces[:, :2] + faces[:, 2:]
    sides = np.minimum(found_high[:, None], faces_high) - low + 1
    shared = np.maximum(sides, 0).prod(2)  # (M, N)
    areas = [
        (high - each[:, :2] + 1).prod(1)
        for high, each in ((found_high, found), (faces_high, faces))
    ]
    ious = shared / (areas[0][:, None] + areas[1] - shared)
    best = ious.argmax(1)
    face = np.where(ious[np.arange(len(found)), best] >= iou_threshold, best, -1)
    is_first = np.zeros(len(face), bool)
    is_first[np.unique(face, return_index=True)[1]] = True
    return face, is_first & (face >= 0)


def _pick(counted: ndarray, face: ndarray) -> ndarray:
    """(M,) bool: whether the matched face counts; of no face, no."""
    return counted[face] & (face >= 0)


def _normalise(scores: Sequence[ndarray]) -> list[ndarray]:
    """Stretched so that all lie in [0, 1], as the protocol does; equal scores become 1."""
    if not scores:
        return []
    low = min(1.0, *(float(each.min()) for each in scores))
    high = max(0.0, *(float(each.max()) for each in scores))
    if high == low:
        return [np.ones_like(each) for each in scores]
    return [(each - low) / (high - low) for each in scores]


def _area(recall: ndarray, precision: ndarray) -> float:
    """Under the envelope of the precision, over all steps of the recall (as of Pascal VOC)."""
    recall = np.concatenate(([0.0], recall, [1.0]))
    precision = np.concatenate(([0.0], precision, [0.0]))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return float(np.sum((recall[steps + 1] - recall[steps]) * envelope[steps + 1]))


def _read_mat(path: Path, *names: str) -> list[ndarray]:
    from scipy.io import loadmat  # only here: the metric itself does without
    from scipy.io.matlab import MatReadError

    try:
        content: dict[str, Any] = loadmat(path)
        return [content[name] for name in names]
    except (ValueError, KeyError, TypeError, NotImplementedError, MatReadError) as error:
        raise ValueError(
            f"{path} is no such file of WIDER FACE ({type(error).__name__}: {error}); {_SOURCE}"
        ) from None


def _as_boxes(cell: ndarray) -> ndarray:
    return np.asarray(cell, np.float64).reshape(-1, 4)


def _as_mask(numbers: ndarray, count: int, path: Path) -> ndarray:
    """Numbers of faces, from 1 -> (count,) bool."""
    mask = np.zeros(count, bool)
    numbers = np.asarray(numbers, np.int64).ravel() - 1
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < count):
        raise ValueError(f"{path} names face {numbers.max() + 1} of an image with {count}")
    mask[numbers] = True
    return mask


def _read_rows(path: Path) -> ndarray:
    """(M, 5) of a file of a submission: the image's name, the number of its rows, the rows."""
    rows: list[list[float]] = []
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines[2:], start=3):
        words: Iterable[str] = line.split()
        if not words:
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if len(row) != 5:
            raise ValueError(
                f"{path}, line {number}: expected x, y, width, height, score, got {line!r}"
            )
        rows.append(row)
    count = "".join(lines[1:2]).strip()
    if count != str(len(rows)):
        raise ValueError(
            f"{path}, line 2: expected the number of faces, which are {len(rows)} in the lines "
            f"behind it, got {count!r}: the file is not whole, or lacks its first two lines"
        )
    return np.array(rows, np.float64).reshape(-1, 5)
