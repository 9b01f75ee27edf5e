"""What `metaheads demo` writes, and under which names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from metaheads.alignment import ARCFACE_POINTS
from metaheads.commands.demo import unique_names
from metaheads.commands.results import AlignedFaces, to_coco
from metaheads.media import Frame, Source, find_sources, read_image, write_image
from metaheads.structures import Detections


def test_pictures_do_not_overwrite_each_other():
    paths = [
        Path("/a/1.jpg"),
        Path("/b/1.jpg"),
        Path("/a/2.jpg"),
        Path("/a/2.png"),
        Path("/a/3.jpg"),
    ]
    names = unique_names(paths)
    assert [names[path] for path in paths] == ["a_1.jpg", "b_1.jpg", "2.jpg", "2.png", "3"]


def make_faces(count: int = 2, num_keypoints: int = 5) -> Detections:
    points = torch.from_numpy(ARCFACE_POINTS).float()[:num_keypoints].expand(count, -1, -1)
    points = torch.cat((points, torch.ones_like(points[..., :1])), -1)
    boxes = torch.tensor([[20.0, 20, 90, 110]]).expand(count, -1)
    vertices = torch.arange(6.0).view(1, 2, 3).expand(count, -1, -1)
    labels = torch.zeros(count, dtype=torch.long)
    return Detections(boxes, torch.ones(count), labels, keypoints=points, vertices=vertices)


@pytest.fixture
def picture(tmp_path) -> tuple[Source, Frame]:
    image = np.random.default_rng(0).integers(0, 255, (112, 112, 3), np.uint8)
    write_image(tmp_path / "me.png", image)
    (source,) = find_sources([str(tmp_path / "me.png")])
    return source, next(iter(source))


def test_aligned_faces_are_written(picture, tmp_path):
    source, frame = picture
    AlignedFaces(tmp_path / "found").add(make_faces(), "me", source, frame)
    names = sorted(path.name for path in (tmp_path / "found/aligned").iterdir())
    assert names == ["me_000.png", "me_001.png"]
    face = read_image(tmp_path / "found/aligned/me_001.png")
    assert np.array_equal(face, frame.image), "it was upright already"


def test_faces_of_an_earlier_run_go(picture, tmp_path):
    """A picture's faces are those of the last run; those of other pictures stay, as pictures do."""
    source, frame = picture
    for name in ("me", "you"):
        AlignedFaces(tmp_path).add(make_faces(3), name, source, frame)
    write_image(tmp_path / "aligned/me_too_000.png", frame.image)
    left = {"you_000.png", "you_001.png", "you_002.png", "me_too_000.png"}
    for count in (2, 0):
        AlignedFaces(tmp_path).add(make_faces(count), "me", source, frame)
        found = {path.name for path in (tmp_path / "aligned").iterdir()}
        assert found == left | {f"me_{index:03d}.png" for index in range(count)}


def test_faces_do_not_overwrite_inputs(picture, tmp_path, capsys):
    from metaheads.cli import main

    (tmp_path / "found/aligned").mkdir(parents=True)
    image = tmp_path / "found/aligned/me_000.png"
    write_image(image, picture[1].image)
    command = ["demo", str(image), "--config-file", "any", "--checkpoint", "any", "--align"]
    assert main([*command, "--output", str(tmp_path / "found")]) == 2
    assert "where" in (error := capsys.readouterr().err) and "me_000.png lies" in error


@pytest.mark.parametrize("count", [0, 2])
def test_other_models_have_no_faces_to_align(count, picture, tmp_path):
    source, frame = picture
    faces = AlignedFaces(tmp_path)
    with pytest.raises(ValueError, match="--align needs a model of five keypoints.*gives 4"):
        faces.add(make_faces(count, 4), "me", source, frame)
    plain = make_faces(count)
    plain.keypoints = None
    with pytest.raises(ValueError, match="gives none"):
        faces.add(plain, "me", source, frame)
    AlignedFaces(None).add(plain, "me", source, frame)


def test_vertices_are_in_the_results(picture):
    _, frame = picture
    (entry, _) = to_coco(make_faces(), 1, "me.png", frame, ["face"])
    assert entry["vertices"] == [0, 1, 2, 3, 4, 5] and len(entry["keypoints"]) == 15
