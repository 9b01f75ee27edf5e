"""The normalised mean error on objects whose error can be told by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from metaheads.evaluation import LabelledPoints, NormalisedMeanError, PointErrors

NAN = float("nan")


def objects(boxes, points, scores=None, labels=None) -> LabelledPoints:
    boxes = np.array(boxes, float).reshape(-1, 4)
    labels = np.zeros(len(boxes), int) if labels is None else np.array(labels)
    scores = np.ones(len(boxes)) if scores is None else np.array(scores, float)
    return LabelledPoints(boxes, labels, np.array(points, float).reshape(len(boxes), 2, 2), scores)


def measure(truth: LabelledPoints, found: LabelledPoints) -> NormalisedMeanError:
    total = NormalisedMeanError()
    total.update(truth, found)
    return total


def test_error_is_in_parts_of_the_boxs_root():
    truth = objects([[0, 0, 40, 10]], [[[5, 5], [9, 5]]])  # root of the area: 20
    found = objects([[0, 0, 40, 10]], [[[8, 9], [9, 6]]])  # 5 and 1 pixels off
    scores = measure(truth, found).compute()
    assert scores == (pytest.approx(3 / 20), 1.0, 1.0)
    assert scores.to_percent() == {"NME": pytest.approx(15), "failures_10": 100, "matched": 100}


def test_unknown_points_do_not_count():
    truth = objects([[0, 0, 20, 20]] * 2, [[[5, 5], [NAN, NAN]], [[NAN] * 2] * 2])
    truth.boxes[1] += 100
    found = objects([[0, 0, 20, 20], [100, 100, 120, 120]], [[[5, 6], [0, 0]], [[0, 0], [0, 0]]])
    assert measure(truth, found).errors == [pytest.approx(1 / 20)]
    assert measure(truth, found).num_objects == 1


def test_the_best_detection_takes_an_object_and_only_of_its_class():
    truth = objects([[0, 0, 20, 20]], [[[0, 0], [0, 0]]])
    both = objects(
        [[0, 0, 20, 20], [1, 0, 21, 20]], [[[9, 0], [9, 0]], [[2, 0], [2, 0]]], scores=[0.3, 0.9]
    )
    assert measure(truth, both).errors == [pytest.approx(0.1)]
    both.labels[1] = 1
    assert measure(truth, both).errors == [pytest.approx(9 / 20)]


def test_unmatched_objects_are_told():
    truth = objects([[0, 0, 20, 20], [50, 0, 70, 20]], [[[0, 0], [0, 0]]] * 2)
    far = objects([[0, 0, 20, 20], [61, 0, 81, 20]], [[[0, 0], [0, 0]]] * 2)
    assert measure(truth, far).compute() == (0.0, 0.0, 0.5)
    nothing = measure(truth, objects([], [])).compute()
    assert math.isnan(nothing.mean_error) and nothing.matched_share == 0
    assert math.isnan(measure(objects([], []), far).compute().matched_share)


def test_parts_add_up():
    truth = objects([[0, 0, 20, 20]], [[[0, 0], [0, 0]]])
    total = NormalisedMeanError()
    for offset in (1, 3):
        total.merge(measure(truth, objects([[0, 0, 20, 20]], [[[offset, 0], [offset, 0]]])))
    assert total.compute() == (pytest.approx(0.1), 0.5, 1.0)


@pytest.fixture
def file(tmp_path):
    annotation = {"image_id": 7, "category_id": 4, "bbox": [0, 0, 20, 20], "iscrowd": 0}
    content = {
        "images": [{"id": 7}],
        "categories": [{"id": 4, "name": "face"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {**annotation, "keypoints": [1, 1, 2, 9, 9, 0], "vertices": [1, 1, 0, 4, 4, 1]},
            {**annotation, "bbox": [50, 0, 20, 20], "keypoints": [0] * 6},
            {**annotation, "iscrowd": 1, "bbox": [0, 50, 9, 9], "keypoints": [1, 1, 2, 1, 1, 2]},
            {**annotation, "bbox": [0, 0, 0, 9], "keypoints": [1, 1, 2, 1, 1, 2]},
        ],
    }
    (tmp_path / "faces.json").write_text(json.dumps(content))
    mesh = {"dimensions": 3, "num_vertices": 2, "triangles": [], "flip": [1, 0]}
    (tmp_path / "mesh.json").write_text(json.dumps(mesh))
    return tmp_path / "faces.json"


def test_a_coco_file(file):
    errors = PointErrors(file, mesh_file=file.parent / "mesh.json")
    box, label, score = np.array([[0, 0, 20, 20]]), np.array([1]), np.ones(1)
    points = {
        "keypoints": np.array([[[3.0, 1, 0.5], [0, 0, 0.5]]]),
        "vertices": np.array([[[1.0, 1, 9], [4, 8, 9]]]),
    }
    scores = errors.total([errors.measure(7, box, label, score, points)])
    assert scores == {
        "NME": pytest.approx(10),
        "failures_10": 0,
        "matched": 100,
        "vertices_NME": pytest.approx(10),
        "vertices_failures_10": 0,
        "vertices_matched": 100,
    }
    named = PointErrors(file, ["face", "dog"])  # another order of labels
    assert not named.measure(7, box, label, score, points)["keypoints"].errors


def test_what_does_not_fit_is_named(file):
    errors = PointErrors(file)
    nothing = np.zeros((0, 4)), np.zeros(0, int), np.zeros(0)
    with pytest.raises(ValueError, match=r"gives no keypoints.*faces\.json"):
        errors.measure(7, *nothing, {})
    with pytest.raises(ValueError, match="has 2 keypoints, the model gives 5"):
        errors.measure(7, *nothing, {"keypoints": np.zeros((0, 5, 3))})
    with pytest.raises(ValueError, match=r"no categories \['cat'\]"):
        PointErrors(file, ["cat"])
    (file.parent / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"broken\.json is no COCO file"):
        PointErrors(file.parent / "broken.json")
