"""What a run needs of a model is asked before it begins."""

from __future__ import annotations

import json

import pytest
from torch import nn

from metaheads.architectures import CenterNetPoints, RetinaFace, Yolact
from metaheads.checks import check_points, check_training


@pytest.fixture
def mesh_file(tmp_path):
    content = {"dimensions": 3, "num_vertices": 3, "triangles": [[0, 1, 2]], "flip": [1, 0, 2]}
    path = tmp_path / "mesh.json"
    path.write_text(json.dumps(content))
    return path


def model(core: nn.Module | None = None, **options) -> nn.Module:
    found = nn.Module()
    found.core = core or RetinaFace([8, 8, 8], [8, 16, 32], pyramid_channels=8, **options)
    return found


def test_points_that_are_there_pass(mesh_file):
    check_points(model())
    check_points(model(num_vertices=3), mesh_file)
    check_points(model(CenterNetPoints([8], [4], num_keypoints=17)))
    check_points(nn.Module(), mesh_file)  # no model of ours: nobody knows


@pytest.mark.parametrize(
    "core",
    [
        RetinaFace([8, 8, 8], [8, 16, 32], pyramid_channels=8, num_keypoints=0),
        CenterNetPoints([8], [4]),
        Yolact([8, 8, 8], [8, 16, 32]),
    ],
    ids=lambda core: type(core).__name__,
)
def test_absent_keypoints_are_named(core):
    with pytest.raises(ValueError, match=r"set its num_keypoints .* leave the metric out .*NME"):
        check_points(model(core))


@pytest.mark.parametrize(("count", "given"), [(0, "none"), (4, "4")])
def test_absent_vertices_are_named(mesh_file, count, given):
    message = rf"the 3 vertices of .*mesh.json are to be measured.* gives {given}: set its num_vert"
    with pytest.raises(ValueError, match=message):
        check_points(model(num_vertices=count), mesh_file)


def test_a_training_needs_the_mesh(mesh_file):
    check_training(nn.Module())
    check_training(model(mesh_file="nowhere.json"))  # of a branch that is switched off
    check_training(model(num_vertices=3, mesh_file=str(mesh_file)))
    with pytest.raises(FileNotFoundError, match=r"mesh file .*nowhere.json: no such file; correct"):
        check_training(model(num_vertices=3, mesh_file="nowhere.json"))
    message = r"mesh_file .* is of 3 vertices in 3 dimensions, but the model has num_vertices=4"
    with pytest.raises(ValueError, match=message):
        check_training(model(num_vertices=4, mesh_file=str(mesh_file)))
    with pytest.raises(ValueError, match="vertex_dimensions=2: make them equal"):
        check_training(model(num_vertices=3, vertex_dimensions=2, mesh_file=str(mesh_file)))
