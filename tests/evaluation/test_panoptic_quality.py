"""PQ and VPQ: numbers that a human can check."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metaheads.datasets.shapes import make_shapes
from metaheads.datasets.shapes.annotations import to_colors
from metaheads.errors import tells_user
from metaheads.evaluation import (
    LabelledSegment,
    PanopticFiles,
    PanopticQuality,
    SegmentationError,
    evaluate_panoptic_files,
)

CAR, DOG, SKY, SEA = 3, 7, 20, 25
IS_THING = {CAR: True, DOG: True, SKY: False, SEA: False}
Segment = LabelledSegment


def evaluate(truth, truth_segments, found, found_segments) -> PanopticQuality:
    """One image of one row."""
    quality = PanopticQuality(IS_THING)
    maps = [np.array([each], None if each else int) for each in (truth, found)]
    quality.update(maps[:1], [truth_segments], maps[1:], [found_segments])
    return quality


def row(quality: PanopticQuality, category: int) -> list[float]:
    """Sum of IoU, matched, wrong, missed."""
    return quality.statistics[0, list(IS_THING).index(category)].tolist()


def test_a_match_with_iou_0_6_and_a_miss():
    # Car 5 has 8 pixels, 6 of them in a prediction of 8: 6 / 10. Dog 6 is not found.
    truth = [5] * 8 + [6] * 2 + [9] * 2
    found = [0] * 2 + [1] * 6 + [1] * 2 + [2] * 2
    quality = evaluate(
        truth,
        [Segment(5, CAR), Segment(6, DOG), Segment(9, SKY)],
        found,
        [Segment(1, CAR), Segment(2, SKY)],
    )
    assert row(quality, CAR) == [0.6, 1, 0, 0]
    assert row(quality, DOG) == [0, 0, 0, 1]
    assert row(quality, SKY) == [1, 1, 0, 0]
    scores = quality.compute().windows[1]
    assert scores.things == ((0.6 + 0) / 2, (0.6 + 0) / 2, 0.5)
    assert scores.stuff == (1, 1, 1)
    assert scores.all == pytest.approx((1.6 / 3, 1.6 / 3, 2 / 3))
    assert set(scores.categories) == {CAR, DOG, SKY}, "the sea is on neither side"


def test_half_is_no_match():
    # IoU 2 / 4: wrong and missed.
    quality = evaluate([5, 5, 5, 5], [Segment(5, CAR)], [1, 1, 0, 0], [Segment(1, CAR)])
    assert row(quality, CAR) == [0, 0, 1, 1]
    assert quality.compute().windows[1].all == (0, 0, 0)


def test_another_category_is_no_match():
    quality = evaluate([5, 5], [Segment(5, CAR)], [1, 1], [Segment(1, DOG)])
    assert row(quality, CAR) == [0, 0, 0, 1] and row(quality, DOG) == [0, 0, 1, 0]


def test_void_of_the_truth_is_in_no_union():
    # The prediction has 4 pixels on the car and 4 on void: 4 / 6 with the 2 that it misses.
    truth = [5] * 6 + [0] * 4
    found = [0] * 2 + [1] * 8
    quality = evaluate(truth, [Segment(5, CAR)], found, [Segment(1, CAR)])
    assert row(quality, CAR) == [4 / 6, 1, 0, 0]


def test_void_of_the_prediction_is_in_the_union():
    quality = evaluate([5] * 5, [Segment(5, CAR)], [1] * 4 + [0], [Segment(1, CAR)])
    assert row(quality, CAR) == [0.8, 1, 0, 0]


@pytest.mark.parametrize(("on_void", "wrong"), [(3, 0), (2, 1), (1, 1)])
def test_a_prediction_mostly_on_void_is_not_wrong(on_void, wrong):
    truth = [0] * on_void + [9] * (4 - on_void + 6)
    found = [1] * 4 + [2] * 6
    quality = evaluate(truth, [Segment(9, SKY)], found, [Segment(1, CAR), Segment(2, SKY)])
    assert row(quality, CAR) == [0, 0, wrong, 0]


@pytest.mark.parametrize(("category", "wrong"), [(CAR, 0), (DOG, 1)])
def test_a_crowd_excuses_its_own_category(category, wrong):
    truth = [5] * 4 + [9] * 6
    found = [1] * 3 + [2] * 7
    quality = evaluate(
        truth,
        [Segment(5, CAR, True), Segment(9, SKY)],
        found,
        [Segment(1, category), Segment(2, SKY)],
    )
    assert row(quality, category) == [0, 0, wrong, 0], "and a crowd is neither found nor missed"
    assert row(quality, SKY) == [6 / 7, 1, 0, 0], "it stays in the union"


def test_void_and_crowd_excuse_together():
    truth = [5, 0, 9, 9, 9, 9]
    found = [1, 1, 1, 2, 2, 2]
    segments = [Segment(5, CAR, True), Segment(9, SKY)]
    quality = evaluate(truth, segments, found, [Segment(1, CAR), Segment(2, SKY)])
    assert row(quality, CAR) == [0, 0, 0, 0]


@pytest.mark.parametrize(("order", "wrong"), [((5, 6), 1), ((6, 5), 0)])
def test_of_several_crowds_the_last_one_counts(order, wrong):
    truth = [5] * 4 + [6] * 4
    segments = [Segment(each, CAR, True) for each in order]
    quality = evaluate(truth, segments, [1] * 4 + [0] * 4, [Segment(1, CAR)])
    assert row(quality, CAR) == [0, 0, wrong, 0]


def test_one_pixel():
    quality = evaluate(
        [5, 9], [Segment(5, CAR), Segment(9, SKY)], [2**24 - 1, 0], [Segment(2**24 - 1, CAR)]
    )
    assert row(quality, CAR) == [1, 1, 0, 0] and row(quality, SKY) == [0, 0, 0, 1]


def test_only_void():
    scores = evaluate([0, 0], [], [0, 0], []).compute()
    assert all(math.isnan(value) for group in scores.mean[:3] for value in group)
    assert not scores.mean.categories
    quality = evaluate([0, 0], [], [1, 1], [Segment(1, CAR)])
    assert not quality.statistics.any(), "all of it lies on void"


def test_an_image_without_pixels():
    assert not evaluate([], [], [], []).statistics.any()


def test_windows_of_a_video():
    """A car that changes its id in the second of three frames."""
    truth = [np.full((1, 4), 5)] * 3
    found = [np.full((1, 4), each) for each in (1, 1, 2)]
    quality = PanopticQuality(IS_THING, (1, 2, 3, 4))
    segments = [[Segment(1, CAR)], [Segment(1, CAR)], [Segment(2, CAR)]]
    quality.update(truth, [[Segment(5, CAR)]] * 3, found, segments)
    # 3 frames; 2 pairs: one matched, one half and half; 1 triple with IoU 8 / 12; none of four.
    expected = [[3, 3, 0, 0], [1, 1, 2, 1], [8 / 12, 1, 1, 0], [0, 0, 0, 0]]
    assert quality.statistics[:, 0].tolist() == expected
    scores = quality.compute()
    assert [scores.windows[size].things.pq for size in (1, 2)] == [1, 1 / 2.5]
    assert math.isnan(scores.windows[4].all.pq) and math.isnan(scores.mean.all.pq)
    three = PanopticQuality(IS_THING, (1, 2, 3))
    three.update(truth, [[Segment(5, CAR)]] * 3, found, segments)
    vpq = (1 + 1 / 2.5 + (8 / 12) / 1.5) / 3
    assert three.compute().mean.all.pq == pytest.approx(vpq, rel=1e-14)
    assert three.compute().mean.categories[CAR].pq == pytest.approx(vpq, rel=1e-14)
    assert three.compute().to_percent()["PQ_th"] == pytest.approx(100 * vpq, rel=1e-14)


def drawn(seed: int) -> tuple:
    """A video of three frames with ten segments, and a prediction that is shifted."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 11, (3, 6, 8))
    truth = coarse.repeat(5, 1).repeat(5, 2)
    categories = rng.choice(list(IS_THING), 11)
    sides = []
    for maps in (truth, np.roll(truth, 2, 2)):
        present = [np.unique(each[each > 0]).tolist() for each in maps]
        segments = [[Segment(i, int(categories[i])) for i in ids] for ids in present]
        sides += [list(maps), segments]
    return tuple(sides)


