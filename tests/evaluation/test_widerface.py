"""WIDER FACE's average precision on faces whose result can be told by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from metaheads.evaluation import WiderFace, WiderFaceTruth
from metaheads.evaluation.widerface import LEVELS

A, B = "0--Parade/a", "1--Riot/b"


def make_truth() -> WiderFaceTruth:
    """Two faces in image a, one in b; the second of a counts as hard only."""
    boxes = {
        A: np.array([[10, 10, 40, 40], [100, 100, 20, 20]], float),
        B: np.array([[5, 5, 60, 60]], float),
    }
    everywhere = {A: np.array([True, False]), B: np.array([True])}
    hard = {A: np.array([True, True]), B: np.array([True])}
    return WiderFaceTruth(boxes, dict(zip(LEVELS, (everywhere, everywhere, hard), strict=True)))


def rows(*given) -> np.ndarray:
    return np.array(given, float).reshape(-1, 5)


def evaluate(found: dict[str, np.ndarray], **options) -> dict[str, float]:
    total = WiderFace(make_truth(), **options)
    for name, own in found.items():
        total.add(name, own)
    return total.compute().precision


def test_all_found():
    found = {
        A: rows([10, 10, 40, 40, 0.9], [100, 100, 20, 20, 0.5]),
        B: rows([5, 5, 60, 60, 0.8]),
    }
    assert evaluate(found) == {"easy": 1.0, "medium": 1.0, "hard": 1.0}


def test_a_face_of_another_level_is_neither_right_nor_wrong():
    first = {A: rows([100, 100, 20, 20, 0.9], [10, 10, 40, 40, 0.5])}
    # Of two easy faces one is found at full precision; of three hard ones two.
    assert evaluate(first) == {"easy": 0.5, "medium": 0.5, "hard": pytest.approx(2 / 3)}


def test_a_second_detection_of_a_face_is_wrong():
    twice = {A: rows([10, 10, 40, 40, 0.9], [11, 10, 40, 40, 0.8]), B: rows([5, 5, 60, 60, 0.1])}
    # Recall 1/2 at precision 1, then 2 of 3.
    assert evaluate(twice)["easy"] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_order_of_the_rows_and_scale_of_the_scores_do_not_matter():
    found = {A: rows([10, 10, 40, 40, 0.9], [300, 0, 9, 9, 0.7]), B: rows([5, 5, 60, 60, 0.4])}
    turned = {name: own[::-1] for name, own in found.items()}
    halved = {name: own * (1, 1, 1, 1, 0.5) for name, own in found.items()}
    assert evaluate(found) == evaluate(turned) == evaluate(halved)
    assert evaluate(found)["easy"] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_the_better_detection_takes_the_face_wherever_it_stands():
    found = {A: rows([10, 10, 40, 40, 0.1], [300, 0, 9, 9, 0.5], [10, 10, 40, 40, 0.9])}
    assert evaluate(found)["easy"] == 0.5


def test_equal_scores_nothing_found_and_empty_lists():
    with np.errstate(all="raise"):
        assert evaluate({A: rows([10, 10, 40, 40, 1.0])})["easy"] == 0.5
    assert evaluate({}) == evaluate({A: rows()}) == dict.fromkeys(LEVELS, 0.0)
    truth = make_truth()
    for own in truth.counted.values():
        own[A][:] = own[B][:] = False
    assert math.isnan(WiderFace(truth).compute().precision["easy"])


def test_both_ends_of_a_box_count():
    # 10 x 10 against 10 x 5: without the +1, 0.5; with it 66 / 121.
    truth = make_truth()
    truth.boxes[B] = np.array([[0, 0, 10, 10]], float)
    total = WiderFace(truth, iou_threshold=0.53)
    total.add(B, rows([0, 0, 10, 5, 1]))
    assert total.compute().precision["easy"] == 0.5


def test_update_takes_corners_and_paths():
    total = WiderFace(make_truth(), whole_pixels=True)
    total.update("/data/images/1--Riot/b.jpg", np.array([[5.9, 5.2, 65.7, 65.1]]), np.ones(1))
    assert total.found[B].tolist() == [[5, 5, 60, 60, 1]]
    with pytest.raises(ValueError, match="2--Demo/c is no image"):
        total.update("images/2--Demo/c.jpg", np.zeros((0, 4)), np.zeros(0))


def test_submission_comes_back(tmp_path):
    total = WiderFace(make_truth())
    total.add(A, rows([100, 100, 20, 20, 0.25], [10.125, 10, 40, 40, 0.75]))
    total.write_submission(tmp_path)
    text = (tmp_path / f"{A}.txt").read_text()
    assert text == "a.jpg\n2\n10.125 10 40 40 0.75\n100 100 20 20 0.25\n"
    assert (tmp_path / f"{B}.txt").read_text() == "b.jpg\n0\n"
    again = WiderFace(make_truth())
    again.read_submission(tmp_path)
    assert again.compute() == total.compute()


def test_incomplete_and_malformed_submissions_are_named(tmp_path):
    total = WiderFace(make_truth())
    total.write_submission(tmp_path)
    (tmp_path / f"{A}.txt").write_text("a.jpg\n1\n1 2 3 4\n")
    with pytest.raises(ValueError, match=r"a\.txt, line 3"):
        total.read_submission(tmp_path)
    for text in (
        "a.jpg\n2\n1 2 3 4 0.5\n",
        "1 2 3 4 0.7\n1 2 3 4 0.6\n1 2 3 4 0.5\n",
        "",
        "a.jpg\n",
    ):
        (tmp_path / f"{A}.txt").write_text(text)
        with pytest.raises(ValueError, match=r"a\.txt, line 2: expected the number of faces"):
            total.read_submission(tmp_path)
    (tmp_path / f"{B}.txt").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 files: 1--Riot/b\.txt"):
        total.read_submission(tmp_path)


def write_mat(folder, levels=LEVELS) -> None:
    """The official files' nesting of cells, for the truth above."""
    from scipy.io import savemat

    def cells(values: list) -> np.ndarray:
        column = np.empty((len(values), 1), object)
        for index, value in enumerate(values):
            column[index, 0] = value
        return column

    truth = make_truth()
    savemat(
        folder / "wider_face_val.mat",
        {
            "event_list": cells([A.split("/")[0], B.split("/")[0]]),
            "file_list": cells([cells([A.split("/")[1]]), cells([B.split("/")[1]])]),
            "face_bbx_list": cells([cells([truth.boxes[A]]), cells([truth.boxes[B]])]),
        },
    )
    for level in levels:
        lists = [cells([np.flatnonzero(truth.counted[level][n])[:, None] + 1]) for n in (A, B)]
        savemat(folder / f"wider_{level}_val.mat", {"gt_list": cells(lists)})


def test_official_files(tmp_path):
    write_mat(tmp_path)
    read, expected = WiderFaceTruth.from_folder(tmp_path), make_truth()
    assert list(read.boxes) == [A, B]
    for name in (A, B):
        assert np.array_equal(read.boxes[name], expected.boxes[name])
        for level in LEVELS:
            assert np.array_equal(read.counted[level][name], expected.counted[level][name])


def test_missing_and_wrong_official_files_are_named(tmp_path):
    write_mat(tmp_path, levels=("easy", "hard"))
    with pytest.raises(FileNotFoundError, match=r"lacks wider_medium_val\.mat; they are in"):
        WiderFaceTruth.from_folder(tmp_path)
    (tmp_path / "wider_medium_val.mat").write_text(json.dumps({}))
    with pytest.raises(ValueError, match=r"wider_medium_val\.mat is no such file"):
        WiderFaceTruth.from_folder(tmp_path)
