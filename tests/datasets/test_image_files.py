from __future__ import annotations

from pathlib import Path

import pytest

from metaheads.datasets.image_files import list_missing, locate_images


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def locate(folder: Path, *names: str) -> list[str]:
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    found = locate_images(images, folder)
    assert [each["id"] for each in found] == list(range(len(names)))
    assert [each["file_name"] for each in images] == list(names), "the file's stay as they are"
    return [each["file_name"] for each in found]


def test_missing_files(tmp_path):
    touch(tmp_path, "a.png", "x/b.png")
    assert list_missing(["a.png", "b.png", "x/b.png", "y/b.png"], tmp_path) == ["b.png", "y/b.png"]


def test_images_are_found_in_sub_folders(tmp_path):
    touch(tmp_path, "a.png", "x/b.png", "x/y/c.png", "x/z/d.png", "z/d.png")
    assert locate(tmp_path, "a.png", "b.png", "c.png") == ["a.png", "x/b.png", "x/y/c.png"]
    assert locate(tmp_path, "y/c.png", "x/b.png") == ["x/y/c.png", "x/b.png"]
    assert locate(tmp_path, "lost.png", "b.png") == ["lost.png", "x/b.png"]
    assert locate(tmp_path, "nz/d.png") == ["nz/d.png"], "a folder's whole name counts"
    assert locate(tmp_path / "nowhere", "a.png") == ["a.png"]


def test_the_folder_itself_comes_first(tmp_path):
    touch(tmp_path, "a.png", "x/a.png", "x/b.png")
    assert locate(tmp_path, "a.png", "b.png") == ["a.png", "x/b.png"]


def test_ambiguous_names_are_refused(tmp_path):
    touch(tmp_path, "x/a.png", "y/a.png")
    with pytest.raises(ValueError, match=r"a\.png is more than one file there: x/a.png, y/a.png"):
        locate(tmp_path, "a.png")
    assert locate(tmp_path, "x/a.png") == ["x/a.png"]


def test_cityscapes_names_of_its_images(tmp_path):
    touch(tmp_path, "ulm/ulm_000001_000019_leftImg8bit.png")
    found = locate(tmp_path, "ulm_000001_000019_gtFine_leftImg8bit.png")
    assert found == ["ulm/ulm_000001_000019_leftImg8bit.png"]
