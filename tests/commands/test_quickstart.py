"""What `metaheads quickstart`, which is `make demo`, draws before it trains."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metaheads.commands import quickstart
from metaheads.configs import HOSTS, installed_hosts

README = Path(__file__).parents[2] / "README.md"


def test_only_what_it_trains_on_is_drawn(tmp_path, monkeypatch, capsys):
    """The README says how much; faces and clips are added to the folder by `make-shapes --only`."""
    said = re.search(r"`make demo` writes ([\d,]+) small scenes, trains", README.read_text())
    scenes = quickstart.NUM_TRAIN + quickstart.NUM_VAL
    assert said and int(said.group(1).replace(",", "")) == scenes
    if not installed_hosts():
        pytest.skip(f"none of {HOSTS} is installed")
    monkeypatch.setattr(quickstart, "NUM_TRAIN", 3)
    monkeypatch.setattr(quickstart, "NUM_VAL", 1)
    monkeypatch.setenv("METAHEADS_DATA", str(tmp_path))

    def train(*_, **__):
        raise RuntimeError("enough")

    monkeypatch.setattr(quickstart, "train", train)
    from metaheads.cli import main

    with pytest.raises(RuntimeError, match="enough"):
        main(["quickstart", "--host", installed_hosts()[0]])
    assert "writing 4 small scenes" in capsys.readouterr().out
    folder = tmp_path / "shapes"
    names = {path.name for path in folder.iterdir()}
    assert names == {"train", "val", "annotations", "shapes.json"}
    assert main(["make-shapes", str(folder), "--only", "faces", "--num-faces", "1", "1"]) == 0
    assert (folder / "annotations/faces_train.json").is_file() and (folder / "train").is_dir()
