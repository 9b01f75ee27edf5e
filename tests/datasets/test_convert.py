"""Other formats as COCO: what is drawn in them comes out at its place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from metaheads.cli import main
from metaheads.datasets.check import check_coco
from metaheads.datasets.shapes import make_shapes

SQUARE = [[10, 20], [30, 20], [30, 50], [10, 50]]  # 20 x 30 pixels


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), np.zeros((60, 80, 3), np.uint8))
    return file


def convert(origin: str, folder: Path, *words: str) -> COCO:
    out = folder / "out.json"
    assert main(["convert-dataset", "--from", origin, str(folder), "--out", str(out), *words]) == 0
    return COCO(str(out))


def masks_of(coco: COCO) -> list[np.ndarray]:
    return [coco.annToMask(each).astype(bool) for each in coco.anns.values()]


def labelme(folder: Path, shapes: list[dict], name: str = "a.json") -> None:
    content = {"imagePath": "a.png", "shapes": shapes, "imageHeight": 60, "imageWidth": 80}
    (folder / name).write_text(json.dumps(content))


def test_labelme(tmp_path, image, capsys):
    labelme(
        tmp_path,
        [
            {"label": "cat", "points": SQUARE, "shape_type": "polygon"},
            {"label": "dog", "points": [[40, 20], [60, 40]], "shape_type": "rectangle"},
            {"label": "sun", "points": [[70, 10], [75, 10]], "shape_type": "circle"},
            {"label": "two", "points": [[0, 0], [5, 0], [5, 5], [0, 5]], "group_id": 1},
            {"label": "two", "points": [[0, 50], [5, 50], [5, 55], [0, 55]], "group_id": 1},
            {"label": "cat", "points": [[1, 1]], "shape_type": "point"},
        ],
    )
    coco = convert("labelme", tmp_path)
    assert [coco.cats[each["category_id"]]["name"] for each in coco.anns.values()] == [
        *("cat", "dog", "sun", "two")
    ]
    cat, dog, sun, two = masks_of(coco)
    assert cat.sum() == 600 and cat[20:50, 10:30].all()
    assert dog.sum() == 400 and sun.sum() == pytest.approx(np.pi * 25, rel=0.05)
    assert two.sum() == 50 and len(coco.anns[4]["segmentation"]) == 2
    assert coco.anns[1]["bbox"] == [10, 20, 20, 30] and coco.anns[1]["area"] == 600
    assert "left out" in capsys.readouterr().out
    assert check_coco(tmp_path / "out.json", tmp_path).num_objects == 4


def test_photographs_that_lie_are_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 60)).save(tmp_path / "a.jpg", exif=exif)
    shape = {"label": "cat", "points": SQUARE}
    content = {"imagePath": "a.jpg", "shapes": [shape]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    entry = convert("labelme", tmp_path).imgs[1]
    assert (entry["height"], entry["width"]) == (100, 60)
    assert check_coco(tmp_path / "out.json", tmp_path).num_verified == 1


def test_yolo(tmp_path, image):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    shutil.copy(image, tmp_path / "images/a.png")
    shutil.copy(image, tmp_path / "images/empty.png")
    polygon = " ".join(f"{x / 80} {y / 60}" for x, y in SQUARE)
    (tmp_path / "labels/a.txt").write_text(f"1 {polygon}\n\n0 0.5 0.5 0.25 0.5\n")
    coco = convert("yolo", tmp_path, "--classes", "red", "white")
    first, second = coco.anns.values()
    assert coco.annToMask(first)[20:50, 10:30].all() and first["area"] == 600
    assert (first["category_id"], second["category_id"]) == (2, 1)
    assert second["bbox"] == [30, 15, 20, 30] and second["segmentation"] == []
    assert len(coco.imgs) == 2


VOC = """<annotation><filename>a.png</filename>
<object><name>cat</name><bndbox><xmin>11</xmin><ymin>21</ymin><xmax>30</xmax><ymax>50</ymax></bndbox></object>
<object><name>dog</name><difficult>1</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox></object></annotation>"""


@pytest.fixture
def voc(tmp_path, image) -> Path:
    for folder in ("Annotations", "JPEGImages", "SegmentationObject"):
        (tmp_path / folder).mkdir()
    shutil.copy(image, tmp_path / "JPEGImages/a.png")
    (tmp_path / "Annotations/a.xml").write_text(VOC)
    return tmp_path


def test_voc_boxes(voc):
    first, second = convert("voc", voc).anns.values()
    assert first["bbox"] == [10, 20, 20, 30] and second["bbox"] == [0, 0, 4, 4]
    assert (first["iscrowd"], second["iscrowd"]) == (0, 1)


def test_voc_masks(voc):
    numbers = np.zeros((60, 80), np.uint8)
    numbers[20:50, 10:30], numbers[0:3, 0:3], numbers[50] = 1, 2, 255
    cv2.imwrite(str(voc / "SegmentationObject/a.png"), numbers)
    coco = convert("voc", voc)
    assert [int(mask.sum()) for mask in masks_of(coco)] == [600, 9]
    assert coco.anns[1]["bbox"] == [10, 20, 20, 30]
    assert [each["iscrowd"] for each in coco.anns.values()] == [0, 1]
    assert check_coco(voc / "out.json", voc / "JPEGImages").num_objects == 2


def test_panoptic_agrees_with_its_png(tmp_path, capsys):
    make_shapes(tmp_path, num_train=0, num_val=3, num_clips=0, num_faces=(0, 0), seed=2)
    things = tmp_path / "annotations/instances_val.json"
    content = json.loads(things.read_text())
    height, width = content["images"][0]["height"], content["images"][0]["width"]
    whole = [[0, 0, width, 0, width, height, 0, height]]
    stuff = {
        "images": content["images"],
        "categories": [{"id": 50, "name": "ground"}],
        "annotations": [
            {
                "id": number,
                "image_id": image["id"],
                "category_id": 50,
                "bbox": [0, 0, width, height],
                "area": width * height,
                "iscrowd": 0,
                "segmentation": whole,
            }
            for number, image in enumerate(content["images"], start=1)
        ],
    }
    (tmp_path / "stuff.json").write_text(json.dumps(stuff))
    out = tmp_path / "panoptic.json"
    command = ["convert-dataset", "--from", "coco", str(things), "--out", str(out)]
    assert main([*command, "--stuff", str(tmp_path / "stuff.json")]) == 0
    assert main(["check-dataset", "--panoptic", str(out), str(tmp_path / "panoptic")]) == 0
    made = json.loads(out.read_text())
    areas = [sum(s["area"] for s in each["segments_info"]) for each in made["annotations"]]
    assert areas == [width * height] * 3, "every pixel once"
    capsys.readouterr()
    content["images"][1]["file_name"] = content["images"][0]["file_name"].replace("png", "jpg")
    (tmp_path / "same.json").write_text(json.dumps(content))
    words = [str(tmp_path / "same.json"), "--stuff", str(tmp_path / "stuff.json")]
    assert main(["convert-dataset", "--from", "coco", *words, "--out", str(out)]) == 2
    assert "would both become" in capsys.readouterr().err
    assert main([*command, "--stuff", str(things)]) == 2
    assert "number the stuff anew" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("origin", "spoil", "words", "message"),
    [
        ("labelme", lambda d: None, [], "no .json file in the folder"),
        ("labelme", lambda d: (d / "x.json").write_text("{}"), [], "x.json is no file of labelme"),
        (
            "labelme",
            lambda d: labelme(d, [{"label": "cat", "points": SQUARE}]),
            ["--classes", "dog"],
            "class 'cat' is not among the classes given",
        ),
        ("voc", lambda d: None, [], "no .xml file"),
        ("yolo", lambda d: None, [], "give the names"),
        ("yolo", lambda d: None, ["--classes", "a"], "no image in the folder"),
        ("coco", lambda d: None, [], "--stuff JSON"),
        ("voc", lambda d: None, ["--out", "/nowhere/x.json"], "no folder /nowhere"),
    ],
)
def test_bad_input(tmp_path, image, capsys, origin, spoil, words, message):
    spoil(tmp_path)
    out = ["--out", str(tmp_path / "out" / "x.json")]
    (tmp_path / "out").mkdir()
    assert main(["convert-dataset", "--from", origin, str(tmp_path), *out, *words]) == 2
    assert message in capsys.readouterr().err


def test_labelme_names_a_missing_image(tmp_path, capsys):
    labelme(tmp_path, [])
    (tmp_path / "out").mkdir()
    out = ["--out", str(tmp_path / "out/x.json")]
    assert main(["convert-dataset", "--from", "labelme", str(tmp_path), *out]) == 2
    assert "a.png is not there or broken" in capsys.readouterr().err


def test_voc_names_masks_that_do_not_fit(voc, capsys):
    cv2.imwrite(str(voc / "SegmentationObject/a.png"), np.ones((60, 80), np.uint8))
    command = ["convert-dataset", "--from", "voc", str(voc), "--out", str(voc / "x.json")]
    assert main(command) == 2
    assert "holds the objects [1], its XML has 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line", ["3 0 0 1 1", "-1 0 0 1 1", "x 0 0 1 1", "0 0.1 0.2 0.3", "0 0 0 1 1 1"]
)
def test_yolo_names_the_line(tmp_path, image, capsys, line):
    for folder in ("images", "labels", "out"):
        (tmp_path / folder).mkdir()
    shutil.copy(image, tmp_path / "images/a.png")
    (tmp_path / "labels/a.txt").write_text(f"0 0.5 0.5 1 1\n{line}\n")
    command = ["convert-dataset", "--from", "yolo", str(tmp_path), "--classes", "a"]
    assert main([*command, "--out", str(tmp_path / "out/x.json")]) == 2
    assert "a.txt, line 2" in capsys.readouterr().err


def test_labelme_names_an_image_of_another_size(tmp_path, image, capsys):
    labelme(tmp_path, [{"label": "cat", "points": SQUARE}])
    cv2.imwrite(str(image), np.zeros((30, 40, 3), np.uint8))
    command = ["convert-dataset", "--from", "labelme", str(tmp_path), "--out"]
    assert main([*command, str(tmp_path / "out.json")]) == 2
    assert "for an image of (60, 80)" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["0 50 50 20 20", "0 nan 0.5 0.1 0.1"])
def test_yolo_in_pixels_is_refused(tmp_path, image, capsys, line):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    shutil.copy(image, tmp_path / "images/a.png")
    (tmp_path / "labels/a.txt").write_text(line)
    command = ["convert-dataset", "--from", "yolo", str(tmp_path), "--classes", "cell", "--out"]
    assert main([*command, str(tmp_path / "out.json")]) == 2
    assert "a.txt, line 1" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "labels")
    assert main([*command, str(tmp_path / "out.json")]) == 2
    assert "no folder" in capsys.readouterr().err
