"""Text files of faces: every number arrives, and what is malformed is named with its line."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from metaheads.cli import main
from metaheads.datasets.check import check_coco
from metaheads.datasets.convert import convert_retinaface
from metaheads.datasets.face_labels import FACE_POINTS, read_retinaface, read_scrfd, read_wider

SEEN = "10 12 0 20 12 1 15 18 0 11 24 0 19 24 -1"
NO_POINTS = " ".join(["-1"] * 15)
RETINAFACE = f"""# 0--Parade/a.jpg
5 6 20 30 {SEEN} 0.5
40 6 8 8 {NO_POINTS} 0.1
# 1--Riot/b.jpg
"""
SCRFD = f"""# 0--Parade/a.jpg 80 60
5 6 25 36 {SEEN}
40 6 48 14 {NO_POINTS}
30 30 34 34
# 1--Riot/b.jpg 80 60
"""
WIDER = """0--Parade/a.jpg
2
5 6 20 30 0 0 0 0 0 0
40 6 8 8 0 0 0 1 0 0
1--Riot/b.jpg
0
0 0 0 0 0 0 0 0 0 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("0--Parade/a.jpg", "1--Riot/b.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.zeros((60, 80, 3), np.uint8))
    (tmp_path / "label.txt").write_text(RETINAFACE)
    (tmp_path / "labelv2.txt").write_text(SCRFD)
    (tmp_path / "wider_face_val_bbx_gt.txt").write_text(WIDER)
    return tmp_path


def test_retinaface(folder):
    first, second = read_retinaface(folder / "label.txt")
    assert (first.path, second.path, second.faces) == ("0--Parade/a.jpg", "1--Riot/b.jpg", [])
    seen, plain = first.faces
    assert seen.box == (5, 6, 20, 30) and seen.line == 2
    assert seen.keypoints.tolist() == [[10, 12, 2], [20, 12, 1], [15, 18, 2], [11, 24, 2], [0] * 3]
    assert not plain.has_points and not plain.keypoints.any()


def test_scrfd_gives_corners(folder):
    first, second = read_scrfd(folder / "labelv2.txt")
    assert first.size == (60, 80) and not second.faces
    assert [face.box for face in first.faces] == [(5, 6, 20, 30), (40, 6, 8, 8), (30, 30, 4, 4)]
    assert [face.has_points for face in first.faces] == [True, False, False]


def test_wider(folder):
    first, second = read_wider(folder / "wider_face_val_bbx_gt.txt")
    assert [face.box for face in first.faces] == [(5, 6, 20, 30), (40, 6, 8, 8)]
    assert [face.is_ignored for face in first.faces] == [False, True]
    assert second.path == "1--Riot/b.jpg" and not second.faces


def test_validation_file_has_boxes_only(tmp_path):
    (tmp_path / "label.txt").write_text("# a.jpg\n1 2 3 4\n")
    (face,) = read_retinaface(tmp_path / "label.txt")[0].faces
    assert face.box == (1, 2, 3, 4) and not face.has_points


def test_points_outside_of_the_image_stay(tmp_path):
    far = "3 -7 0 200 12 0 15 18 0 11 24 0 19 24 0"
    (tmp_path / "label.txt").write_text(f"# a.jpg\n5 6 20 30 {far} 0.5\n")
    (face,) = read_retinaface(tmp_path / "label.txt")[0].faces
    assert face.keypoints[:2].tolist() == [[3, -7, 2], [200, 12, 2]]


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_retinaface, "# a.jpg\n1 2 3\n", "line 2: a face is 4 or 20 numbers, not 3"),
        (read_retinaface, "# a.jpg\n\n1 2 3 x\n", "line 3: '1 2 3 x' is no line of numbers"),
        (read_retinaface, "# a.jpg\n1 2 3 nan\n", "line 2: .* not finite"),
        (read_retinaface, "1 2 3 4\n", "line 1: a face before the first image"),
        (read_retinaface, "#\n1 2 3 4\n", "line 1: .* without the path"),
        (read_retinaface, f"# a.jpg\n1 2 3 4 {'7 ' * 15}0\n", "line 2: a point's flag .* not 7"),
        (read_scrfd, "# a.jpg\n", 'line 1: expected "# path width height"'),
        (read_scrfd, f"# a.jpg 8 8\n1 2 3 4 {SEEN} 0\n", "line 2: a face is 4 or 19 numbers"),
        (read_wider, "a.jpg\nb.jpg\n", "line 2: expected the number of faces of a.jpg"),
        (read_wider, "a.jpg\n2\n1 2 3 4\n", "ends before the 2 faces of a.jpg, line 1"),
    ],
)
def test_malformed_lines_are_named(tmp_path, read, text, message):
    (tmp_path / "faces.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"faces\.txt.*{message}"):
        read(tmp_path / "faces.txt")


@pytest.mark.parametrize("origin", ["retinaface", "scrfd", "widerface"])
def test_conversion(folder, origin, capsys):
    out = folder / "out.json"
    assert main(["convert-dataset", "--from", origin, str(folder), "--out", str(out)]) == 0
    content = json.loads(out.read_text())
    assert [each["file_name"] for each in content["images"]] == [
        "0--Parade/a.jpg",
        "1--Riot/b.jpg",
    ]
    (category,) = content["categories"]
    assert category["name"] == "face" and tuple(category["keypoints"]) == FACE_POINTS
    first, second = content["annotations"][:2]
    assert first["bbox"] == [5, 6, 20, 30] and second["bbox"] == [40, 6, 8, 8]
    assert first["num_keypoints"] == (0 if origin == "widerface" else 4)
    assert len(first["keypoints"]) == 15 and second["keypoints"] == [0] * 15
    assert second["iscrowd"] == (origin == "widerface")
    assert ("1 became crowds" in capsys.readouterr().out) == (origin == "widerface")
    report = check_coco(out, folder / "images", use_masks=False, num_keypoints=5)
    assert report.num_objects == len(content["annotations"])
    assert report.num_crowds == (origin == "widerface")


def test_boxes_without_area_become_crowds_and_are_counted(folder, capsys):
    (folder / "label.txt").write_text("# 0--Parade/a.jpg\n5 6 0 30\n5 6 3 -1\n5 6 3 4\n")
    out = folder / "out.json"
    command = ["convert-dataset", "--from", "retinaface", str(folder / "label.txt"), "--out"]
    assert main([*command, str(out)]) == 0
    found = json.loads(out.read_text())["annotations"]
    assert [each["iscrowd"] for each in found] == [1, 1, 0]
    assert [each["bbox"] for each in found] == [[5, 6, 0, 30], [5, 6, 3, 0], [5, 6, 3, 4]]
    assert "2 became crowds" in (text := capsys.readouterr().out) and "line 2: a box" in text


def test_check_dataset_takes_what_the_conversion_makes_of_boxes_without_area(folder, capsys):
    (folder / "label.txt").write_text("# 0--Parade/a.jpg\n0 0 0 0\n5 6 0 30\n5 6 3 4\n")
    out = folder / "out.json"
    command = ["convert-dataset", "--from", "retinaface", str(folder), "--out", str(out)]
    assert main(command) == 0
    check = ["check-dataset", "--no-masks", "--data", str(out), str(folder / "images")]
    assert main(check) == 0
    assert "2 crowds" in capsys.readouterr().out
    content = json.loads(out.read_text())
    content["annotations"][1]["iscrowd"] = 0
    out.write_text(json.dumps(content))
    assert main(check) != 0


def test_wrong_folders_and_sizes_are_named(folder, tmp_path_factory, capsys):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(ValueError, match=r"expected one label\.txt in the folder"):
        convert_retinaface(empty)
    (empty / "label.txt").write_text(RETINAFACE)
    with pytest.raises(ValueError, match=r"no folder .*images"):
        convert_retinaface(empty)
    with pytest.raises(ValueError, match="give one class name"):
        convert_retinaface(folder, ["face", "dog"])
    (folder / "labelv2.txt").write_text("# 0--Parade/a.jpg 60 80\n")
    command = ["convert-dataset", "--from", "scrfd", str(folder), "--out"]
    assert main([*command, str(folder / "out.json")]) == 2
    assert "was it resized?" in capsys.readouterr().err
