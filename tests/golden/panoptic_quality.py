"""The golden cases of PQ and VPQ (the notes in the cases; panopticapi and VPSNet's evaluation)."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import torch

from metaheads.evaluation import LabelledSegment, PanopticQuality
from metaheads.evaluation.panoptic_quality import IGNORED_SHARE, MATCH_IOU, VOID, Score

from .cases import Case, UnknownCase, check_known

KNOWN = {
    "vpq": {
        "window_sizes": [[1, 2, 3, 4]],
        "window_k": [[0, 5, 10, 15]],
        "window_stride": [1],
        "things": [[11, 12]],
        "stuff": [[0, 1, 2]],
        "void_id": [VOID],
        "match_iou": [MATCH_IOU],
        "ignore_fraction": [IGNORED_SHARE],
    }
}
Segments = dict[tuple[int, int], list[LabelledSegment]]


def run(case: Case) -> None:
    """Runs a case of any sort and compares all of its arrays."""
    if case.sort not in KNOWN:
        raise UnknownCase(f"unknown sort {case.sort!r} of panoptic_quality")
    check_known(case.options, KNOWN[case.sort], f"{case.system} {case.sort}")
    run_vpq(case)
    case.assert_all_used()


def run_vpq(case: Case) -> None:
    options, scalars = case.options, case.about["scalars_float64"]
    is_thing = {each: each in options["things"] for each in options["things"] + options["stuff"]}
    given = {int(number): kind == "thing" for number, kind in scalars["categories"].items()}
    assert given == is_thing
    quality = PanopticQuality(is_thing, options["window_sizes"])
    truth, found = case.array("gt").numpy(), case.array("pred").numpy()
    truth_segments, found_segments = read_segments(case, "gt"), read_segments(case, "pred")
    for video in range(len(truth)):
        keys = [(video, frame) for frame in range(len(truth[video]))]
        quality.update(
            truth[video],
            [truth_segments[key] for key in keys],
            found[video],
            [found_segments[key] for key in keys],
        )
    scores = quality.compute()
    for k, size, statistics in zip(
        options["window_k"], options["window_sizes"], quality.statistics, strict=True
    ):
        expected = scalars[f"k{k}"]
        assert len(expected["per_category"]) == len(quality.is_thing)
        for category, row in zip(quality.is_thing, statistics, strict=True):
            each = expected["per_category"][str(category)]
            where = f"k = {k}, category {category}"
            assert row[1:].tolist() == [each["tp"], each["fp"], each["fn"]], where
            assert math.isclose(row[0], each["iou"], rel_tol=1e-12), where
        for group, values in expected["pq_sq_rq"].items():
            assert_close(getattr(scores.windows[size], group), values)
    for group, values in scalars["panopticapi_pq_sq_rq"].items():
        assert_close(getattr(scores.windows[1], group), values)
    means = [score.pq for score in scores.mean[:3]]
    assert np.allclose(means, scalars["vpq_all_things_stuff"], rtol=1e-12, atol=0)
    rows = [[score.pq for score in scores.windows[n][:3]] for n in options["window_sizes"]]
    case.compare("vpq", torch.tensor(rows, dtype=torch.float32))


def read_segments(case: Case, side: str) -> Segments:
    """By video and frame, in the stored order."""
    segments: Segments = defaultdict(list)
    for video, frame, *segment in case.array(f"{side}_segments").tolist():
        segments[video, frame].append(LabelledSegment(*segment))
    return segments


def assert_close(ours: Score, theirs: list[float]) -> None:
    assert np.allclose(ours, theirs, rtol=1e-12, atol=0), f"{ours}, not {theirs}"
