"""The tools with panoptic models: ours and the hosts' own, untrained, on the embedded data."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tests.hosts.installed import HOSTS, each_host, needs_detectron2, needs_mmdet
from tests.test_media import write_video

from metaheads import load
from metaheads.api import Model
from metaheads.cli import main
from metaheads.configs import config_root
from metaheads.datasets.panoptic import read_file, read_ids
from metaheads.evaluation import evaluate_panoptic_files
from metaheads.media import VideoSource
from metaheads.structures import Segment

OURS, THEIRS = "upsnet/upsnet_r18_160_shapes", "panoptic_fpn/panoptic_fpn_r18_160_shapes"
THINGS = ["figure", "ball", "ring", "star", "canoe", "crate", "tree"]
STUFF = ["sky", "grass", "water", "road", "wall", "sand"]
pytestmark = pytest.mark.skipif(not HOSTS, reason="no host is installed")
each_model = pytest.mark.parametrize("name", [OURS, THEIRS], ids=["ours", "theirs"])

# So that untrained models find something.
CHANGES = {
    ("mmdet", OURS): "model = dict(core=dict(score_threshold=0.14, stuff_area_limit=1))",
    ("mmdet", THEIRS): "model = dict(test_cfg=dict(rcnn=dict(score_thr=0.14), "
    "panoptic=dict(stuff_area_limit=1)))",
    ("detectron2", OURS): "MODEL: {UPSNET: {SCORE_THRESHOLD: 0.14, STUFF_AREA_LIMIT: 1}}",
    ("detectron2", THEIRS): "MODEL: {ROI_HEADS: {SCORE_THRESH_TEST: 0.125}, PANOPTIC_FPN: "
    "{COMBINE: {STUFF_AREA_LIMIT: 1, INSTANCES_CONFIDENCE_THRESH: 0.125}}}",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Path, Path]]:
    """(host, name) -> a config and weights, whose boxes differ much."""
    folder, found = tmp_path_factory.mktemp("panoptic"), {}
    for (host, name), change in CHANGES.items():
        if host not in HOSTS:
            continue
        suffix = {"mmdet": ".py", "detectron2": ".yaml"}[host]
        base = config_root() / host / f"{name}{suffix}"
        config = folder / f"{host}_{Path(name).name}{suffix}"
        key = "_base_ = " if host == "mmdet" else "_BASE_: "
        config.write_text(f'{key}"{base}"\n{change}\n')
        torch.manual_seed(0)
        model = load(config, device="cpu")
        for parameter, values in model.module.state_dict().items():
            if re.search(r"(fc_cls|cls_score|conv_logits|mask_head.predictor).weight", parameter):
                values.mul_(20)
        torch.save(model.checkpoint(), weights := folder / f"{config.stem}.pth")
        found[host, name] = config, weights
    return found


@pytest.fixture
def image(shapes_data: Path) -> Path:
    return min((shapes_data / "shapes/val").glob("*.png"))


@each_model
@each_host
def test_predict_panoptic(host, name, models, image):
    model = load(*models[host, name], device="cpu")
    assert model.class_names == THINGS + STUFF and model.num_things == 7
    found = model.predict_panoptic(image)
    assert found.ids.shape == cv2.imread(str(image)).shape[:2] and found.ids.dtype == torch.int32
    ids = [each.id for each in found.segments]
    assert sorted(ids) == [each for each in found.ids.unique().tolist() if each]
    assert all(each.is_thing == (each.label < 7) for each in found.segments)
    assert {each.is_thing for each in found.segments} == {True, False}
    assert (found.is_unknown is not None) == (name == OURS)
    twice = model.predict_panoptic_batch([cv2.imread(str(image))[..., ::-1].copy()] * 2)
    assert torch.equal(twice[1].ids, found.ids)
    detections = model.predict(image)
    assert detections.masks.shape[1:] == found.ids.shape and len(detections)
    sure = model.predict_panoptic(image, threshold=1.0)
    assert all(each.score is None for each in sure.segments)
    with pytest.raises(ValueError, match="at one size"):
        model.predict(image, scales=[1.0])


@each_host
def test_other_models_give_no_segmentation(host, image):
    model = load("mask_rcnn/mask_rcnn_r18_shapes", host=host, device="cpu")
    assert not model.is_panoptic and len(model.class_names) == 7
    with pytest.raises(ValueError, match="CNN gives no panoptic segmentation"):
        model.predict_panoptic(image)


@each_host
def test_faster_models_segment_the_same(host, models, image):
    plain, fast = (load(*models[host, OURS], device="cpu", optimise=each) for each in (False, True))
    ours, theirs = plain.predict_panoptic(image), fast.predict_panoptic(image)
    assert len(ours) > 2 and (ours.ids == theirs.ids).float().mean() > 0.999
    if host == "mmdet":
        with pytest.raises(ValueError, match="RoIAlign has no bfloat16"):
            load(models[host, OURS][0], device="cpu", bfloat16=True)
    else:
        assert len(load(*models[host, OURS], device="cpu", bfloat16=True).predict_panoptic(image))


@needs_mmdet
def test_segmentation_of_mmdetection():
    from metaheads.hosts.mmdet.inference import to_segmentation

    values = torch.tensor([[7, 7, 1002, 1002], [2002, 8, 9, 2000]])
    found = to_segmentation(values, 7, 2)
    assert found.ids.tolist() == [[1, 1, 3, 3], [5, 2, 0, 4]], "9 is void"
    assert found.segments == [
        Segment(1, 7, False),
        Segment(2, 8, False),
        Segment(3, 2, True),
        Segment(4, 0, True),
        Segment(5, 2, True),
    ]


@needs_detectron2
def test_segmentation_of_detectron2():
    from metaheads.hosts.detectron2.inference import to_segmentation

    infos = [
        {"id": 2, "isthing": True, "category_id": 3, "score": 0.5, "instance_id": 0},
        {"id": 5, "isthing": False, "category_id": 1, "area": 3},
    ]
    found = to_segmentation({"panoptic_seg": (torch.tensor([[2, 5], [0, 5]]), infos)}, 7)
    assert found.ids.tolist() == [[2, 5], [0, 5]]
    assert found.segments == [Segment(2, 3, True, 0.5), Segment(5, 7, False)]


def demo(models, host: str, name: str, *words: str) -> list[str]:
    config, weights = models[host, name]
    flags = ["--config-file", str(config), "--checkpoint", str(weights), "--device", "cpu"]
    return ["demo", *flags, "--threshold", "0", *words]


@each_model
@each_host
def test_demo(host, name, models, image, tmp_path, capsys):
    pictures, out = tmp_path / "pictures", tmp_path / "found"
    pictures.mkdir()
    shutil.copy(image, pictures / "a.png")
    shutil.copy(image, pictures / "z.png")
    write_video(pictures / "clip.avi", 2)
    (pictures / "broken.jpg").write_bytes(b"no image")
    command = demo(models, host, name, "--output", str(out), str(pictures))
    assert main(command) == 2
    assert "broken.jpg is not an image" in capsys.readouterr().err
    kept = json.loads((out / "panoptic.json").read_text())
    assert [each["file_name"] for each in kept["annotations"]] == ["a.png"], "found before it"
    assert len(kept["images"]) == 1
    assert main([*command[:-1], "--keep-going", str(pictures)]) == 0
    said = capsys.readouterr()
    assert "skipped: " in said.err and re.search(r"4 pictures, \d+ segments", said.out)

    file = out / "panoptic.json"
    assert main(["check-dataset", "--panoptic", str(file), str(out / "panoptic")]) == 0
    scores = evaluate_panoptic_files(file, out / "panoptic", file, out / "panoptic").to_percent()
    assert scores["PQ"] == scores["PQ_th"] == scores["PQ_st"] == 100
    space, entries = read_file(file)
    assert list(space.thing_classes) == THINGS and list(space.stuff_classes) == STUFF
    names = ["a.png", "clip/000000.png", "clip/000001.png", "z.png"]
    assert [each.png for each in entries] == names
    assert [entries[1].image[key] for key in ("video_id", "frame_id")] == [3, 0]
    found = load(*models[host, name], device="cpu").predict_panoptic(image)
    np.testing.assert_array_equal(read_ids(out / "panoptic/a.png"), found.ids.numpy())
    infos = json.loads(file.read_text())["annotations"][0]["segments_info"]
    assert [(e["id"], e["category_id"]) for e in infos] == sorted(e[:2] for e in found.segments)
    assert [each.get("score") for each in infos] == [e.score for e in sorted(found.segments)]
    results = json.loads((out / "results.json").read_text())
    things = sum(each.is_thing for each in found.segments)
    assert sum(each["file_name"].endswith("a.png") for each in results) == things > 0
    drawn, given = cv2.imread(str(out / "a.png")), cv2.imread(str(image))
    assert drawn.shape == given.shape and (drawn != given).any(2).mean() > 0.5
    assert VideoSource(str(out / "clip.mp4")).length == 2


@each_host
def test_demo_keeps_classes_and_refuses_scales(host, models, image, tmp_path, capsys):
    name = OURS
    label = load(*models[host, name], device="cpu").predict_panoptic(image).segments[0].label
    kept = (THINGS + STUFF)[label]
    command = demo(models, host, name, "--output", str(tmp_path), "--no-save")
    assert main([*command, str(image), "--classes", kept]) == 0
    infos = json.loads((tmp_path / "panoptic.json").read_text())["annotations"][0]["segments_info"]
    assert infos and {each["category_id"] for each in infos} == {label}
    assert set(np.unique(read_ids(tmp_path / "panoptic" / image.name))) <= {
        0,
        *(each["id"] for each in infos),
    }
    assert main([*command, str(image), "--scales", "1"]) == 2
    assert "leave it out" in capsys.readouterr().err
    inside = str(tmp_path / "panoptic" / image.name)
    assert main([*command, inside]) == 2, "a PNG of the results as input"
    assert "would be overwritten" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "panoptic")
    (tmp_path / "panoptic.json").unlink()
    assert main([*command, "--no-json", str(image)]) == 0
    assert not (tmp_path / "panoptic").exists() and not (tmp_path / "panoptic.json").exists()


@each_host
def test_a_terminated_demo_leaves_whole_results(host, models, tmp_path, monkeypatch):
    write_video(tmp_path / "clip.avi", 5)
    predicted = []

    def predict(model, image, threshold):
        predicted.append(image)
        if len(predicted) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(model, image, threshold)

    plain = Model.predict_panoptic
    monkeypatch.setattr(Model, "predict_panoptic", predict)
    out = tmp_path / "found"
    with pytest.raises(SystemExit):
        main(demo(models, host, OURS, "--output", str(out), str(tmp_path / "clip.avi")))
    file = out / "panoptic.json"
    assert len(json.loads(file.read_text())["annotations"]) == 2
    assert main(["check-dataset", "--panoptic", str(file), str(out / "panoptic")]) == 0


@each_host
def test_benchmark(host, models, tmp_path):
    chosen = [models[host, name] for name in (OURS, THEIRS)]
    command = ["benchmark", *(str(config) for config, _ in chosen), "--repeats", "1"]
    command += ["--checkpoint", *(str(weights) for _, weights in chosen), "--max-images", "1"]
    assert main([*command, "--threshold", "0", "--out", str(tmp_path)]) == 0
    for model in json.loads((tmp_path / "benchmark.json").read_text())["models"]:
        assert min(model["stages_ms"].values()) > 0
        assert model["detections"] > 1 and model["gmacs"] > 0.5


@each_host
def test_benchmark_of_training_steps(host, tmp_path):
    command = ["benchmark", *(f"{host}:{name}" for name in (OURS, THEIRS)), "--train"]
    assert main([*command, "--repeats", "1", "--batch", "2", "--out", str(tmp_path)]) == 0
    for model in json.loads((tmp_path / "benchmark.json").read_text())["models"]:
        assert min(model["stages_ms"].values()) > 0


@each_model
@each_host
def test_export_refuses(host, name, tmp_path, capsys):
    command = ["export", "--config-file", name, "--host", host, "--out", str(tmp_path / "x.pt2")]
    assert main(command) == 2
    assert "only our single-stage architectures" in capsys.readouterr().err


def to_authors(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights under the names of MMDetection's model -> as the authors of UPSNet would store them:
    the background first, also of boxes and masks."""
    rules = (
        (r"backbone\.(conv|bn)1\.", r"resnet_backbone.conv1.\g<1>1."),
        (r"backbone\.layer(\d)\.", lambda m: f"resnet_backbone.res{int(m[1]) + 1}.layers."),
        (r"neck\.lateral_convs\.(\d)\.conv", lambda m: f"fpn.fpn_p{int(m[1]) + 2}_1x1"),
        (r"neck\.fpn_convs\.(\d)\.conv", lambda m: f"fpn.fpn_p{int(m[1]) + 2}"),
        (r"rpn_head\.rpn_conv", "rpn.conv_proposal.0"),
        (r"rpn_head\.rpn_cls", "rpn.cls_score"),
        (r"rpn_head\.rpn_reg", "rpn.bbox_pred"),
        (r"roi_head\.bbox_head\.shared_fcs\.(\d)", lambda m: f"rcnn.fc{int(m[1]) + 6}.0"),
        (r"roi_head\.bbox_head\.fc_cls", "rcnn.cls_score"),
        (r"roi_head\.bbox_head\.fc_reg", "rcnn.bbox_pred"),
        (
            r"roi_head\.mask_head\.convs\.(\d)\.conv",
            lambda m: f"mask_branch.mask_conv{int(m[1]) + 1}.0",
        ),
        (r"roi_head\.mask_head\.upsample", "mask_branch.mask_deconv1.0"),
        (r"roi_head\.mask_head\.conv_logits", "mask_branch.mask_score"),
        (
            r"core\.semantic_head\.subnet\.(\d)\.conv_offset",
            lambda m: f"fcn_head.fcn_subnet.conv.{int(m[1]) // 2}.0.conv_offset",
        ),
        (
            r"core\.semantic_head\.subnet\.(\d)",
            lambda m: f"fcn_head.fcn_subnet.conv.{int(m[1]) // 2}.0.conv",
        ),
        (r"core\.semantic_head\.score", "fcn_head.score"),
    )
    authors = {}
    for name, tensor in state.items():
        pattern, new = next((p, n) for p, n in rules if re.match(p, name))
        if "cls_score" in (renamed := re.sub(pattern, new, name)) and "rcnn" in renamed:
            tensor = tensor.roll(1, 0)
        elif "rcnn.bbox_pred" in renamed:
            tensor = torch.cat((torch.zeros_like(tensor[:4]), tensor))
        elif "mask_score" in renamed:
            tensor = torch.cat((torch.zeros_like(tensor[:1]), tensor))
        authors[renamed] = tensor
    return authors


@needs_mmdet
def test_import_of_the_authors_weights(models, image, tmp_path, capsys):
    config, weights = models["mmdet", OURS]
    state = torch.load(weights, weights_only=True)["state_dict"]
    torch.save(to_authors(state), tmp_path / "upsnet.pth")
    for host in HOSTS:
        out = tmp_path / f"{host}.pth"
        target = str(models[host, OURS][0])
        command = ["import-weights", str(tmp_path / "upsnet.pth"), "--config-file", target]
        assert main([*command, "--out", str(out)]) == 0
        said = capsys.readouterr().out
        assert "upsnet: used " in said and "missing 0, unused 0" in said
        assert "non-commercial" in said, "the licence"
        card = json.loads(out.with_suffix(".card.json").read_text())
        assert "non-commercial" in card["licence"] and card["classes"] == THINGS + STUFF
        found = load(models[host, OURS][0], out, device="cpu").predict_panoptic(image)
        if host == "mmdet":
            expected = load(config, weights, device="cpu").predict_panoptic(image)
            assert torch.equal(found.ids, expected.ids)
