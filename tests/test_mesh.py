from __future__ import annotations

import json

import pytest

from metaheads.mesh import MeshTopology

GOOD = {
    "dimensions": 3,
    "num_vertices": 4,
    "triangles": [[0, 1, 2], [2, 1, 3]],
    "flip": [0, 2, 1, 3],
}


def write(tmp_path, **changes):
    path = tmp_path / "mesh.json"
    path.write_text(json.dumps({**GOOD, **changes}))
    return path


def test_edges_are_unique(tmp_path):
    mesh = MeshTopology.from_json(write(tmp_path))
    assert mesh.edges.tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    assert mesh.flip.tolist() == GOOD["flip"] and mesh.dimensions == 3


def test_points_without_triangles_have_no_edges(tmp_path):
    mesh = MeshTopology.from_json(write(tmp_path, triangles=[], dimensions=2))
    assert mesh.edges.shape == (0, 2) and mesh.num_vertices == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dimensions": 4}, "dimensions must be 2 or 3, got 4"),
        ({"num_vertices": 0}, "num_vertices must be a positive integer, got 0"),
        ({"triangles": [[0, 1]]}, "triangles must be nx3 integers"),
        ({"triangles": [[0, 1, 2], [0]]}, "triangles must be nx3 integers, but its rows differ"),
        ({"triangles": [[0, 1, 4]]}, r"triangles\[0, 2\] is 4, but the vertices are 0 to 3"),
        ({"flip": [0, 1, 2]}, "flip must be 4 integers"),
        ({"flip": [1, 2, 0, 3]}, r"own inverse, but flip\[0\] is 1 and flip\[1\] is 2"),
        ({"flip": [0.0, 1.0, 2.0, 3.0]}, "flip must be 4 integers, got float64"),
    ],
)
def test_errors_name_file_and_item(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words) as caught:
        MeshTopology.from_json(write(tmp_path, **changes))
    assert "mesh.json" in str(caught.value)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "mesh.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="no JSON"):
        MeshTopology.from_json(path)
    path.write_text(json.dumps({"flip": []}))
    with pytest.raises(ValueError, match="lacks dimensions, num_vertices, triangles"):
        MeshTopology.from_json(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="lacks dimensions, num_vertices, triangles, flip"):
        MeshTopology.from_json(path)
