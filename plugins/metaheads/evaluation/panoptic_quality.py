"""Panoptic quality of images (PQ) and of videos (VPQ).

Kirillov et al., Panoptic Segmentation, CVPR 2019 (arXiv:1801.00868); Kim et al., Video Panoptic
Segmentation, CVPR 2020 (arXiv:2006.11339). Void and crowd count as in the official evaluations of
both, except that the areas of the ground truth are those of its map and not numbers in a file, and
that a segment without a pixel is an error.

VPQ looks at all windows of n consecutive labelled frames of a video, each as one tall image in
which an id is one segment. PQ is the case n = 1.

Letters: S window sizes, C categories, T segments of the truth, F segments found, H, W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

VOID = 0
MATCH_IOU = 0.5  # a match needs more: then no segment can have two
IGNORED_SHARE = 0.5  # a segment found is no error where more of it lies on void or on its crowd

# The columns of the statistics.
SUM_OF_IOU, MATCHED, WRONG, MISSED = range(4)


class SegmentationError(ValueError):
    """A map and its segments, or truth and prediction, do not belong together."""


class LabelledSegment(NamedTuple):
    """A segment: its id in the map, its category, and whether it is a crowd (truth only)."""

    id: int
    category: int
    is_crowd: bool = False


class Score(NamedTuple):
    """Fractions: panoptic quality is segmentation quality times recognition quality."""

    pq: float
    sq: float
    rq: float


class WindowScores(NamedTuple):
    """Scores of one window size; a group without any category is nan.

    categories: without those that neither truth nor prediction has.
    """

    all: Score
    things: Score
    stuff: Score
    categories: dict[int, Score]


class PanopticScores(NamedTuple):
    """Scores by window size, and their mean (VPQ).

    mean: a group is nan, and a category left out, unless every window size has it.
    """

    windows: dict[int, WindowScores]
    mean: WindowScores

    def to_percent(self) -> dict[str, float]:
        """The means as PQ, SQ, RQ of all, PQ_th, ... of things, PQ_st, ... of stuff."""
        groups = {"": self.mean.all, "_th": self.mean.things, "_st": self.mean.stuff}
        return {
            f"{name.upper()}{suffix}": 100 * value
            for suffix, score in groups.items()
            for name, value in score._asdict().items()
        }

    def to_table(self, names: Mapping[int, str]) -> str:
        """The means in percent as lines of text; `names` of categories."""
        groups = {"all": self.mean.all, "things": self.mean.things, "stuff": self.mean.stuff}
        rows = groups | {names.get(each, str(each)): s for each, s in self.mean.categories.items()}
        width = max(map(len, rows))
        lines = [f"{'':{width}} {'PQ':>7} {'SQ':>7} {'RQ':>7}"]
        for name, score in rows.items():
            lines.append(f"{name:{width}} " + " ".join(f"{100 * value:7.3f}" for value in score))
        return "\n".join(lines)


class Overlaps(NamedTuple):
    """All that PQ needs to know of a frame or of a window: small, whatever the size of the maps.

    pixels: (1 + T, 1 + F) int64 pixels that a segment of the truth shares with one that was found;
        row and column 0 are void.
    truth, found: the segments of the other rows and columns, in the order of first appearance.
    """

    pixels: np.ndarray
    truth: tuple[LabelledSegment, ...]
    found: tuple[LabelledSegment, ...]

    @classmethod
    def of_frame(
        cls,
        truth: np.ndarray,
        truth_segments: Iterable[LabelledSegment],
        found: np.ndarray,
        found_segments: Iterable[LabelledSegment],
        name: str = "a frame",
    ) -> Overlaps:
        """Counts the pixels of one frame.

        Args:
            truth, found: (H, W) integer ids of segments, 0 is void.
            truth_segments, found_segments: those in the map.
            name: of the frame, for messages.

        Raises:
            SegmentationError: maps of different size; ids without a segment, or segments without a
                pixel.
        """
        truth, found = np.asarray(truth), np.asarray(found)
        if truth.shape != found.shape:
            raise SegmentationError(
                f"{name}: the prediction has the size {found.shape}, the truth {truth.shape}"
            )
        sides = tuple(truth_segments), tuple(found_segments)
        starts, lengths = _find_runs(truth.ravel(), found.ravel())
        rows = _find_segments(truth.ravel()[starts], sides[0], f"{name}, truth")
        columns = _find_segments(found.ravel()[starts], sides[1], f"{name}, prediction")
        shape = len(sides[0]) + 1, len(sides[1]) + 1
        counts = np.bincount(rows * shape[1] + columns, lengths, minlength=math.prod(shape))
        return cls(counts.reshape(shape).astype(np.int64), *sides)

    @classmethod
    def of_window(cls, frames: Sequence[Overlaps]) -> Overlaps:
        """Consecutive frames as one image; a segment is what it is in its first frame."""
        if len(frames) == 1:
            return frames[0]
        truth = _number(frame.truth for frame in frames)
        found = _number(frame.found for frame in frames)
        pixels = np.zeros((len(truth) + 1, len(found) + 1), np.int64)
        for frame in frames:
            rows = [0, *(truth[each.id][0] for each in frame.truth)]
            columns = [0, *(found[each.id][0] for each in frame.found)]
            pixels[np.ix_(rows, columns)] += frame.pixels
        return cls(pixels, *(tuple(each for _, each in side.values()) for side in (truth, found)))


class PanopticQuality:
    """PQ, or VPQ over windows of several sizes.

    Statistics add up: those of several processes are joined by `merge`.

    Args:
        is_thing: category -> whether it is a thing (else stuff).
        window_sizes: consecutive frames per window; a video that is shorter has no such window.

    Attributes:
        statistics: (S, C, 4) float64: sum of IoU of the matched segments, number of matched, of
            wrongly found and of missed ones, for each window size and category (ascending).
    """

    def __init__(self, is_thing: Mapping[int, bool], window_sizes: Sequence[int] = (1,)) -> None:
        self.is_thing = {int(each): bool(is_thing[each]) for each in sorted(is_thing)}
        self.window_sizes = tuple(window_sizes)
        if not self.is_thing:
            raise ValueError("is_thing is empty: PQ needs the categories")
        if not self.window_sizes or min(self.window_sizes) < 1:
            raise ValueError(f"window_sizes must be 1 or more each, got {self.window_sizes}")
        if len(set(self.window_sizes)) < len(self.window_sizes):
            raise ValueError(f"window_sizes has a size twice: {self.window_sizes}")
        self._index = {category: index for index, category in enumerate(self.is_thing)}
        self.reset()

    def reset(self) -> None:
        self.statistics = np.zeros((len(self.window_sizes), len(self.is_thing), 4))

    def update(
        self,
        truth: Iterable[np.ndarray],
        truth_segments: Iterable[Iterable[LabelledSegment]],
        found: Iterable[np.ndarray],
        found_segments: Iterable[Iterable[LabelledSegment]],
        names: Sequence[str] | None = None,
    ) -> None:
        """Adds one video; an image is a video of one frame.

        Args:
            truth, found: (H, W) integer ids of segments per frame, 0 is void.
            truth_segments, found_segments: those in the map, per frame.
            names: of the frames, for messages.

        Raises:
            SegmentationError: as `Overlaps.of_frame`, a category that is unknown, or sequences of
                different length.
        """
        parts = [list(each) for each in (truth, truth_segments, found, found_segments)]
        names = [f"frame {index}" for index in range(len(parts[0]))] if names is None else names
        if lengths := {len(each) for each in (*parts, names)} - {len(parts[0])}:
            raise SegmentationError(f"a video of {len(parts[0])} frames has {lengths} of something")
        self.update_overlaps(map(Overlaps.of_frame, *parts, names), names)

    def update_overlaps(self, frames: Iterable[Overlaps], names: Sequence[str]) -> None:
        """Adds one video whose frames are already counted."""
        self.statistics += self.measure(frames, names)

    def measure(self, frames: Iterable[Overlaps], names: Sequence[str]) -> np.ndarray:
        """The statistics (S, C, 4) of one video, without adding them."""
        frames = list(frames)
        for frame, name in zip(frames, names, strict=True):
            used = {each.category for each in (*frame.truth, *frame.found)}
            if unknown := sorted(used - self._index.keys()):
                raise SegmentationError(f"{name}: categories {unknown} are not known to PQ")
        statistics = np.zeros_like(self.statistics)
        for index, size in enumerate(self.window_sizes):
            for start in range(len(frames) - size + 1):
                window = Overlaps.of_window(frames[start : start + size])
                statistics[index] += _match(window, self._index)
        return statistics

    def merge(self, other: PanopticQuality) -> None:
        """Adds what another one has seen.

        Raises:
            ValueError: it has other categories or window sizes.
        """
        if (self.is_thing, self.window_sizes) != (other.is_thing, other.window_sizes):
            raise ValueError("statistics of other categories or window sizes cannot be merged")
        self.statistics += other.statistics

    def compute(self) -> PanopticScores:
        """The scores of all that was added."""
        windows = {
            size: self._score(statistics)
            for size, statistics in zip(self.window_sizes, self.statistics, strict=True)
        }
        every = list(windows.values())
        common = [each for each in self.is_thing if all(each in w.categories for w in every)]
        mean = WindowScores(
            _mean([window.all for window in every]),
            _mean([window.things for window in every]),
            _mean([window.stuff for window in every]),
            {each: _mean([window.categories[each] for window in every]) for each in common},
        )
        return PanopticScores(windows, mean)

    def _score(self, statistics: np.ndarray) -> WindowScores:
        """(C, 4) -> scores of one window size."""
        categories = {
            category: _to_score(*row.tolist())
            for category, row in zip(self.is_thing, statistics, strict=True)
            if row[MATCHED:].any()
        }
        things = [score for each, score in categories.items() if self.is_thing[each]]
        stuff = [score for each, score in categories.items() if not self.is_thing[each]]
        return WindowScores(_mean([*things, *stuff]), _mean(things), _mean(stuff), categories)


def _find_runs(truth: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths of the runs of pixels in which neither map changes."""
    is_start = np.ones(len(truth), bool)
    np.not_equal(truth[1:], truth[:-1], out=is_start[1:])
    is_start[1:] |= found[1:] != found[:-1]
    starts = np.flatnonzero(is_start)
    return starts, np.diff(starts, append=len(truth))


