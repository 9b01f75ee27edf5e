"""Semantic segmentation alone in both hosts, on the embedded data set."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from PIL import Image
from tests.hosts import pair
from tests.hosts.installed import HOSTS, each_host, needs_both, needs_detectron2, needs_mmdet
from torch.testing import assert_close

from metaheads import load
from metaheads.cli import main
from metaheads.datasets.check import DatasetError, check_all
from metaheads.datasets.panoptic import read_ids
from metaheads.distributed import leave_process_group
from metaheads.evaluation import MeanIoU, SegmentationError, SemanticFiles

FCN, DEFORMABLE = "semantic/fcn_r18_160_shapes", "semantic/deformable_r18_160_shapes"
each_config = pytest.mark.parametrize("name", [FCN, DEFORMABLE], ids=["fcn", "deformable"])
BUILD = {"mmdet": pair.mmdet_model, "detectron2": pair.detectron2_model}
Maps = dict[int, np.ndarray]


@pytest.fixture
def truth(shapes_data: Path) -> SemanticFiles:
    folder = shapes_data / "shapes/annotations"
    return SemanticFiles(folder / "panoptic_val.json", folder / "panoptic_val")


def mmdet_maps(model: torch.nn.Module, name: str) -> Maps:
    """Image id -> label map, by MMDetection's own loader and pipeline."""
    from mmengine.runner import Runner

    found = {}
    with torch.no_grad():
        loader = Runner.build_dataloader(copy.deepcopy(pair.mmdet_config(name).val_dataloader))
        for batch in loader:
            for sample in model.eval().test_step(batch):
                found[sample.img_id] = sample.pred_sem_seg.sem_seg[0].numpy()
    return found


def detectron2_maps(model: torch.nn.Module, name: str) -> Maps:
    """Image id -> label map, by Detectron2's own loader and our trainer's mapper."""
    from metaheads.hosts.detectron2.trainer import Trainer

    cfg = pair.detectron2_config(name)
    found = {}
    with torch.no_grad():
        for inputs in Trainer.build_test_loader(cfg, cfg.DATASETS.TEST[0]):
            for each, output in zip(inputs, model.eval()(inputs), strict=True):
                assert output["sem_seg"].shape == (13, each["height"], each["width"])
                found[each["image_id"]] = output["sem_seg"].argmax(0).numpy()
    return found


@needs_both
@each_config
def test_same_weights_give_the_same_labels(name):
    ours, theirs = pair.mmdet_model(name), pair.detectron2_model(name)
    for key, parameter in ours.core.named_parameters():
        if "conv_offset" in key:  # else all taps lie on cells
            torch.nn.init.normal_(parameter, std=0.05)
    pair.same_weights(ours, theirs)
    images = torch.randn(2, 3, 96, 160)
    with torch.no_grad():
        logits = ours.eval().raw_outputs(images).semantic
        assert_close(logits, theirs.eval().raw_outputs(images).semantic, rtol=1e-4, atol=1e-5)
    assert logits.shape == (2, 13, 24, 40) and logits.std() > 1e-3
    in_mmdet, in_detectron2 = mmdet_maps(ours, name), detectron2_maps(theirs, name)
    assert in_mmdet.keys() == in_detectron2.keys() and len(in_mmdet) == 6
    for image, labels in in_mmdet.items():
        assert labels.shape == in_detectron2[image].shape == (144, 192)
        assert (labels == in_detectron2[image]).mean() > 0.999, "but for ties"
    assert len(np.unique(np.stack(list(in_mmdet.values())))) > 1


def mmdet_losses(model: torch.nn.Module, name: str) -> dict[str, torch.Tensor]:
    from mmengine.runner import Runner

    loader = Runner.build_dataloader(copy.deepcopy(pair.mmdet_config(name).train_dataloader))
    data = model.data_preprocessor(next(iter(loader)), training=True)
    assert "masks" not in data["data_samples"][0].gt_instances
    return model(**data, mode="loss")


