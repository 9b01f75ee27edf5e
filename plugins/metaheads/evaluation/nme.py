"""The normalised mean error of points on objects: the five of a face, or the vertices of a mesh.

Points are compared on matched objects only: in an image each detection, the best first, takes the
object of its class that it overlaps most and that is still free, from an IoU of 0.5 on. The error
of an object is the mean distance of its known points, divided by the square root of its box's area
(as in RetinaFace, arXiv 1905.00641, section 4.4).

Letters: N objects, M detections, P points.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from metaheads.mesh import MeshTopology

FAILURE = 0.1  # an error above it is a failure


@dataclass
class LabelledPoints:
    """The objects of an image, or what was found of them.

    Attributes:
        boxes: (N, 4) xyxy.
        labels: (N,) integers.
        points: (N, P, 2), NaN where nothing is known.
        scores: (N,), of detections.
    """

    boxes: ndarray
    labels: ndarray
    points: ndarray
    scores: ndarray | None = None


class PointScores(NamedTuple):
    """nan where there is nothing to measure.

    Attributes:
        mean_error: over matched objects; 1 is the root of the box's area.
        failure_rate: share of matched objects with an error above FAILURE.
        matched_share: of the objects with points.
    """

    mean_error: float
    failure_rate: float
    matched_share: float

    def to_percent(self) -> dict[str, float]:
        """NME, failures_10 and matched."""
        names = "NME", "failures_10", "matched"
        return {name: 100 * value for name, value in zip(names, self, strict=True)}


@dataclass
class NormalisedMeanError:
    """Adds up images.

    Attributes:
        errors: of the matched objects. Those of several processes are one list.
        num_objects: with at least one known point, matched or not.
    """

    iou_threshold: float = 0.5
    errors: list[float] = field(default_factory=list)
    num_objects: int = 0

    def reset(self) -> None:
        self.errors, self.num_objects = [], 0

    def update(self, truth: LabelledPoints, found: LabelledPoints) -> None:
        """Adds one image; objects that are to be ignored must not be in `truth`."""
        has_points = np.isfinite(truth.points).all(2).any(1)
        self.num_objects += int(has_points.sum())
        for detection, target in _match(truth, found, self.iou_threshold):
            if not has_points[target]:
                continue
            offsets = found.points[detection] - truth.points[target]
            x1, y1, x2, y2 = truth.boxes[target]
            size = np.sqrt((x2 - x1) * (y2 - y1))
            self.errors.append(float(np.nanmean(np.linalg.norm(offsets, axis=1)) / size))

    def merge(self, other: NormalisedMeanError) -> None:
        """Adds the images of another one."""
        self.errors = self.errors + other.errors
        self.num_objects += other.num_objects

    def compute(self) -> PointScores:
        errors, nan = np.array(self.errors), float("nan")
        return PointScores(
            mean_error=float(errors.mean()) if len(errors) else nan,
            failure_rate=float((errors > FAILURE).mean()) if len(errors) else nan,
            matched_share=len(errors) / self.num_objects if self.num_objects else nan,
        )


class PointErrors:
    """The errors of keypoints, and of the vertices of a mesh, against a COCO file.

    Args:
        json_file: the file.
        class_names: by label; without, the categories by ascending id.
        mesh_file: JSON of `metaheads.mesh`; "" leaves vertices out.

    Raises:
        ValueError: no COCO file, or one that lacks a class.
    """

    def __init__(
        self,
        json_file: str | Path,
        class_names: Sequence[str] | None = None,
        mesh_file: str | Path = "",
    ) -> None:
        self.json_file = json_file
        try:
            content = json.loads(Path(json_file).read_bytes())
            ids = {each["name"]: each["id"] for each in content["categories"]}
            self._entries: dict[Any, list[dict]] = {each["id"]: [] for each in content["images"]}
            for each in content["annotations"]:
                if not each.get("iscrowd", 0) and min(each["bbox"][2:]) > 0:
                    self._entries[each["image_id"]].append(each)
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(
                f"{json_file} is no COCO file ({type(error).__name__}: {error})"
            ) from None
        names = sorted(ids, key=lambda name: ids[name]) if class_names is None else class_names
        if absent := [name for name in names if name not in ids]:
            raise ValueError(f"{json_file} has no categories {absent[:5]}, classes of the data")
        self._labels = {ids[name]: label for label, name in enumerate(names)}
        self._sizes = {"keypoints": 3}  # numbers of a point
        if mesh_file:
            self._sizes["vertices"] = MeshTopology.from_json(mesh_file).dimensions

    def measure(
        self,
        image_id: Any,
        boxes: ndarray,
        labels: ndarray,
        scores: ndarray,
        points: Mapping[str, ndarray | None],
    ) -> dict[str, NormalisedMeanError]:
        """The errors of one image, by kind of point.

        Args:
            image_id: in the file.
            boxes: (M, 4) xyxy.
            labels, scores: (M,).
            points: "keypoints" and "vertices", (M, P, 2 or more), x and y first.

        Raises:
            ValueError: the model gives none of a kind, or not as many as the file has.
        """
        entries = [e for e in self._entries[image_id] if e["category_id"] in self._labels]
        found = {}
        for kind, size in self._sizes.items():
            given = points.get(kind)
            if given is None:
                raise ValueError(
                    f"the model gives no {kind} to be held against {self.json_file}: switch them "
                    "on in the model, or leave this metric out"
                )
            truth = self._read(entries, kind, size, given.shape[1])
            found[kind] = NormalisedMeanError()
            found[kind].update(truth, LabelledPoints(boxes, labels, given[..., :2], scores))
        return found

    def total(self, parts: Iterable[dict[str, NormalisedMeanError]]) -> dict[str, float]:
        """All images -> NME, failures_10 and matched in percent; of vertices vertices_NME, ..."""
        totals = {kind: NormalisedMeanError() for kind in self._sizes}
        for part in parts:
            for kind, each in part.items():
                totals[kind].merge(each)
        prefixes = {"keypoints": "", "vertices": "vertices_"}
        return {
            f"{prefixes[kind]}{name}": value
            for kind, each in totals.items()
            for name, value in each.compute().to_percent().items()
        }

    def _read(self, entries: list[dict], kind: str, size: int, count: int) -> LabelledPoints:
        boxes = np.array([each["bbox"] for each in entries], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        points = np.full((len(entries), count, 2), np.nan)
        for target, entry in zip(points, entries, strict=True):
            given = np.reshape(entry.get(kind) or [], (-1, size))
            if not len(given):
                continue
            if len(given) != count:
                raise ValueError(
                    f"{self.json_file}: annotation {entry.get('id')} has {len(given)} {kind}, the "
                    f"model gives {count}"
                )
            is_known = given[:, 2:3] > 0 if kind == "keypoints" else True
            target[:] = np.where(is_known, given[:, :2], np.nan)
        labels = np.array([self._labels[each["category_id"]] for each in entries], np.int64)
        return LabelledPoints(boxes, labels, points)


def _match(
    truth: LabelledPoints, found: LabelledPoints, iou_threshold: float
) -> Sequence[tuple[int, int]]:
    """Pairs of a detection and an object."""
    assert found.scores is not None
    if not len(truth.boxes):
        return []
    ious = _pairwise_iou(found.boxes, truth.boxes)
    ious[found.labels[:, None] != truth.labels] = 0
    pairs = []
    for detection in np.argsort(-found.scores, kind="stable").tolist():
        target = int(ious[detection].argmax())
        if ious[detection, target] >= iou_threshold:
            ious[:, target] = 0
            pairs.append((detection, target))
    return pairs


def _pairwise_iou(boxes: ndarray, others: ndarray) -> ndarray:
    """(M, N)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(2)
    areas = [(each[:, 2:] - each[:, :2]).prod(1) for each in (boxes, others)]
    return shared / np.maximum(areas[0][:, None] + areas[1] - shared, 1e-12)
