"""Every tool serves an architecture that it has never heard of, in both hosts."""

import dataclasses
import importlib.machinery
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from unittest import mock

import cv2
import pytest
import torch
from tests.hosts.installed import BOTH, HOSTS, each_host, needs_both
from tests.hosts.toy import write_configs
from tests.test_media import write_video

from metaheads import load
from metaheads.api import Model
from metaheads.cli import main
from metaheads.commands.benchmark import split_speeds
from metaheads.media import VideoSource
from metaheads.structures import FixedDetections
from metaheads.weights import Coverage, Importer, register_importer

MASK_RCNN = "mask_rcnn/mask_rcnn_r18_shapes"
pytestmark = pytest.mark.skipif(not HOSTS, reason="no host is installed")


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_configs(tmp_path_factory.mktemp("toy"))


def _convert(state, *, complete=True):
    return {name.removeprefix("theirs."): t for name, t in state.items()}, Coverage(used=[*state])


@pytest.fixture(scope="module")
def authors_file(configs, tmp_path_factory) -> Path:
    """A checkpoint in the made-up format of the toy's authors."""
    register_importer(Importer("toy", r"theirs\..+", _convert, "https://example.org/toy", "MIT"))
    state = load(configs[HOSTS[0]]).module.state_dict()
    file = tmp_path_factory.mktemp("authors") / "toy.pth"
    torch.save({f"theirs.{name}": torch.rand_like(t.float()) for name, t in state.items()}, file)
    return file


@pytest.fixture(scope="module")
def weights_of(configs, tmp_path_factory) -> dict[str, Path]:
    """host -> a checkpoint of the toy in it."""
    files = {host: tmp_path_factory.mktemp("weights") / f"{host}.pth" for host in HOSTS}
    for host, file in files.items():
        torch.save(load(configs[host], device="cpu").checkpoint(), file)
    return files


@each_host
def test_import_weights(host, configs, authors_file, tmp_path, capsys):
    out = tmp_path / "ours.pth"
    flags = ["--config-file", str(configs[host]), "--out", str(out)]
    assert main(["import-weights", str(authors_file), *flags]) == 0
    assert "missing 0, unused 0" in capsys.readouterr().out
    card = json.loads(out.with_suffix(".card.json").read_text())
    assert (card["source"], card["licence"]) == ("https://example.org/toy", "MIT")
    assert card["classes"][0] == "figure" and card["input"]["size"] == [128, 128]
    assert card["input"]["channels"] == "RGB"
    theirs = torch.load(authors_file, weights_only=True)
    layer = load(configs[host], out).module.core.layer
    assert torch.equal(layer.weight, theirs["theirs.core.layer.weight"])
    assert torch.load(out, weights_only=True)["model_card"] == card


@needs_both
@each_host
def test_import_weights_of_the_other_host(host, configs, authors_file, tmp_path):
    first, second = tmp_path / "first.pth", tmp_path / "second.pth"
    other = BOTH[host == "mmdet"]
    command = ["import-weights", str(authors_file), "--out", str(first)]
    assert main([*command, "--from", "toy", "--config-file", str(configs[host])]) == 0
    command = ["import-weights", str(first), "--out", str(second)]
    assert main([*command, "--config-file", str(configs[other])]) == 0
    images = torch.rand(1, 3, 128, 128)
    outputs = [
        load(configs[each], file, device="cpu").raw_outputs(images)
        for each, file in ((host, first), (other, second))
    ]
    assert torch.equal(outputs[0].logits, outputs[1].logits)