def detectron2_losses(model: torch.nn.Module, name: str) -> dict[str, torch.Tensor]:
    from metaheads.hosts.detectron2.trainer import Trainer

    batch = next(iter(Trainer.build_train_loader(pair.detectron2_config(name))))
    assert len(batch) == 4 and not batch[0]["instances"].has("gt_masks")
    return model(batch)


@each_host
@each_config
def test_a_batch_trains(host, name):
    model = BUILD[host](name).train()
    losses = (mmdet_losses if host == "mmdet" else detectron2_losses)(model, name)
    assert losses.keys() == {"loss_semantic"}
    losses["loss_semantic"].backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    for part in ("score", "weight"):
        assert any(p.grad.any() for k, p in model.core.named_parameters() if part in k), part


def perfect(truth: SemanticFiles, images: Sequence[int]) -> Maps:
    """Something else where the truth knows nothing."""
    maps = {image: truth.read(image)[0].astype(np.int64) for image in images}
    return {image: np.where(labels == 255, 3, labels) for image, labels in maps.items()}


def corrupted(truth: SemanticFiles, images: Sequence[int]) -> Maps:
    """Every map moved by some pixels."""
    return {i: np.roll(labels, (9, 5), (0, 1)) for i, labels in perfect(truth, images).items()}


def run_mmdet(truth: SemanticFiles, found: Maps, images: Sequence[int] | None = None) -> dict:
    """Through the Evaluator of MMEngine and a config's name; `images` of this process."""
    from mmdet.structures import DetDataSample
    from mmengine.evaluator import Evaluator
    from mmengine.registry import init_default_scope
    from mmengine.structures import PixelData

    init_default_scope("mmdet")
    evaluator = Evaluator(dict(pair.mmdet_config(FCN).val_evaluator))
    evaluator.dataset_meta = {
        "thing_classes": truth.classes[:7],
        "stuff_classes": truth.classes[7:],
        "classes": truth.classes,
    }
    for image in found if images is None else images:
        sample = DetDataSample(metainfo={"img_id": image})
        sample.pred_sem_seg = PixelData(sem_seg=torch.from_numpy(found[image])[None])
        evaluator.process([sample])
    results = evaluator.evaluate(len(found))
    return {key.removeprefix("sem_seg/"): value for key, value in results.items()}


def run_detectron2(truth: SemanticFiles, found: Maps, images: Sequence[int] | None = None) -> dict:
    """Through the evaluator that our trainer builds."""
    from metaheads.hosts.detectron2.trainer import Trainer

    cfg = pair.detectron2_config(FCN)
    evaluator = Trainer.build_evaluator(cfg, cfg.DATASETS.TEST[0])
    evaluator.reset()
    for image in found if images is None else images:
        scores = torch.nn.functional.one_hot(torch.from_numpy(found[image]), len(truth.classes))
        evaluator.process([{"image_id": image}], [{"sem_seg": scores.permute(2, 0, 1)}])
    return (evaluator.evaluate() or {}).get("sem_seg", {})


RUN = {"mmdet": run_mmdet, "detectron2": run_detectron2}


def ids_of(truth: SemanticFiles) -> list[int]:
    content = json.loads(truth.json_file.read_text())
    return [each["id"] for each in content["images"]]


@each_host
def test_metrics(host, truth):
    images = ids_of(truth)
    assert RUN[host](truth, perfect(truth, images)) == {"mIoU": 100, "pACC": 100, "mACC": 100}
    found = corrupted(truth, images)
    expected = MeanIoU(13)
    for image in images:
        expected.update(truth.read(image)[0], found[image])
    results = RUN[host](truth, found)
    assert results == expected.compute().to_percent()
    assert 20 < results["mIoU"] < results["pACC"] < 95