def test_merged_is_as_in_one_pass():
    whole, left, right = (PanopticQuality(IS_THING, (1, 2)) for _ in range(3))
    for seed in range(6):
        whole.update(*drawn(seed))
        (left if seed < 2 else right).update(*drawn(seed))
    left.merge(right)
    np.testing.assert_allclose(left.statistics, whole.statistics, rtol=1e-14)
    assert left.statistics[..., 1].sum() > 20 and left.statistics[..., 2:].any()
    with pytest.raises(ValueError, match="other categories or window sizes"):
        left.merge(PanopticQuality(IS_THING))


def test_the_layout_in_memory_does_not_matter():
    truth, truth_segments, found, found_segments = drawn(0)
    expected, turned = PanopticQuality(IS_THING), PanopticQuality(IS_THING)
    expected.update(truth, truth_segments, found, found_segments)
    fortran = [np.asfortranarray(each).astype(np.uint16) for each in found]
    turned.update(truth, truth_segments, fortran, found_segments)
    assert (expected.statistics == turned.statistics).all()


@pytest.mark.parametrize(
    ("found", "segments", "words"),
    [
        ([1, 1, 1], [Segment(1, CAR)], r"frame 0: the prediction has the size \(1, 3\)"),
        ([1, 8], [Segment(1, CAR)], "frame 0, prediction: ids in the map without a segment: 8"),
        ([1, 1], [Segment(1, CAR), Segment(4, CAR)], "segments without a pixel in the map: 4"),
        ([1, 1], [Segment(1, CAR), Segment(1, SKY)], "more than one segment .*: 1"),
        ([0, 0], [Segment(0, CAR)], "more than one segment .*: 0"),
        ([1, 1], [Segment(1, 99)], r"frame 0: categories \[99\] are not known"),
        ([1.0, 1.0], [Segment(1, CAR)], "ids are integers, the map has float64"),
    ],
)
def test_bad_input(found, segments, words):
    with pytest.raises(SegmentationError, match=words):
        evaluate([5, 5], [Segment(5, CAR)], found, segments)


