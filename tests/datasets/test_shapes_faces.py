"""The drawn faces: boxes, points and meshes agree with each other and with the pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from metaheads.datasets import shapes
from metaheads.datasets.check import check_coco
from metaheads.datasets.face_labels import FACE_FLIP_PAIRS, FACE_POINTS
from metaheads.datasets.shapes import face_mesh
from metaheads.mesh import MeshTopology

SIZE = (144, 192)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shapes") / "data"
    shapes.make_shapes(folder, num_train=0, num_val=0, num_clips=0, num_faces=(40, 10))
    return folder


@pytest.fixture(scope="module")
def mesh(folder) -> MeshTopology:
    return MeshTopology.from_json(folder / "annotations/mesh.json")


def load(folder: Path, split: str = "train") -> dict:
    return json.loads((folder / f"annotations/faces_{split}.json").read_text())


@pytest.mark.parametrize(("split", "count"), [("train", 40), ("val", 10)])
def test_files_are_sound(folder, split, count):
    content = load(folder, split)
    (category,) = content["categories"]
    assert category["id"] == shapes.FACE and tuple(category["keypoints"]) == FACE_POINTS
    assert len(content["images"]) == count == len(list((folder / "faces" / split).iterdir()))
    report = check_coco(
        folder / f"annotations/faces_{split}.json",
        folder / "faces" / split,
        use_masks=False,
        num_keypoints=5,
        mesh_file=folder / "annotations/mesh.json",
        verify_images=count,
    )
    assert report.num_objects > count
    assert all(warning.startswith("images with") for warning in report.warnings)


def test_every_kind_of_face_is_there(folder):
    found = load(folder)["annotations"]
    points = [each["num_keypoints"] for each in found]
    assert set(points) == {0, 5} and 0.5 < np.mean(np.array(points) > 0) < 0.95
    assert {each["iscrowd"] for each in found} == {0, 1}
    assert all(("vertices" in each) == (each["num_keypoints"] > 0) for each in found)
    assert all(each["keypoints"] == [0] * 15 for each in found if each["iscrowd"])
    sides = [max(each["bbox"][2:]) for each in found]
    assert min(sides) < 10 and max(sides) > 60
    visible = np.concatenate([np.reshape(each["keypoints"], (-1, 3))[:, 2] for each in found])
    assert {0, 1, 2} == set(visible.tolist())


def test_points_and_boxes_are_those_of_the_mesh(folder, mesh):
    whole = 0
    for each in load(folder)["annotations"]:
        if "vertices" not in each:
            continue
        (vertices,) = mesh.read_vertices([each["vertices"]], "")
        points = np.reshape(each["keypoints"], (-1, 3))
        np.testing.assert_allclose(points[:, :2], vertices[face_mesh.LANDMARKS, :2], atol=0.02)
        low = np.clip(vertices[:, :2].min(0), 0, SIZE[::-1])
        high = np.clip(vertices[:, :2].max(0), 0, SIZE[::-1])
        np.testing.assert_allclose(each["bbox"], [*low, *(high - low)], atol=0.03)
        whole += bool((vertices[:, :2] > 0).all() and (vertices[:, :2] < SIZE[::-1]).all())
    assert whole > 20


def test_topology(mesh):
    assert (mesh.num_vertices, mesh.dimensions, len(mesh.triangles)) == (49, 3, 72)
    left, right = np.array(FACE_FLIP_PAIRS).T
    assert (mesh.flip[face_mesh.LANDMARKS[left]] == face_mesh.LANDMARKS[right]).all()
    mirrored = face_mesh.TEMPLATE[mesh.flip] * (-1, 1, 1)
    np.testing.assert_allclose(mirrored, face_mesh.TEMPLATE, atol=1e-12)
    modes = face_mesh.BASIS[:, mesh.flip] * (-1, 1, 1)
    np.testing.assert_allclose(modes, face_mesh.BASIS, atol=1e-12)


def test_yaw_moves_the_nose_and_the_front_faces_the_viewer():
    front = face_mesh.TEMPLATE
    turned = front @ face_mesh.rotate(0.6, 0, 0).T
    nose, forehead = face_mesh.NOSE, 3
    assert turned[nose, 0] - turned[forehead, 0] > 0.2 > abs(front[nose, 0] - front[forehead, 0])
    head = face_mesh.Head(front, np.eye(3))
    assert (head.normals()[:, 2] > 0).mean() > 0.95
    rolled = front @ face_mesh.rotate(0, 0, np.pi / 2).T
    np.testing.assert_allclose(rolled[:, 1], front[:, 0], atol=1e-12)  # clockwise as seen


def test_eyes_are_dark_where_they_are_said_to_be():
    options = replace(
        shapes.TRAIN_FACE_OPTIONS,
        face_count=(1, 1),
        face_size=(70.0, 90.0),
        occluder_probability=0.0,
        plain_probability=0.0,
        tiny_probability=0.0,
        distractor_count=(0, 0),
    )
    darker = []
    for index in range(12):
        picture, faces = shapes.draw_face_scene(options, SIZE, seed=0, split="train", index=index)
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(float)
        for face in faces:
            for x, y, seen in [] if face.keypoints is None else face.keypoints[:2]:
                column, row = int(x), int(y)
                if seen == 2 and 12 < column < SIZE[1] - 12 and 12 < row < SIZE[0] - 12:
                    around = grey[row - 12 : row + 13, column - 12 : column + 13]
                    darker.append(grey[row, column] < np.median(around))
    assert len(darker) > 12 and np.mean(darker) > 0.9


def test_equal_seeds_draw_equal_faces(folder, tmp_path):
    numbers = {"num_train": 0, "num_val": 0, "num_clips": 0, "num_faces": (3, 0)}
    shapes.make_shapes(tmp_path / "few", **numbers)
    for name in ("000001.png", "000003.png"):
        few = (tmp_path / "few/faces/train" / name).read_bytes()
        assert few == (folder / "faces/train" / name).read_bytes()
    first, again = load(folder)["annotations"], load(tmp_path / "few")["annotations"]
    assert again == first[: len(again)]
    shapes.make_shapes(tmp_path / "other", **numbers, seed=1)
    other = (tmp_path / "other/faces/train/000001.png").read_bytes()
    assert other != (folder / "faces/train/000001.png").read_bytes()


@pytest.mark.parametrize("num_faces", [(-1, 0), (0, 1.5)])
def test_bad_numbers_are_named(tmp_path, num_faces):
    with pytest.raises(ValueError, match="num_faces"):
        shapes.make_shapes(tmp_path / "data", num_faces=num_faces)
