"""A model of faces in the tools of both hosts: trained on what it gives, exported decoded."""

from __future__ import annotations

import json

import pytest
import torch
from tests.hosts.installed import each_host

from metaheads import load
from metaheads.architectures import RetinaFace
from metaheads.cli import main

FACES = "retinaface/retinaface_mnet025_320_faces"


def write_weights(host: str, file) -> str:
    """Untrained, but its scores differ widely: something is found, in one order."""
    module = load(FACES, host=host, device="cpu").module
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        module.train().raw_outputs(50 * torch.randn(2, 3, 288, 384))
    for head in module.core.stages[0].heads["scores"]:
        torch.nn.init.normal_(head.weight)
        torch.nn.init.constant_(head.bias[::2], 2.0)
    torch.save({"model": module.state_dict()}, file)
    return str(file)


@each_host
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_export_with_decoding(host, suffix, shapes_data, tmp_path, capsys):
    """Boxes, scores, points and vertices of the file are those of `decode`, of any batch."""
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime", reason="ONNX is an extra: pip install metaheads[export]")
    out, report = tmp_path / f"faces{suffix}", tmp_path / "report.json"
    command = ["export", "--config-file", FACES, "--host", host, "--json", str(report), "--decode"]
    command += ["--checkpoint", write_weights(host, tmp_path / "faces.pth"), "--out", str(out)]
    command += ["--images", str(shapes_data / "shapes/faces/val"), "--max-images", "2"]
    assert main(command) == 0, capsys.readouterr()
    content = json.loads(report.read_text())
    assert content["count"] > 100 and content["unmatched"] == 0
    numbers = {"boxes": 4, "scores": 1, "keypoints": 15, "vertices": 147}
    counts = {name: each["count"] for name, each in content["differences"].items()}
    assert counts == {name: each * content["count"] for name, each in numbers.items()}
    assert out.is_file()


def test_export_notices_other_vertices(shapes_data, tmp_path, capsys, monkeypatch):
    from tests.hosts.installed import HOSTS

    plain = RetinaFace.decode_fixed

    def moved(*arguments):
        found = plain(*arguments)
        return found._replace(vertices=found.vertices + 1)

    monkeypatch.setattr(RetinaFace, "decode_fixed", moved)
    command = ["export", "--config-file", FACES, "--host", HOSTS[0], "--decode", "--out"]
    command += [str(tmp_path / "faces.pt2"), "--max-images", "1"]
    command += ["--checkpoint", write_weights(HOSTS[0], tmp_path / "faces.pth")]
    assert main([*command, "--images", str(shapes_data / "shapes/faces/val")]) == 1
    assert "-03 in vertices exceeds the tolerance" in capsys.readouterr().err


CORE = {"mmdet": "model.core.{}", "detectron2": "MODEL.RETINAFACE.{}"}


def core_option(host: str, name: str, value: object) -> str:
    return f"{CORE[host].format(name if host == 'mmdet' else name.upper())}={value}"


NEVER_BEFORE_TRAINING = [
    ("num_keypoints", 0, "set its num_keypoints"),
    ("num_vertices", 0, "the 49 vertices of"),
    ("mesh_file", "nowhere.json", "nowhere.json: no such file"),
]


@each_host
@pytest.mark.parametrize("flags", [[], ["--dry-run"]], ids=["train", "dry-run"])
@pytest.mark.parametrize(("name", "value", "message"), NEVER_BEFORE_TRAINING)
def test_what_the_model_lacks_is_told_first(
    host, flags, name, value, message, tmp_path, capsys, monkeypatch
):
    def no_step(*_):
        raise AssertionError("a step was made")

    monkeypatch.setattr(RetinaFace, "losses", no_step)
    work = tmp_path / "work"
    command = ["train", "--config-file", FACES, "--host", host, "--work-dir", str(work), *flags]
    assert main([*command, core_option(host, name, value)]) == 2
    assert message in capsys.readouterr().err


@each_host
def test_an_evaluation_says_what_the_model_lacks(host, tmp_path, capsys):
    torch.save(load(FACES, host=host, device="cpu").checkpoint(), tmp_path / "faces.pth")
    command = ["train", "--config-file", FACES, "--host", host, "--eval-only", "--work-dir"]
    command += [str(tmp_path / "work"), "--checkpoint", str(tmp_path / "faces.pth")]
    assert main([*command, core_option(host, "num_vertices", 0)]) == 2
    assert "the 49 vertices of" in capsys.readouterr().err


@each_host
def test_a_checkpoint_predicts_without_the_mesh_file(host, shapes_data, tmp_path, monkeypatch):
    torch.save(load(FACES, host=host, device="cpu").checkpoint(), tmp_path / "faces.pth")
    monkeypatch.setenv("METAHEADS_DATA", str(tmp_path / "nowhere"))
    model = load(FACES, tmp_path / "faces.pth", host=host, device="cpu")
    found = model.predict(str(next((shapes_data / "shapes/faces/val").iterdir())), 0.0)
    assert len(found) and found.vertices.shape[1:] == (49, 3)