def test_bad_arguments():
    with pytest.raises(ValueError, match="is_thing is empty"):
        PanopticQuality({})
    with pytest.raises(ValueError, match="window_sizes must be 1 or more"):
        PanopticQuality(IS_THING, (0,))
    with pytest.raises(ValueError, match="a size twice"):
        PanopticQuality(IS_THING, (1, 1))
    maps, segments = [np.array([[5]])], [[Segment(5, CAR)]]
    with pytest.raises(SegmentationError, match="a video of 1 frames"):
        PanopticQuality(IS_THING).update(maps, segments, maps * 2, segments)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small embedded data set, and predictions of val and of the clips that are shifted."""
    folder = tmp_path_factory.mktemp("panoptic")
    make_shapes(
        folder, num_train=1, num_val=40, num_clips=2, num_faces=(0, 0), size=(48, 64), seed=5
    )
    for name, png_folder in (("panoptic_val", "panoptic_val"), ("clips", "panoptic_clips")):
        data = json.loads((folder / f"annotations/{name}.json").read_text())
        for annotation in data["annotations"]:
            path = folder / "annotations" / png_folder / annotation["file_name"]
            ids = np.array(Image.open(path)).astype(np.int64) @ (1, 256, 65536)
            ids = np.roll(ids, 2, 1)
            first = annotation["segments_info"][:1]
            if len(annotation["segments_info"]) > 2:  # the first object is not found
                ids[ids == first[0]["id"]] = 0
                del annotation["segments_info"][0]
            out = folder / "found" / png_folder / annotation["file_name"]
            out.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(to_colors(ids)).save(out)
        (folder / f"found/{name}.json").write_text(json.dumps(data))
    return folder


def paths(folder: Path, name: str, png_folder: str) -> tuple[Path, Path, Path, Path]:
    truth, found = folder / "annotations", folder / "found"
    return truth / f"{name}.json", truth / png_folder, found / f"{name}.json", found / png_folder


def test_files_by_one_process_and_by_two(files):
    given = paths(files, "panoptic_val", "panoptic_val")
    seen: list[int] = []
    one = evaluate_panoptic_files(*given, progress=seen.append)
    assert seen == [32, 8]
    assert evaluate_panoptic_files(*given, processes=2) == one, "to the last digit"
    assert 0.2 < one.mean.all.pq < 0.9
    perfect = evaluate_panoptic_files(*given[:2], *given[:2])
    assert perfect.mean.all == (1, 1, 1) and set(perfect.to_percent().values()) == {100.0}


def test_files_of_videos(files):
    given = paths(files, "clips", "panoptic_clips")
    scores = evaluate_panoptic_files(*given, window_sizes=(1, 2, 3))
    assert scores.windows[1].all.pq > scores.windows[3].all.pq > 0.1
    data = json.loads(given[0].read_text())
    quality = PanopticQuality(
        {each["id"]: each["isthing"] for each in data["categories"]}, (1, 2, 3)
    )
    found_of = {each["image_id"]: each for each in json.loads(given[2].read_text())["annotations"]}
    for video in data["videos"]:
        truth = [each for each in data["annotations"] if each["video_id"] == video["id"]]
        found = [found_of[each["image_id"]] for each in truth]
        quality.update(*read_side(truth, given[1]), *read_side(found, given[3]))
    assert quality.compute() == scores


def read_side(annotations: list[dict], folder: Path) -> tuple[list, list]:
    maps = [np.array(Image.open(folder / each["file_name"])) for each in annotations]
    segments = [
        [Segment(s["id"], s["category_id"], bool(s["iscrowd"])) for s in each["segments_info"]]
        for each in annotations
    ]
    return [each.astype(np.int64) @ (1, 256, 65536) for each in maps], segments


@pytest.mark.parametrize("processes", [1, 2])
def test_errors_of_files_name_the_image(files, tmp_path, processes):
    truth_json, truth_folder, found_json, found_folder = paths(
        files, "panoptic_val", "panoptic_val"
    )
    data = json.loads(found_json.read_text())
    absent = data["annotations"].pop(3)["image_id"]
    (tmp_path / "found.json").write_text(json.dumps(data))
    given = truth_json, truth_folder, tmp_path / "found.json", found_folder
    with pytest.raises(SegmentationError, match=f"no prediction for 1 images.* {absent}"):
        evaluate_panoptic_files(*given, processes=processes)
    data = json.loads(found_json.read_text())
    name = data["annotations"][3]["file_name"]
    del data["annotations"][3]["segments_info"][-1]
    (tmp_path / "found.json").write_text(json.dumps(data))
    words = f"{name}.*prediction: ids in the map without"
    with pytest.raises(SegmentationError, match=words) as caught:
        evaluate_panoptic_files(*given, processes=processes)
    assert tells_user(caught.value), "one line for the user, also from another process"
    with pytest.raises(SegmentationError, match="is not there or broken"):
        evaluate_panoptic_files(*given[:3], tmp_path, processes=processes)
    (tmp_path / "found.json").write_text("[]")
    with pytest.raises(SegmentationError, match="no COCO panoptic file"):
        evaluate_panoptic_files(*given, processes=processes)


def test_crowds_of_a_file(tmp_path):
    infos = [{"id": 5, "category_id": CAR, "iscrowd": 1}, {"id": 6, "category_id": SKY}]
    record = {"image_id": "a", "file_name": "a.png", "segments_info": infos}
    (tmp_path / "truth.json").write_text(json.dumps({"annotations": [record]}))
    files = PanopticFiles(tmp_path / "truth.json", tmp_path)
    assert files.segments_of("a") == [Segment(5, CAR, True), Segment(6, SKY)]
    (tmp_path / "truth.json").write_text(json.dumps({"annotations": [record, record]}))
    with pytest.raises(SegmentationError, match="an image has more than one annotation"):
        PanopticFiles(tmp_path / "truth.json", tmp_path)


def test_as_panopticapi(files):
    reason = "panopticapi is on no package index; install it from its repository to compare"
    theirs = pytest.importorskip("panopticapi.evaluation", reason=reason)
    given = paths(files, "panoptic_val", "panoptic_val")
    ours = evaluate_panoptic_files(*given).mean
    expected = theirs.pq_compute(*map(str, (given[0], given[2], given[1], given[3])))
    for group, name in ((ours.all, "All"), (ours.things, "Things"), (ours.stuff, "Stuff")):
        assert group == pytest.approx([expected[name][key] for key in ("pq", "sq", "rq")])
