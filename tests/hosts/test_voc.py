"""Pascal VOC through the hosts' own data sets and metrics."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from tests.hosts.installed import HOSTS, each_host

from metaheads.commands.train import RunOptions, train
from metaheads.structures import Detections

CONFIG = "centernet_points/centernet_points_resdcn18_384_voc"
SIZES = ((60, 80), (50, 40))
# Of each image class name and box, counted from 1 as VOC does.
OBJECTS = (
    (("dog", (1, 1, 40, 30)), ("person", (30, 20, 80, 60))),
    (("dog", (5, 6, 25, 45)),),
)
LABELS = {"dog": 11, "person": 14}
NO_WEIGHTS = {
    "mmdet": [("model.backbone.init_cfg", "None")],
    "detectron2": [("MODEL.WEIGHTS", "")],
}


@pytest.fixture
def devkit(tmp_path, monkeypatch):
    """A folder with VOC2007 and VOC2012, where both hosts look for it."""
    root = tmp_path / "data/VOCdevkit"
    for year in ("VOC2007", "VOC2012"):
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (root / year / folder).mkdir(parents=True)
        for number, (size, objects) in enumerate(zip(SIZES, OBJECTS, strict=True)):
            height, width = size
            Image.new("RGB", (width, height)).save(root / f"{year}/JPEGImages/{number}.jpg")
            spelled = "".join(
                f"<object><name>{name}</name><pose>Left</pose><truncated>0</truncated>"
                "<difficult>0</difficult><bndbox>"
                + "".join(
                    f"<{side}>{value}</{side}>"
                    for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
                )
                + "</bndbox></object>"
                for name, box in objects
            )
            (root / f"{year}/Annotations/{number}.xml").write_text(
                f"<annotation><size><width>{width}</width><height>{height}</height>"
                f"<depth>3</depth></size>{spelled}</annotation>"
            )
        for split in ("trainval", "test"):
            (root / f"{year}/ImageSets/Main/{split}.txt").write_text("0\n1\n")
    monkeypatch.chdir(tmp_path)
    if "detectron2" in HOSTS:
        monkeypatch.setattr("metaheads.hosts.detectron2.train.load_config", _at(root))
    return root


def _at(root):
    """Detectron2 reads the folder's name once, when it is imported: it is registered anew."""
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.data.datasets import register_pascal_voc

    from metaheads.hosts.detectron2 import train as host

    plain = host.load_config

    def load_config(*args, **kwargs):
        for year, split in ((2007, "trainval"), (2012, "trainval"), (2007, "test")):
            name = f"voc_{year}_{split}"
            if name in DatasetCatalog.list():
                DatasetCatalog.remove(name)
                MetadataCatalog.remove(name)
            register_pascal_voc(name, str(root / f"VOC{year}"), split, year)
            MetadataCatalog.get(name).evaluator_type = "pascal_voc"
        return plain(*args, **kwargs)

    return load_config


@each_host
@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (30, 0.0)])
def test_the_hosts_metric_sees_the_original_image(host, shift, expected, devkit, monkeypatch):
    """Predicted is what the files say; if it is moved nothing is right."""
    order = iter(range(len(SIZES)))

    def predict_truth(module, views, *, flip):
        ((images, (geometry,)),) = views
        assert flip and images.shape == (1, 3, 384, 384)
        number = next(order)
        assert geometry.original_size == SIZES[number]
        boxes = torch.tensor([box for _, box in OBJECTS[number]]) - torch.tensor([1, 1, 0, 0])
        labels = torch.tensor([LABELS[name] for name, _ in OBJECTS[number]])
        return [Detections(boxes.float() + shift, torch.ones(len(boxes)), labels)]

    monkeypatch.setattr(f"metaheads.hosts.{host}.models.predict_views", predict_truth)
    (devkit / "fresh.pth").write_bytes(b"")
    monkeypatch.setattr(
        "metaheads.weights.read_checkpoint", lambda *_, **__: {"nothing": torch.zeros(1)}
    )
    monkeypatch.setattr("metaheads.weights.load_into", lambda *_, **__: _Loaded())
    options = RunOptions(eval_only=True, checkpoint=str(devkit / "fresh.pth"))
    metrics = train(CONFIG, host, NO_WEIGHTS[host], options, work_dir=str(devkit / "work"))
    found = metrics["pascal_voc/AP50"] if host == "mmdet" else metrics["bbox/AP50"]
    present = 2 / 20 if host == "detectron2" else 1  # classes without objects count as 0 there
    assert found == pytest.approx(expected * (100 * present if host == "detectron2" else 1))


class _Loaded:
    def summary(self) -> str:
        return "nothing"


@each_host
def test_a_batch_trains(host, devkit):
    small = [("SOLVER.IMS_PER_BATCH", "2"), ("DATALOADER.NUM_WORKERS", "0")]
    if host == "mmdet":
        small = [("train_dataloader.batch_size", "2")]
        for loader in ("train_dataloader", "val_dataloader"):
            small += [(f"{loader}.num_workers", "0"), (f"{loader}.persistent_workers", "False")]
    overrides = [*NO_WEIGHTS[host], *small]
    metrics = train(CONFIG, host, overrides, RunOptions(dry_run=True), work_dir=str(devkit))
    assert metrics["loss"] > 0 and metrics["detections"] == 100