def _find_segments(ids: np.ndarray, segments: Sequence[LabelledSegment], where: str) -> np.ndarray:
    """Ids -> 1 + index of their segment, 0 for void; `ids` has every id of the map."""
    if ids.dtype.kind not in "iu":
        raise SegmentationError(f"{where}: ids are integers, the map has {ids.dtype}")
    known = np.array([VOID, *(each.id for each in segments)], np.int64)
    order = np.argsort(known, kind="stable")
    ascending = known[order]
    if (twice := ascending[1:][ascending[1:] == ascending[:-1]]).size:
        raise SegmentationError(
            f"{where}: ids of more than one segment (0 is void): {_some(np.unique(twice))}"
        )
    places = np.searchsorted(ascending, ids).clip(max=len(known) - 1)
    if (strange := ids[ascending[places] != ids]).size:
        raise SegmentationError(
            f"{where}: ids in the map without a segment: {_some(np.unique(strange))}"
        )
    is_there = np.bincount(places, minlength=len(known)) > 0
    if (absent := ascending[~is_there & (ascending != VOID)]).size:
        raise SegmentationError(f"{where}: segments without a pixel in the map: {_some(absent)}")
    return order[places]


def _some(ids: np.ndarray) -> str:
    return ", ".join(map(str, ids[:5].tolist())) + (", ..." if len(ids) > 5 else "")