def test_import_weights_refuses(configs, authors_file, tmp_path, capsys):
    state = torch.load(authors_file, weights_only=True)

    def refuse(changed, *flags, out=tmp_path / "out.pth") -> str:
        torch.save(changed, tmp_path / "changed.pth")
        command = ["import-weights", str(tmp_path / "changed.pth"), *flags]
        assert main([*command, "--config-file", str(configs[HOSTS[0]]), "--out", str(out)]) == 2
        assert not out.exists()
        return capsys.readouterr().err

    part = {name: tensor for name, tensor in state.items() if "layer.bias" not in name}
    assert "lacks core.layer.bias" in refuse(part)
    nan = {**state, "theirs.core.layer.bias": torch.full((7,), torch.nan)}
    assert "NaN or infinite values in core.layer.bias" in refuse(nan)
    assert "no format 'yolo'; known are" in refuse(state, "--from", "yolo")
    other = {**state, "theirs.core.layer.bias": torch.zeros(3)}
    other["theirs.core.layer.weight"] = torch.zeros(3, 64, 1, 1)
    assert "3 classes, the model 7 classes" in refuse(other)
    assert "no folder" in refuse(state, out=tmp_path / "nowhere" / "x.pth")
    assert "must end in .pth" in refuse(state, out=tmp_path / "x.json")


def test_import_weights_of_parts_and_of_other_classes(configs, authors_file, tmp_path):
    state = torch.load(authors_file, weights_only=True)
    state["theirs.core.layer.bias"] = torch.zeros(3)
    state["theirs.core.layer.weight"] = torch.zeros(3, 64, 1, 1)
    file, out = tmp_path / "three.pth", tmp_path / "out.pth"
    torch.save(state, file)
    flags = ["--config-file", str(configs[HOSTS[0]]), "--out", str(out)]
    assert main(["import-weights", str(file), *flags, "--reinitialise-classes"]) == 0
    fresh = ["core.layer.bias", "core.layer.weight"]
    assert json.loads(out.with_suffix(".card.json").read_text())["fresh"] == fresh
    del state["theirs.core.layer.bias"], state["theirs.core.layer.weight"]
    torch.save(state, file)
    assert main(["import-weights", str(file), *flags, "--allow-partial"]) == 0
    assert json.loads(out.with_suffix(".card.json").read_text())["fresh"] == fresh
    again = tmp_path / "again.pth"
    words = [str(out), "--config-file", str(configs[HOSTS[0]]), "--out", str(again)]
    assert main(["import-weights", *words]) == 0
    card = json.loads(again.with_suffix(".card.json").read_text())
    assert (card["licence"], card["fresh"]) == ("MIT", fresh), "where it came from is kept"
    names = load(configs[HOSTS[0]]).module.state_dict()
    (name,) = (each for each in names if re.fullmatch(r"backbone\.(stem\.)?conv1\.weight", each))
    conv1 = load(configs[HOSTS[0]], out).module.state_dict()[name].cpu()
    assert torch.equal(conv1, state[f"theirs.{name}"])


@needs_both
def test_benchmark(configs, tmp_path, capsys):
    names = [f"{host}:{path}" for host, path in configs.items()]
    assert (
        main(
            [
                "benchmark",
                *names,
                "--repeats",
                "2",
                "--max-images",
                "3",
                "--batch",
                "2",
                "--out",
                str(tmp_path),
            ]
        )
        == 0
    )
    assert "without --checkpoint" in capsys.readouterr().out
    report = json.loads((tmp_path / "benchmark.json").read_text())
    ours, theirs = report["models"]
    for model in (ours, theirs):
        stages = model["stages_ms"]
        assert min(stages[name] for name in stages if name != "neck") > 0 == stages["neck"]
        assert sum(stages.values()) == pytest.approx(model["total_ms"], rel=0.5)
        assert model["detections"] == 7, "one for each class"
    assert ours["gmacs"] == pytest.approx(theirs["gmacs"]) and ours["gmacs"] > 0.1
    assert ours["parameters"] == theirs["parameters"]
    table = (tmp_path / "benchmark.md").read_text().splitlines()
    assert len(table) == 8 and table[4].count("|") == table[6].count("|")
    assert table[0].startswith("`metaheads benchmark toy.py toy.yaml --batch 2")
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")