@needs_detectron2
def test_as_detectron2_measures(truth, tmp_path):
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.evaluation import SemSegEvaluator

    images = ids_of(truth)
    for image in images:
        Image.fromarray(truth.read(image)[0]).save(tmp_path / f"{image}.png")
    files = [
        {"file_name": str(image), "sem_seg_file_name": str(tmp_path / f"{image}.png")}
        for image in images
    ]
    DatasetCatalog.register("semantic_labels", lambda: files)
    try:
        metadata = MetadataCatalog.get("semantic_labels")
        metadata.set(stuff_classes=list(truth.classes), ignore_label=255)
        evaluator = SemSegEvaluator("semantic_labels", distributed=False)
        evaluator.reset()
        found = corrupted(truth, images)
        for image in images:
            scores = torch.nn.functional.one_hot(torch.from_numpy(found[image]), 13)
            evaluator.process([{"file_name": str(image)}], [{"sem_seg": scores.permute(2, 0, 1)}])
        expected = evaluator.evaluate()["sem_seg"]
    finally:
        DatasetCatalog.remove("semantic_labels")
        MetadataCatalog.remove("semantic_labels")
    results = run_detectron2(truth, found)
    assert results == pytest.approx({key: expected[key] for key in results})


@needs_mmdet
def test_as_mmdetection_measures(truth):
    from mmdet.evaluation import SemSegMetric

    images = ids_of(truth)
    found = corrupted(truth, images)
    metric = SemSegMetric(iou_metrics=["mIoU"])
    metric.dataset_meta = {"classes": truth.classes}
    for image in images:
        labels = torch.from_numpy(truth.read(image)[0].astype(np.int64))[None]
        guess = torch.from_numpy(found[image])[None]
        metric.process(
            {},
            [
                {
                    "pred_sem_seg": {"sem_seg": guess},
                    "gt_sem_seg": {"sem_seg": labels},
                    "ori_shape": labels.shape[1:],
                }
            ],
        )
    expected = metric.evaluate(len(images))
    results = run_mmdet(truth, found)
    # They round to two digits; their aAcc is the mean of the classes', not of all pixels.
    for ours, theirs in {"mIoU": "mIoU", "mACC": "mAcc"}.items():
        assert results[ours] == pytest.approx(expected[theirs], abs=0.006)


@each_host
def test_bad_predictions(host, truth):
    image = ids_of(truth)[0]
    with pytest.raises(SegmentationError, match=f"image {image} .*prediction"):
        RUN[host](truth, {image: np.zeros((5, 5), np.int64)})


def work(rank: int, folder: Path, run: Any, truth: SemanticFiles, found: Maps, images: Any) -> None:
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    results = run(truth, found, images[rank])
    (folder / f"{rank}.json").write_text(json.dumps(results))
    leave_process_group()