def _number(frames: Iterable[Sequence[LabelledSegment]]) -> dict[int, tuple[int, LabelledSegment]]:
    """Id -> number from 1 and segment, in the order of first appearance."""
    numbered: dict[int, tuple[int, LabelledSegment]] = {}
    for frame in frames:
        for segment in frame:
            numbered.setdefault(segment.id, (len(numbered) + 1, segment))
    return numbered


def _match(window: Overlaps, index: Mapping[int, int]) -> np.ndarray:
    """(C, 4) statistics of one window; `index` of a category in them."""
    pixels, truth, found = window
    labels = np.array([index[each.category] for each in truth], np.int64)  # (T,)
    found_labels = np.array([index[each.category] for each in found], np.int64)  # (F,)
    is_crowd = np.array([each.is_crowd for each in truth], bool)  # (T,)
    shared, on_void = pixels[1:, 1:], pixels[0, 1:]  # (T, F), (F,)
    areas = pixels[:, 1:].sum(0)  # (F,)
    # Void in the truth belongs to no union; void in the prediction is nothing special.
    unions = pixels[1:].sum(1)[:, None] + (areas - on_void) - shared  # (T, F)
    is_match = (
        (shared > MATCH_IOU * unions) & (labels[:, None] == found_labels) & ~is_crowd[:, None]
    )
    is_missed = ~is_match.any(1) & ~is_crowd
    ignored = on_void + _on_crowd(pixels, labels, is_crowd, found_labels, len(index))
    is_wrong = ~is_match.any(0) & (ignored <= IGNORED_SHARE * areas)

    matched = labels[np.nonzero(is_match)[0]]
    statistics = np.empty((len(index), 4))
    for column, counted, weights in (
        (SUM_OF_IOU, matched, shared[is_match] / unions[is_match]),
        (MATCHED, matched, None),
        (WRONG, found_labels[is_wrong], None),
        (MISSED, labels[is_missed], None),
    ):
        statistics[:, column] = np.bincount(counted, weights, minlength=len(index))
    return statistics


def _on_crowd(
    pixels: np.ndarray,
    labels: np.ndarray,
    is_crowd: np.ndarray,
    found_labels: np.ndarray,
    num_categories: int,
) -> np.ndarray:
    """(F,) pixels on the crowd of the own category; of several crowds only the last counts."""
    rows = np.zeros(num_categories, np.int64)  # 0 is that of void: no crowd
    rows[labels[is_crowd]] = np.flatnonzero(is_crowd) + 1  # the last of a category stays
    own = rows[found_labels]
    return np.where(own > 0, pixels[own, np.arange(1, pixels.shape[1])], 0)


def _to_score(sum_of_iou: float, matched: float, wrong: float, missed: float) -> Score:
    total = matched + wrong / 2 + missed / 2
    return Score(sum_of_iou / total, sum_of_iou / matched if matched else 0.0, matched / total)


def _mean(scores: Sequence[Score]) -> Score:
    """Of no score: nan."""
    if not scores:
        return Score(math.nan, math.nan, math.nan)
    return Score(*(math.fsum(values) / len(scores) for values in zip(*scores, strict=True)))
