"""`metaheads check-dataset` on the embedded data set, whole and with each fault planted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from metaheads.cli import main
from metaheads.datasets.shapes import make_shapes


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    make_shapes(folder, num_train=6, num_val=3, num_clips=0, num_faces=(0, 0), seed=5)
    return folder


@pytest.fixture
def data(made, tmp_path) -> Path:
    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


def flags(data: Path) -> list[str]:
    found = []
    for split in ("train", "val"):
        found += ["--data", f"{data}/annotations/instances_{split}.json", f"{data}/{split}"]
    return found


def change(file: Path, edit: Callable[[dict], None]) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def test_a_whole_data_set(data, tmp_path, capsys):
    overlay, report = tmp_path / "samples.png", tmp_path / "report.json"
    words = ["--overlay", str(overlay), "--samples", "4", "--json", str(report)]
    assert main(["check-dataset", *flags(data), *words]) == 0
    printed = capsys.readouterr().out
    assert "6 images" in printed and "3 images" in printed and "no faults" in printed
    assert cv2.imread(str(overlay)).shape[0] > 500, "two rows"
    content = json.loads(report.read_text())
    assert content["faults"] == [] and content["data"][0]["num_verified"] == 6
    assert sum(content["data"][0]["class_counts"].values()) == content["data"][0]["num_objects"]


def _plant_num_classes(data):
    return ["--num-classes", "3"]


def _plant_overlap(data):
    image = next((data / "train").glob("*.png"))
    shutil.copy(image, data / "val" / "000001.png")


def _plant_broken_image(data):
    (data / "val/000002.png").write_bytes(b"no image")


def _plant_missing_image(data):
    (data / "train/000003.png").unlink()


def _plant_wrong_size(data):
    image = data / "val/000002.png"
    cv2.imwrite(str(image), cv2.imread(str(image))[::2])


def _plant_double_id(data):
    change(data / "annotations/instances_val.json", lambda c: c["annotations"][0].update(id=2))


def _plant_odd_polygon(data):
    change(
        data / "annotations/instances_train.json",
        lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, 6, 7]]),
    )


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (_plant_num_classes, "num_classes=3"),
        (_plant_overlap, "share images"),
        (_plant_broken_image, "cannot be decoded"),
        (_plant_missing_image, "000003.png"),
        (_plant_wrong_size, "of another size"),
        (_plant_double_id, "used more than once"),
        (_plant_odd_polygon, "odd number of coordinates"),
    ],
)
def test_faults(data, capsys, plant, message):
    extra = plant(data) or []
    assert main(["check-dataset", *flags(data), *extra]) == 1
    assert message in capsys.readouterr().out


def repaint(data: Path, function: Callable[[np.ndarray], np.ndarray]) -> None:
    file = data / "annotations/panoptic_val/000001.png"
    cv2.imwrite(str(file), function(cv2.imread(str(file))))


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (lambda d: None, None),
        (lambda d: repaint(d, lambda p: np.full_like(p, 9)), "without a segment in the JSON"),
        (lambda d: repaint(d, lambda p: p[:50]), "another size"),
        (lambda d: (d / "annotations/panoptic_val/000002.png").unlink(), "not in"),
        (
            lambda d: change(
                d / "annotations/panoptic_val.json",
                lambda c: c["annotations"][0]["segments_info"][0].update(area=3),
            ),
            "another area",
        ),
        (
            lambda d: change(
                d / "annotations/panoptic_val.json",
                lambda c: c["annotations"][0]["segments_info"][0].update(category_id=99),
            ),
            "not in categories",
        ),
        (
            lambda d: change(
                d / "annotations/panoptic_val.json",
                lambda c: c["annotations"][0]["segments_info"][0].update(id=5),
            ),
            "without a pixel",
        ),
        (
            lambda d: change(d / "annotations/panoptic_val.json", lambda c: c.pop("annotations")),
            "no COCO panoptic file",
        ),
    ],
)
def test_panoptic(data, capsys, plant, message):
    plant(data)
    folder = data / "annotations"
    words = ["--panoptic", f"{folder}/panoptic_val.json", f"{folder}/panoptic_val"]
    assert main(["check-dataset", *words]) == (0 if message is None else 1)
    assert (message or "agree with their PNGs") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--overlay", "nowhere/x.png"], "nowhere; make it first"),
        (["--overlay", "samples"], "must end as an image"),
        (["--json", "nowhere/x.json"], "nowhere; make it first"),
    ],
)
def test_outputs_are_possible(data, capsys, words, message):
    assert main(["check-dataset", *flags(data), *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (lambda d: d["annotations"][0]["bbox"].__setitem__(2, 0), "boxes without area: annotation"),
        (
            lambda d: d["annotations"][0]["bbox"].__setitem__(0, 9999),
            "boxes outside of their image",
        ),
        (lambda d: d["annotations"][0]["bbox"].pop(), "bbox is not four finite numbers"),
        (lambda d: d["annotations"][0].update(segmentation=[[1, 2, 3]]), "odd number of coord"),
        (lambda d: d["annotations"].append(dict(d["annotations"][0])), "ids used more than once"),
        (lambda d: d["images"].pop(0), 'image_id is not in "images"'),
        (lambda d: d["images"][0].update(width=999), "images of another size"),
        (lambda d: d["images"][0].update(file_name="nowhere.png"), "images that are not in"),
        (
            lambda d: d["images"][0].update(file_name=d["images"][1]["file_name"]),
            "files of more than one image",
        ),
    ],
)
def test_planted_faults(data, capsys, plant, message):
    change(data / "annotations/instances_train.json", plant)
    assert main(["check-dataset", *flags(data)]) == 1
    printed = capsys.readouterr().out
    assert f"{message}" in printed and "1 data sets with faults" in printed


def test_nothing_to_check(capsys):
    assert main(["check-dataset"]) == 2
    assert "nothing to check" in capsys.readouterr().err
