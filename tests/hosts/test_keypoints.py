"""Keypoints through the data of both hosts: what the file says arrives."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from tests.hosts import pair
from tests.hosts.installed import each_host, needs_detectron2, needs_mmdet

POSE = "centernet_points/centernet_points_pose_hourglass_small_160_shapes"


def file_keypoints(shapes_data) -> dict[str, list]:
    """File name -> sorted keypoints of its figures that are no crowd, in pixels of the network."""
    content = json.loads((shapes_data / "shapes/annotations/keypoints_train.json").read_text())
    found: dict[str, list] = {image["file_name"]: [] for image in content["images"]}
    sizes = {image["id"]: image for image in content["images"]}
    for each in content["annotations"]:
        if not each["iscrowd"]:
            image = sizes[each["image_id"]]
            points = np.array(each["keypoints"], float).reshape(-1, 3)
            points[:, :2] *= (192 / image["width"], 160 / image["height"])
            found[image["file_name"]].append(np.where(points[:, 2:] > 0, points, 0))
    return found


def assert_equal(found: dict[str, list], expected: dict[str, list]) -> None:
    assert found.keys() == expected.keys() and sum(map(len, expected.values())) > 3
    for name, ours in found.items():
        key = lambda points: float(points[0, 0])  # noqa: E731
        theirs = sorted(expected[name], key=key)
        assert len(ours) == len(theirs)
        for a, b in zip(sorted(ours, key=key), theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3)


@needs_detectron2
def test_detectron2(shapes_data):
    from detectron2.data import get_detection_dataset_dicts

    from metaheads.hosts.detectron2.data import MetaheadsMapper

    cfg = pair.detectron2_config(POSE, ("INPUT.TRANSFORM.FLIP", "0.0"))
    mapper, found = MetaheadsMapper(cfg, True), {}
    for entry in get_detection_dataset_dicts(cfg.DATASETS.TRAIN[0], filter_empty=False):
        instances = mapper(entry)["instances"]
        points = instances.gt_keypoints.tensor[~instances.gt_is_crowd].numpy()
        found[entry["file_name"].split("/")[-1]] = list(points)
    assert_equal(found, file_keypoints(shapes_data))


@needs_mmdet
def test_mmdet(shapes_data):
    from mmengine.runner import Runner

    cfg = pair.mmdet_config(POSE, ("train_dataloader.dataset.pipeline.3.flip", "0"))
    found = {}
    dataset = Runner.build_dataloader(cfg.train_dataloader).dataset
    for index in range(len(dataset)):
        sample = dataset[index]["data_samples"]
        points = sample.gt_instances.keypoints.numpy()
        found[sample.img_path.split("/")[-1]] = list(points)
    assert_equal(found, file_keypoints(shapes_data))


@each_host
def test_another_number_of_keypoints_is_refused(host, shapes_data, tmp_path, monkeypatch, capsys):
    from metaheads.cli import main

    shutil.copytree(shapes_data / "shapes", tmp_path / "shapes")
    file = tmp_path / "shapes/annotations/keypoints_train.json"
    content = json.loads(file.read_text())
    for each in content["annotations"]:
        each["keypoints"] = each["keypoints"][:24]
    file.write_text(json.dumps(content))
    monkeypatch.setenv("METAHEADS_DATA", str(tmp_path))
    command = ["train", "--config-file", POSE, "--host", host, "--dry-run", "--work-dir"]
    assert main([*command, str(tmp_path / "work")]) == 2
    error = capsys.readouterr().err
    assert "without exactly 9 keypoints" in error and "(8 keypoints)" in error


@pytest.mark.slow
@each_host
def test_keypoints_are_evaluated(host, shapes_data, tmp_path, capsys):
    from metaheads.cli import main

    options = {
        "mmdet": ["train_cfg.max_iters=2", "train_cfg.val_interval=2"],
        "detectron2": ["SOLVER.MAX_ITER=2", "TEST.EVAL_PERIOD=2"],
    }[host]
    command = ["train", "--config-file", POSE, "--host", host, "--work-dir", str(tmp_path)]
    assert main([*command, *options]) == 0
    metrics = json.loads((tmp_path / "results.json").read_text())
    name = "coco/keypoints_mAP" if host == "mmdet" else "keypoints/AP"
    assert name in metrics and list(tmp_path.glob("*best*.pth"))


@pytest.mark.slow
@each_host
@pytest.mark.parametrize("kind", ["r18_256x320_bccd", "resdcn18_384_voc"])
def test_onnx_equals_the_model_also_with_deformable_convolutions(
    host, kind, shapes_data, tmp_path, monkeypatch
):
    pytest.importorskip("onnxruntime", reason="ONNX is an extra: pip install metaheads[export]")
    import onnx

    from metaheads import load
    from metaheads.cli import main

    monkeypatch.setenv("METAHEADS_DATA", str(shapes_data))
    name = f"centernet_points/centernet_points_{kind}"
    model = load(name, host=host, device="cpu")
    for part, parameter in model.module.named_parameters():
        if "conv_offset_mask" in part or ".hm.2." in part:  # fresh ones shift nothing
            # Larger offsets amplify rounding: at 0.02 each runtime is 1e-3 off float64.
            torch.nn.init.normal_(parameter, std=0.002 if "conv_offset" in part else 0.1)
    for layer in model.module.modules():  # and what arrives at the heads is next to nothing
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model.module.train().raw_outputs(torch.randn(2, 3, 96, 96))
    torch.save(model.checkpoint(), tmp_path / "random.pth")
    picture = sorted((shapes_data / "shapes/val").iterdir())[0]
    out, report = tmp_path / "model.onnx", tmp_path / "report.json"
    command = ["export", "--config-file", name, "--host", host, "--images", str(picture)]
    command += ["--checkpoint", str(tmp_path / "random.pth"), "--json", str(report)]
    assert main([*command, "--out", str(out)]) == 0
    found = json.loads(report.read_text())["differences"]
    assert list(found) == ["0_heatmap", "0_sizes", "0_offsets"]
    for each in found.values():
        assert each["count"] > 1000
        assert each["difference"] < 1e-4 * max(each["largest"], 1)
    kinds = [node.op_type for node in onnx.load(str(out)).graph.node]
    assert kinds.count("DeformConv") == (3 if "dcn" in kind else 0)
