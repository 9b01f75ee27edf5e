from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metaheads.datasets.panoptic import to_colors
from metaheads.evaluation import MeanIoU, SegmentationError, SemanticFiles


def test_numbers_by_hand():
    """Of class 0 two of three pixels are found and one too many, of class 1 one of two."""
    truth = np.array([[0, 0, 0], [1, 1, 255]], np.uint8)
    found = np.array([[0, 0, 2], [0, 1, 1]])
    total = MeanIoU(4)
    total.update(truth, found)
    assert total.confusion.tolist() == [[2, 0, 1, 0], [1, 1, 0, 0], [0] * 4, [0] * 4]
    scores = total.compute()
    # IoU 2 / 4, 1 / 2; class 2 is in the prediction alone, class 3 nowhere.
    assert scores.ious == {0: 0.5, 1: 0.5, 2: 0.0}
    assert scores.accuracies == {0: pytest.approx(2 / 3), 1: 0.5}
    assert scores.mean_iou == pytest.approx(1 / 3)
    assert scores.mean_accuracy == pytest.approx((2 / 3 + 0.5) / 2)
    assert scores.pixel_accuracy == pytest.approx(3 / 5)
    assert scores.to_percent() == {
        "mIoU": pytest.approx(100 / 3),
        "pACC": pytest.approx(60),
        "mACC": pytest.approx(100 * (2 / 3 + 0.5) / 2),
    }
    lines = scores.to_table(["sky", "sea", "sand", "snow"]).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["mean", "sky", "sea", "sand"]
    assert lines[2].split() == ["sky", "50.000", "66.667"]


def test_parts_add_up():
    """Images in one process or in several: the confusions are a sum."""
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 5, (4, 2, 9, 7))
    whole, parts = MeanIoU(5), [MeanIoU(5), MeanIoU(5)]
    for number, (truth, found) in enumerate(maps):
        whole.update(truth, found)
        parts[number % 2].update(truth, found)
    joined = MeanIoU(5)
    joined.confusion = sum(part.confusion for part in parts)
    assert joined.compute() == whole.compute()
    flat = MeanIoU(5)
    flat.update(maps[:, 0].reshape(-1, 7), maps[:, 1].reshape(-1, 7))
    assert flat.compute() == whole.compute()


def test_nothing_known():
    total = MeanIoU(3)
    total.update(np.full((2, 2), 255), np.zeros((2, 2), int))
    scores = total.compute()
    assert math.isnan(scores.mean_iou) and math.isnan(scores.pixel_accuracy) and not scores.ious
    total.update(np.zeros((2, 2)), np.zeros((2, 2)))
    assert total.compute().mean_iou == 1
    total.reset()
    assert not total.confusion.any()


def test_bad_maps():
    total, right = MeanIoU(3), np.zeros((2, 2), int)
    with pytest.raises(SegmentationError, match=r"a\.png: .*\(2, 2\), the prediction \(2, 3\)"):
        total.update(right, np.zeros((2, 3), int), "a.png")
    for wrong in (3, -1):
        with pytest.raises(SegmentationError, match=f"label {wrong} in the prediction"):
            total.update(right, np.full((2, 2), wrong))
    with pytest.raises(SegmentationError, match="label 7 in the truth, of 3 classes"):
        total.update(np.full((2, 2), 7), right)


def test_files(tmp_path: Path):
    """Labels in the order of the class names; void, crowds and other categories are 255."""
    ids = np.array([[1, 1, 2], [3, 4, 0]])
    Image.fromarray(to_colors(ids)).save(tmp_path / "a.png")
    categories = [
        {"id": 10 + n, "name": name, "isthing": int(n < 2)}
        for n, name in enumerate(("cat", "dog", "sky", "sea"))
    ]
    segments = [
        {"id": 1, "category_id": 11},
        {"id": 2, "category_id": 10, "iscrowd": 1},
        {"id": 3, "category_id": 13},
        {"id": 4, "category_id": 12},
    ]
    content = {
        "images": [{"id": 5, "file_name": "a.jpg", "height": 2, "width": 3}],
        "annotations": [{"image_id": 5, "file_name": "a.png", "segments_info": segments}],
        "categories": categories,
    }
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content))
    truth = SemanticFiles(file, tmp_path)
    assert truth.classes == ("cat", "dog", "sky", "sea")
    labels, name = truth.read(5)
    assert labels.tolist() == [[1, 1, 255], [3, 2, 255]] and name == "image 5 (a.png)"
    truth = SemanticFiles(file, tmp_path, ("dog",), ("sea",))
    assert truth.read(5)[0].tolist() == [[0, 0, 255], [1, 255, 255]]
    with pytest.raises(SegmentationError, match="no annotation of image 6"):
        truth.read(6)