def test_benchmark_of_training_steps(configs, tmp_path):
    names = [f"{host}:{path}" for host, path in configs.items()]
    names += [f"{host}:{MASK_RCNN}" for host in HOSTS]
    command = ["benchmark", *names, "--train", "--repeats", "1", "--batch", "2"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    for model in json.loads((tmp_path / "benchmark.json").read_text())["models"]:
        assert min(model["stages_ms"].values()) > 0
    assert len(json.loads((tmp_path / "benchmark.json").read_text())["models"]) == 2 * len(HOSTS)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--checkpoint", "a.pth", "b.pth", "c.pth"], "3 files for 2 configs"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["--batch", "4", "--max-images", "2"], "--batch 4, but there are 2 images"),
        (["--images", "nowhere"], "no image, video or folder nowhere"),
        (["--train", "--images", "x"], "leave out"),
    ],
)
@needs_both
def test_benchmark_refuses(configs, capsys, flags, message):
    names = [f"{host}:{path}" for host, path in configs.items()]
    assert main(["benchmark", *names, *flags]) == 2
    assert message in capsys.readouterr().err


@each_host
def test_demo(host, configs, weights_of, shapes_data, tmp_path, capsys):
    images = sorted((shapes_data / "shapes/val").glob("*.png"))[:2]
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for image in images:
        shutil.copy(image, pictures)
    write_video(pictures / "clip.avi", 4)
    (pictures / "broken.jpg").write_bytes(b"no image")
    command = ["demo", "--config-file", str(configs[host]), "--checkpoint", str(weights_of[host])]
    command += ["--threshold", "0", "--output", str(tmp_path / "found"), str(pictures)]
    assert main(command) == 2
    assert "broken.jpg is not an image" in capsys.readouterr().err
    kept = json.loads((tmp_path / "found/results.json").read_text())
    assert len(kept) == 14, "what was found before the broken one"
    assert main([*command[:-1], "--classes", "ball", "tree", "--keep-going", str(pictures)]) == 0
    said = capsys.readouterr()
    assert "skipped: " in said.err and "6 pictures, 12 detections" in said.out
    results = json.loads((tmp_path / "found/results.json").read_text())
    assert {each["category_name"] for each in results} == {"ball", "tree"} and len(results) == 12
    assert [each["frame"] for each in results if each["file_name"].endswith("clip.avi")][::2] == [
        *range(4)
    ]
    assert VideoSource(str(tmp_path / "found/clip.mp4")).length == 4
    assert cv2.imread(str(tmp_path / f"found/{images[0].stem}.png")).shape[2] == 3


