"""A model of faces in the tools: exported with its decoding, in both hosts."""

from __future__ import annotations

import json

import pytest
import torch
from tests.hosts.installed import each_host

from metaheads import load
from metaheads.architectures import RetinaFace
from metaheads.cli import main

FACES = "retinaface/retinaface_mnet025_256_faces"


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
