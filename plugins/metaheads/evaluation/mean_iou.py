"""Mean intersection over union of label maps (mIoU), as in Sec. 5 of arXiv 1411.4038.

Letters: C classes, H, W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metaheads.datasets.panoptic import read_file, read_semantic
from metaheads.datasets.views import VOID
from metaheads.evaluation.panoptic_quality import SegmentationError


class SemanticScores(NamedTuple):
    """Fractions; nan where there is nothing to measure.

    Attributes:
        mean_iou: over the classes that truth or prediction have.
        pixel_accuracy: of all known pixels.
        mean_accuracy: over the classes that the truth has.
        ious, accuracies: by class, without those that are not in the means.
    """

    mean_iou: float
    pixel_accuracy: float
    mean_accuracy: float
    ious: dict[int, float]
    accuracies: dict[int, float]

    def to_percent(self) -> dict[str, float]:
        """mIoU, pACC and mACC, as Detectron2 calls them."""
        found = {"mIoU": self.mean_iou, "pACC": self.pixel_accuracy, "mACC": self.mean_accuracy}
        return {name: 100 * value for name, value in found.items()}

    def to_table(self, names: Sequence[str]) -> str:
        """Classes and means in percent as lines of text; `names` by class."""
        rows = {"mean": (self.mean_iou, self.mean_accuracy)}
        rows |= {
            names[each]: (iou, self.accuracies.get(each, float("nan")))
            for each, iou in self.ious.items()
        }
        width = max(map(len, rows))
        lines = [f"{'':{width}} {'IoU':>7} {'ACC':>7}"]
        for name, values in rows.items():
            lines.append(f"{name:{width}} " + " ".join(f"{100 * value:7.3f}" for value in values))
        return "\n".join(lines)


class MeanIoU:
    """Adds up label maps image by image.

    Args:
        num_classes: C.

    Attributes:
        confusion: (C, C) int64 pixels, by class of the truth and class found. Those of several
            processes add up to that of all images.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.reset()

    def reset(self) -> None:
        self.confusion = np.zeros((self.num_classes, self.num_classes), np.int64)

    def update(self, truth: np.ndarray, found: np.ndarray, name: str = "an image") -> None:
        """Adds one image; arguments as of `measure`."""
        self.confusion += self.measure(truth, found, name)

    def measure(self, truth: np.ndarray, found: np.ndarray, name: str = "an image") -> np.ndarray:
        """The confusion of one image, (C, C) int64.

        Args:
            truth: (H, W) labels; pixels of 255 are ignored.
            found: (H, W) labels.
            name: of the image, for messages.

        Raises:
            SegmentationError: maps of different size, or a label that is no class.
        """
        if truth.shape != found.shape:
            raise SegmentationError(
                f"{name}: the truth has (height, width) {truth.shape}, the prediction {found.shape}"
            )
        count, is_known = self.num_classes, truth != VOID
        rows, columns = truth[is_known].astype(np.int64), found[is_known].astype(np.int64)
        for labels, whose in ((rows, "truth"), (columns, "prediction")):
            if labels.size and not (labels.min() >= 0 and labels.max() < count):
                strange = labels[(labels < 0) | (labels >= count)][0]
                raise SegmentationError(
                    f"{name}: label {strange} in the {whose}, of {count} classes"
                )
        pixels = np.bincount(count * rows + columns, minlength=count**2)
        return pixels.reshape(count, count)

    def compute(self) -> SemanticScores:
        hits = self.confusion.diagonal()
        in_truth, in_found = self.confusion.sum(1), self.confusion.sum(0)
        union = in_truth + in_found - hits
        ious = {int(c): float(hits[c] / union[c]) for c in np.flatnonzero(union)}
        accuracies = {int(c): float(hits[c] / in_truth[c]) for c in np.flatnonzero(in_truth)}
        total = in_truth.sum()
        return SemanticScores(
            mean_iou=_mean(ious),
            pixel_accuracy=float(hits.sum() / total) if total else float("nan"),
            mean_accuracy=_mean(accuracies),
            ious=ious,
            accuracies=accuracies,
        )


class SemanticFiles:
    """The label maps of a COCO panoptic JSON and its PNGs, read one at a time.

    Args:
        json_file, folder: the JSON, and the folder of the PNGs.
        thing_classes, stuff_classes: names in the order of the labels; None for all of the file's.

    Attributes:
        classes: names by label.

    Raises:
        ValueError: no COCO panoptic file, or a class that it lacks.
    """

    def __init__(
        self,
        json_file: str | Path,
        folder: str | Path,
        thing_classes: Sequence[str] | None = None,
        stuff_classes: Sequence[str] | None = None,
    ) -> None:
        self.json_file, self.folder = Path(json_file), Path(folder)
        space, entries = read_file(json_file, thing_classes, stuff_classes)
        self.classes = space.classes
        self._entries = {entry.image["id"]: entry for entry in entries}

    def read(self, image_id: Any) -> tuple[np.ndarray, str]:
        """(H, W) uint8 labels, 255 where nothing is known, and what the image is called.

        Raises:
            SegmentationError: no such image.
            ValueError: a PNG that is missing, broken or does not fit the JSON.
        """
        if image_id not in self._entries:
            raise SegmentationError(f"{self.json_file} has no annotation of image {image_id}")
        entry = self._entries[image_id]
        labels = read_semantic(self.folder / entry.png, entry.segments)
        return labels, f"image {image_id} ({entry.png})"


def _mean(values: dict[int, float]) -> float:
    return float(np.mean(list(values.values()))) if values else float("nan")
