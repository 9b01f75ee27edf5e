from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from metaheads.weights import read_checkpoint
from metaheads.weights.files import read_results, spell_results, write_results

WEIGHTS = {"core.a.weight": torch.arange(6.0).view(2, 3), "core.a.bias": torch.zeros(2)}


def test_what_could_not_be_measured_is_nan_again(tmp_path):
    write_results(tmp_path / "results.json", {"AP": 0.5, "APl": float("nan")})
    found = read_results(tmp_path / "results.json")
    assert found["AP"] == 0.5 and math.isnan(found["APl"])
    assert '"APl": null' in spell_results(found)


class Marker:
    """Its checkpoint runs code: it makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def save(path: Path, content) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "meta": {"iter": 3}, "optimizer": {}},
        {"model": WEIGHTS, "iteration": 3},
    ],
    ids=["plain", "mmengine", "detectron2"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_the_hosts_write(tmp_path, content, zipped):
    path = tmp_path / "model.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    state = read_checkpoint(str(path))
    assert set(state) == set(WEIGHTS)
    assert torch.equal(state["core.a.weight"], WEIGHTS["core.a.weight"])


def test_what_needs_code_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "was_run"
    path = save(tmp_path / "model.pth", {"state_dict": WEIGHTS, "message_hub": Marker(marker)})
    with pytest.raises(ValueError, match=r"model\.pth .*code.*--trust-checkpoint"):
        read_checkpoint(path)
    assert not marker.exists()
    assert set(read_checkpoint(path, trust=True)) == set(WEIGHTS)
    assert marker.exists()


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("damage", ["cut", "overwritten", "empty", "text", "html", "zeros"])
@pytest.mark.parametrize("zipped", [True, False])
def test_broken_files(tmp_path, damage, zipped, trust):
    path = tmp_path / "model.pth"
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[: len(content) // 2],
            "overwritten": content[:20] + bytes(len(content) - 20),
            "empty": b"",
            "text": b"hello world",
            "html": b"<!DOCTYPE html><html></html>",
            "zeros": bytes(5000),
        }[damage]
    )
    with pytest.raises(ValueError, match=r"model\.pth is no checkpoint, or it is cut off") as error:
        read_checkpoint(path, trust=trust)
    assert "\n" not in str(error.value) and "weights_only" not in str(error.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.pth: there is no such file"):
        read_checkpoint(tmp_path / "nowhere.pth")
    with pytest.raises(ValueError, match="no such file"):
        read_checkpoint(tmp_path)


def test_detectron2_pickle_is_left_to_detectron2(tmp_path):
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"model": {"a": np.zeros(3)}}))
    with pytest.raises(ValueError, match=r"R-50\.pkl .*MODEL\.WEIGHTS"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {"model": {"a": 1}}, torch.zeros(3)])
def test_file_without_weights(tmp_path, content):
    with pytest.raises(ValueError, match="holds no weights"):
        read_checkpoint(save(tmp_path / "model.pth", content))


def test_global_loaders_stay_as_they_are(tmp_path):
    before = torch.load, torch.serialization.get_safe_globals()
    read_checkpoint(save(tmp_path / "model.pth", WEIGHTS))
    assert (torch.load, torch.serialization.get_safe_globals()) == before