@each_host
def test_two_processes_are_as_one(host, truth, tmp_path):
    images = ids_of(truth)[:5]
    found = corrupted(truth, images)
    first, second = images[::2], images[1::2]
    if host == "mmdet":  # its sampler repeats images until all processes have as many
        second.append(first[0])
    context = torch.multiprocessing.get_context("fork")
    common = tmp_path, RUN[host], truth, found, (first, second)
    processes = [context.Process(target=work, args=(rank, *common)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert json.loads((tmp_path / "0.json").read_text()) == RUN[host](truth, found)


@needs_detectron2
def test_detectron2_chooses_the_evaluator_by_the_model():
    from metaheads.hosts.detectron2.evaluation import PanopticQualityEvaluator, SemanticEvaluator
    from metaheads.hosts.detectron2.trainer import Trainer, best_metric

    for name, kind, metric in (
        (FCN, SemanticEvaluator, "sem_seg/mIoU"),
        ("upsnet/upsnet_r18_160_shapes", PanopticQualityEvaluator, "panoptic_seg/PQ"),
        ("panoptic_fpn/panoptic_fpn_r18_160_shapes", PanopticQualityEvaluator, "panoptic_seg/PQ"),
    ):
        cfg = pair.detectron2_config(name)
        cfg.DATASETS.TRAIN, (dataset,) = (), cfg.DATASETS.TEST
        Trainer.build_test_loader(cfg, dataset)  # with the data come the classes
        assert type(Trainer.build_evaluator(cfg, dataset)) is kind
        assert best_metric(cfg) == metric


@each_host
def test_another_number_of_classes_is_refused_before_the_training(host):
    if host == "mmdet":
        import metaheads.hosts.mmdet.train as module

        cfg = pair.mmdet_config(FCN, ("model.core.num_classes", "12"))
    else:
        import metaheads.hosts.detectron2.train as module

        cfg = pair.detectron2_config(FCN, ("MODEL.SEMANTICSEGMENTER.NUM_CLASSES", "12"))
    with pytest.raises(DatasetError, match="13 classes of things and stuff.* has 12"):
        list(check_all(module.coco_sources(cfg, train=True)))


@pytest.fixture
def checkpoint(shapes_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of either host; a small score layer would call everything the same."""
    monkeypatch.setenv("METAHEADS_DATA", str(shapes_data))
    torch.manual_seed(0)
    model = load(FCN, host=HOSTS[0], device="cpu")
    for parameter in model.module.core.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    torch.save(model.checkpoint(), tmp_path / "fcn.pth")
    return tmp_path / "fcn.pth"


@pytest.fixture
def picture(shapes_data: Path) -> Path:
    return min((shapes_data / "shapes/val").glob("*.png"))


@needs_both
def test_both_hosts_predict_the_same_segmentation(checkpoint, picture):
    ours, theirs = (
        load(FCN, checkpoint, host=host, device="cpu").predict_panoptic(picture) for host in HOSTS
    )
    assert len(ours) > 3 and (ours.ids == theirs.ids).float().mean() > 0.999
    assert ours.segments == theirs.segments


@each_host
def test_predictions(host, checkpoint, picture):
    model = load(FCN, checkpoint, host=host, device="cpu")
    assert model.is_panoptic and model.num_things == 0 and len(model.class_names) == 13
    found = model.predict_panoptic(picture)
    assert found.ids.shape == Image.open(picture).size[::-1]
    assert sorted(each.id for each in found.segments) == found.ids.unique().tolist()
    assert all(each.label == each.id - 1 and not each.is_thing for each in found.segments)
    fast = load(FCN, checkpoint, host=host, device="cpu", optimise=True).predict_panoptic(picture)
    assert (fast.ids == found.ids).float().mean() > 0.99
    with pytest.raises(ValueError, match="labels pixels and gives no detections.*predict_panoptic"):
        model.predict(picture)


@each_host
def test_demo_and_benchmark(host, checkpoint, picture, tmp_path, capsys):
    arguments = ["--config-file", FCN, "--host", host, "--checkpoint", str(checkpoint)]
    out = tmp_path / "found"
    assert main(["demo", *arguments, "--output", str(out), str(picture)]) == 0
    drawn = np.array(Image.open(out / picture.name).convert("RGB"))
    assert (drawn != np.array(Image.open(picture).convert("RGB"))).mean() > 0.5
    data = json.loads((out / "panoptic.json").read_text())
    assert [each["isthing"] for each in data["categories"]] == [0] * 13
    ids = read_ids(out / "panoptic" / picture.name)
    segments = data["annotations"][0]["segments_info"]
    assert sorted(each["id"] for each in segments) == np.unique(ids).tolist()
    assert sum(each["area"] for each in segments) == ids.size
    assert json.loads((out / "results.json").read_text()) == []

    arguments = ["--repeats", "1", "--images", str(picture), "--out", str(tmp_path / "speed")]
    config = f"{host}:{FCN}"
    assert main(["benchmark", config, "--checkpoint", str(checkpoint), *arguments]) == 0
    (report,) = json.loads((tmp_path / "speed/benchmark.json").read_text())["models"]
    assert report["detections"] == len(segments)
    assert report["stages_ms"]["decode"] > 0 and report["stages_ms"]["backbone"] > 0


@each_host
def test_export(host, checkpoint, picture, tmp_path, capsys):
    arguments = ["--config-file", FCN, "--host", host, "--checkpoint", str(checkpoint)]
    out = tmp_path / "fcn.pt2"
    assert main(["export", *arguments, "--images", str(picture), "--out", str(out)]) == 0
    assert "| semantic |" in capsys.readouterr().out and out.is_file()


@needs_detectron2
def test_classes_without_the_data_are_numbers(monkeypatch):
    monkeypatch.setenv("METAHEADS_DATA", "nowhere")
    assert load(FCN, host="detectron2", device="cpu").class_names == [str(n) for n in range(13)]