def test_demo_refuses(configs, weights_of, shapes_data, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    image = str(next((shapes_data / "shapes/val").glob("*.png")))
    command = ["demo", "--config-file", str(configs[HOSTS[0]]), "--output", str(tmp_path)]
    command += ["--checkpoint", str(weights_of[HOSTS[0]])]
    for flags, message in (
        (["--classes", "bal", "--", image], "no class 'bal'; did you mean ball?"),
        (["--show", image], "no screen"),
        (["--threshold", "7", image], "between 0 and 1"),
        ([image, "nowhere.mp4"], "no image, video or folder nowhere.mp4"),
    ):
        assert main([*command, *flags]) == 2
        assert message in capsys.readouterr().err


def test_demo_does_not_overwrite_its_inputs(configs, weights_of, shapes_data, tmp_path, capsys):
    image = shutil.copy(next((shapes_data / "shapes/val").glob("*.png")), tmp_path)
    content = Path(image).read_bytes()
    command = ["demo", "--config-file", str(configs[HOSTS[0]]), "--output", str(tmp_path)]
    assert main([*command, "--checkpoint", str(weights_of[HOSTS[0]]), str(tmp_path)]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert Path(image).read_bytes() == content
    (tmp_path / "file").touch()
    command[-1] = str(tmp_path / "file")
    assert main([*command, "--checkpoint", str(weights_of[HOSTS[0]]), image]) == 2
    assert "is a file, not a folder" in capsys.readouterr().err


def test_a_terminated_demo_leaves_whole_results(configs, weights_of, tmp_path, monkeypatch):
    write_video(tmp_path / "clip.avi", 9)
    predicted = []

    def predict(model, image, threshold, scales):
        predicted.append(image)
        if len(predicted) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(model, image, threshold, scales)

    plain = Model.predict
    monkeypatch.setattr(Model, "predict", predict)
    command = ["demo", "--config-file", str(configs[HOSTS[0]]), "--threshold", "0"]
    command += ["--checkpoint", str(weights_of[HOSTS[0]]), "--output", str(tmp_path / "found")]
    with pytest.raises(SystemExit):
        main([*command, str(tmp_path / "clip.avi")])
    assert len(json.loads((tmp_path / "found/results.json").read_text())) == 3 * 7
    assert VideoSource(str(tmp_path / "found/clip.mp4")).length == 3


@each_host
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_export(host, suffix, configs, weights_of, tmp_path, capsys):
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime", reason="ONNX is an extra: pip install metaheads[export]")
    out, report = tmp_path / f"toy{suffix}", tmp_path / "report.json"
    command = ["export", "--config-file", str(configs[host]), "--json", str(report)]
    command += ["--checkpoint", str(weights_of[host]), "--max-images", "2", "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "(batch, 3, 128, 128)" in printed and "Outside of the graph" in printed
    content = json.loads(report.read_text())
    assert content["images"] == 4 and list(content["differences"]) == ["logits"]  # 1, 1, 2 at once
    logits = content["differences"]["logits"]
    assert logits["count"] == 4 * 7 * 32 * 32 and 0 < logits["largest"] < 100
    assert logits["difference"] < 1e-4


@each_host
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_export_with_decoding(host, suffix, configs, weights_of, tmp_path, capsys):
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime", reason="ONNX is an extra: pip install metaheads[export]")
    out, report = tmp_path / f"toy{suffix}", tmp_path / "report.json"
    command = ["export", "--config-file", str(configs[host]), "--json", str(report), "--decode"]
    command += ["--checkpoint", str(weights_of[host]), "--max-images", "2", "--out", str(out)]
    assert main(command) == 0
    assert "28 detections compared, 0 without a pair" in capsys.readouterr().out
    content = json.loads(report.read_text())
    assert (content["count"], content["unmatched"]) == (28, 0)
    assert content["differences"]["boxes"]["count"] == 28 * 4
    assert content["differences"]["scores"]["difference"] < 1e-4


def test_export_with_decoding_notices_a_difference(
    configs, weights_of, tmp_path, capsys, monkeypatch
):
    command = ["export", "--config-file", str(configs[HOSTS[0]]), "--max-images", "1", "--decode"]
    command += ["--checkpoint", str(weights_of[HOSTS[0]]), "--out", str(tmp_path / "x.pt2")]
    changes = {
        "the difference 2.0e-01 in scores exceeds": lambda b, s, *rest: (b, s - 0.2, *rest),
        "the difference 7.8e-03 in boxes exceeds": lambda b, s, *rest: (b + 1.0, s, *rest),
        "3 detections of model and file are not in the other": lambda b, s, *rest: (
            b,
            torch.cat((s[:, :-1], -s[:, -1:]), 1),
            *rest,
        ),
        "the model found nothing": lambda b, s, *rest: (b, s - 5, *rest),
    }
    for message, change in changes.items():
        monkeypatch.setattr(
            "metaheads.commands.export.write_network",
            lambda network, *_, change=change, **__: lambda images: change(*network(images)),
        )
        if "nothing" in message:
            monkeypatch.setattr("tests.hosts.toy.Toy.decode", _find_nothing)
        assert main(command) == 1
        assert f"x.pt2 is not written: {message}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_export_with_decoding_notices_a_missing_field(configs, weights_of, tmp_path, capsys):
    plain = FixedDetections.of_image

    def without_masks(fixed, index):
        return dataclasses.replace(plain(fixed, index), masks=None)

    command = ["export", "--config-file", str(configs[HOSTS[0]]), "--max-images", "1", "--decode"]
    command += ["--checkpoint", str(weights_of[HOSTS[0]]), "--out", str(tmp_path / "x.pt2")]
    with mock.patch.object(FixedDetections, "of_image", without_masks):
        assert main(command) == 1
    assert "only one of model and file has masks" in capsys.readouterr().err


def _find_nothing(core, outputs, sizes):
    return [core._decode(each)[:0] for each in outputs.logits]


def test_export_runs_any_batch(configs, weights_of, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install metaheads[export]")
    out = tmp_path / "toy.onnx"
    command = ["export", "--config-file", str(configs[HOSTS[0]]), "--out", str(out)]
    assert main([*command, "--checkpoint", str(weights_of[HOSTS[0]]), "--max-images", "1"]) == 0
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    images = torch.rand(5, 3, 128, 128)
    expected = load(configs[HOSTS[0]], weights_of[HOSTS[0]], device="cpu").raw_outputs(images)
    found = session.run(None, {"images": images.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), expected.logits, atol=1e-4, rtol=1e-4)


def test_export_notices_a_difference(configs, weights_of, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "metaheads.commands.export.write_network",
        lambda network, *_, **__: lambda images: [network(images)[0] + 1],
    )
    command = ["export", "--config-file", str(configs[HOSTS[0]]), "--max-images", "1"]
    command += ["--checkpoint", str(weights_of[HOSTS[0]]), "--out", str(tmp_path / "x.pt2")]
    assert main(command) == 1
    assert "in logits exceeds the tolerance" in capsys.readouterr().err


def test_export_refuses(configs, tmp_path, capsys):
    config = ["--config-file", str(configs[HOSTS[0]]), "--out"]
    for words, message in (
        ([*config, str(tmp_path / "x.trt")], "must end in .onnx or .pt2"),
        ([*config, str(tmp_path / "nowhere/x.onnx")], "no folder"),
        ([*config, str(tmp_path / "x.onnx"), "--max-images", "0"], "--max-images must be at least"),
        (
            [
                "--config-file",
                "mask_rcnn/mask_rcnn_r18_shapes",
                "--host",
                HOSTS[0],
                "--out",
                "x.pt2",
            ],
            "no raw_outputs",
        ),
    ):
        assert main(["export", *words]) == 2
        assert message in capsys.readouterr().err


@each_host
def test_check_dataset(host, configs, tmp_path, capsys):
    overlay = tmp_path / "samples.png"
    command = ["check-dataset", "--config-file", str(configs[host]), "--overlay", str(overlay)]
    assert main(command) == 0
    assert "no faults" in capsys.readouterr().out and cv2.imread(str(overlay)).std() > 10


@each_host
def test_dry_run(host, configs, shapes_data, tmp_path, capsys):
    work = tmp_path / "work"
    command = ["train", "--config-file", str(configs[host]), "--work-dir", str(work), "--dry-run"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    losses = json.loads(printed[printed.rindex("\n{") :])
    assert losses["loss"] == pytest.approx(losses["loss_toy"]) and losses["detections"] == 7
    assert not list(work.rglob("*.pth"))
    assert main([*command, "--num-gpus", "2"]) == 2
    assert "--dry-run is for one process" in capsys.readouterr().err
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "other.pth")
    assert main([*command, "--checkpoint", str(tmp_path / "other.pth")]) == 2
    assert "another architecture" in capsys.readouterr().err


@each_host
def test_dry_run_of_the_hosts_own_model(host, tmp_path, capsys):
    command = ["train", "--config-file", MASK_RCNN, "--host", host, "--dry-run"]
    assert main([*command, "--work-dir", str(tmp_path)]) == 0
    assert '"loss_mask"' in capsys.readouterr().out


@each_host
def test_optimised_models_predict_the_same(host, configs, weights_of, shapes_data):
    image = next((shapes_data / "shapes/val").glob("*.png"))
    plain, fast = (
        load(configs[host], weights_of[host], device="cpu", optimise=each) for each in (False, True)
    )
    norms = [m for m in fast.module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert not norms
    with pytest.raises(ValueError, match="fit no config"):
        fast.checkpoint()
    ours, theirs = plain.predict(image), fast.predict(image)
    assert len(ours) == 7 and torch.equal(ours.labels, theirs.labels)
    torch.testing.assert_close(ours.scores, theirs.scores, rtol=1e-4, atol=1e-4)


@each_host
def test_bfloat16_predicts_nearly_the_same(host, configs, weights_of, shapes_data):
    image = next((shapes_data / "shapes/val").glob("*.png"))
    plain, coarse = (
        load(configs[host], weights_of[host], device="cpu", bfloat16=each) for each in (False, True)
    )
    images = torch.rand(1, 3, 128, 128)
    ours, theirs = plain.raw_outputs(images).logits, coarse.raw_outputs(images).logits
    assert theirs.dtype == torch.bfloat16
    assert 0 < (ours - theirs.float()).abs().max() < 0.05 * ours.abs().max()
    ours, theirs = plain.predict(image), coarse.predict(image)
    assert len(ours) == len(theirs) == 7
    torch.testing.assert_close(ours.scores, theirs.scores.float(), rtol=0.05, atol=0.05)


def test_benchmark_names_what_makes_a_model_faster():
    assert split_speeds("a/b@optimise+compile") == ("a/b", ["optimise", "compile"])
    assert split_speeds("a/b") == ("a/b", [])
    with pytest.raises(ValueError, match="behind @ stand optimise, bfloat16, compile"):
        split_speeds("a/b@optimised")


@each_host
@pytest.mark.parametrize("tracker", ["wandb", "mlflow"])
def test_tracking(host, tracker, configs, tmp_path, monkeypatch):
    fake = mock.MagicMock()
    fake.__spec__ = importlib.machinery.ModuleSpec(tracker, None)
    fake.get_tracking_uri.return_value = "sqlite:///mlflow.db"
    monkeypatch.setitem(sys.modules, tracker, fake)
    options = {
        "mmdet": ["train_cfg.max_iters=2", "default_hooks.logger.interval=1"],
        "detectron2": ["SOLVER.MAX_ITER=2"],
    }[host]
    command = ["train", "--config-file", str(configs[host]), "--work-dir", str(tmp_path / "run")]
    assert main([*command, "--no-data-check", "--track", tracker, *options]) == 0
    names = {
        name
        for call in fake.mock_calls
        for values in call.args
        if isinstance(values, dict)
        for name in values
    }
    expected = {"mmdet": {"loss", "coco/bbox_mAP"}, "detectron2": {"total_loss", "bbox/AP"}}
    assert expected[host] <= names
    assert any("run" in (*call.args, *call.kwargs.values()) for call in fake.mock_calls), "its name"


def test_tracking_needs_its_package(configs, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["train", "--config-file", str(configs[HOSTS[0]]), "--track", "wandb"]) == 2
    assert "pip install wandb" in capsys.readouterr().err


@each_host
def test_early_stopping(host, configs, tmp_path, monkeypatch):
    """Evaluations that find the same each time: the first is the best, two more are waited for."""
    evaluations = []

    def evaluate(found: dict) -> dict:
        evaluations.append(found)
        return found

    method, results = {
        "mmdet": ("mmdet.evaluation.CocoMetric.compute_metrics", {"segm_mAP": 0.5}),
        "detectron2": ("metaheads.hosts.detectron2.trainer.Trainer.test", {"segm": {"AP": 50.0}}),
    }[host]
    monkeypatch.setattr(method, lambda *_: evaluate(results))
    options = {
        "mmdet": ["train_cfg.max_iters=8", "train_cfg.val_interval=1"],
        "detectron2": ["SOLVER.MAX_ITER=8", "TEST.EVAL_PERIOD=1"],
    }[host]
    command = ["train", "--config-file", str(configs[host]), "--work-dir", str(tmp_path)]
    assert main([*command, "--no-data-check", "--early-stopping", "2", *options]) == 0
    (best,) = tmp_path.glob("*best*.pth")
    content = torch.load(best, weights_only=True)
    written = content["meta"]["iter"] if host == "mmdet" else content["best"]
    assert written == (1 if host == "mmdet" else 50.0)
    assert len(evaluations) == 3, "of 8"
