"""The shipped configs of Cityscapes on its folders as they are unpacked, with made-up pictures."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.hosts import pair
from tests.hosts.installed import each_host

from metaheads.cli import main
from metaheads.datasets.check import DatasetError, check_all
from metaheads.datasets.panoptic import read_ids, to_colors

NAME = "upsnet/upsnet_r50_1024_cityscapes"
STUFF = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
}
THINGS = {
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
SIZE = (32, 64)
CAR, CARS, PERSON = 26001, 26, 24000  # ids as createPanopticImgs takes them from instanceIds


def write_split(root: Path, split: str, cities: list[str]) -> None:
    """What csCreatePanopticImgs writes, and the images."""
    pngs = root / f"gtFine/cityscapes_panoptic_{split}"
    pngs.mkdir(parents=True)
    images, annotations = [], []
    for number, city in enumerate(cities):
        ids = np.full(SIZE, 7)
        ids[:10], ids[:, -2:] = 23, 0
        ids[12:20, 5:15], ids[12:20, 30:40], ids[10:30, 50:54] = CAR, CARS, PERSON + number
        name = f"{city}_000000_00001{number}"
        images.append(
            {
                "id": name,
                "width": SIZE[1],
                "height": SIZE[0],
                "file_name": f"{name}_gtFine_leftImg8bit.png",
            }
        )
        infos = [
            {
                "id": int(each),
                "category_id": int(each) // 1000 if each >= 1000 else int(each),
                "area": int((ids == each).sum()),
                "bbox": [0, 0, 1, 1],
                "iscrowd": int(each == CARS),
            }
            for each in np.unique(ids)[1:]
        ]
        png = f"{name}_gtFine_panoptic.png"
        annotations.append({"image_id": name, "file_name": png, "segments_info": infos})
        Image.fromarray(to_colors(ids)).save(pngs / png)
        picture = root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng([*picture.name.encode()])
        Image.fromarray(generator.integers(0, 255, (*SIZE, 3), np.uint8)).save(picture)
    categories = [
        {"id": each, "name": name, "isthing": int(each in THINGS), "color": [0, 0, 0]}
        for each, name in (STUFF | THINGS).items()
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    pngs.with_suffix(".json").write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAHEADS_DATA", str(tmp_path))
    root = tmp_path / "cityscapes"
    write_split(root, "train", ["aachen", "bochum"])
    write_split(root, "val", ["munster", "munster"])
    return root


def perfect(ids: np.ndarray, segments: list[dict]) -> tuple[np.ndarray, list[dict]]:
    """Without crowds, which no model finds."""
    kept = [each for each in segments if not (each.get("is_crowd") or each.get("iscrowd"))]
    return np.where(np.isin(ids, [each["id"] for each in kept]), ids, 0), kept


def evaluate_mmdet() -> dict[str, float]:
    from mmdet.structures import DetDataSample
    from mmengine.evaluator import Evaluator
    from mmengine.structures import PixelData

    from metaheads.hosts.mmdet import DATASETS

    cfg = pair.mmdet_config(NAME)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    evaluator = Evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        ids, segments = perfect(read_ids(info["seg_map_path"]), info["segments_info"])
        values = np.full(SIZE, len(dataset.metainfo["classes"]))
        for number, each in enumerate(segments, start=1):
            values[ids == each["id"]] = each["category"] + 1000 * number * each["is_thing"]
        sample = DetDataSample(metainfo={"img_id": info["img_id"]})
        sample.pred_panoptic_seg = PixelData(sem_seg=torch.from_numpy(values)[None])
        evaluator.process([sample])
    found = evaluator.evaluate(len(dataset))
    return {key.removeprefix("coco_panoptic/"): value for key, value in found.items()}


def evaluate_detectron2() -> dict[str, float]:
    from detectron2.data import DatasetCatalog

    from metaheads.hosts.detectron2.trainer import Trainer

    cfg = pair.detectron2_config(NAME)
    entries = DatasetCatalog.get(cfg.DATASETS.TEST[0])  # the metadata come with them
    evaluator = Trainer.build_evaluator(cfg, cfg.DATASETS.TEST[0])
    evaluator.reset()
    for each in entries:
        ids, segments = perfect(read_ids(each["pan_seg_file_name"]), each["segments_info"])
        output = {"panoptic_seg": (torch.from_numpy(ids).int(), segments)}
        evaluator.process([each], [output])
    return evaluator.evaluate()["panoptic_seg"]


@each_host
def test_a_perfect_prediction_has_all_quality(host, root):
    found = {"mmdet": evaluate_mmdet, "detectron2": evaluate_detectron2}[host]()
    assert found["PQ"] == found["PQ_th"] == found["PQ_st"] == 100


@each_host
def test_a_training_sees_images_and_labels(host, root):
    """Of both cities; things first, in the order of the file."""
    if host == "mmdet":
        from mmengine.runner import Runner

        loader = copy.deepcopy(pair.mmdet_config(NAME).train_dataloader)
        loader.batch_size = 2
        batch = next(iter(Runner.build_dataloader(loader)))
        images = [each.permute(1, 2, 0).numpy() for each in batch["inputs"]]
        samples = batch["data_samples"]
        labels = [each.gt_instances.labels for each in samples]
        crowds = [each.ignored_instances.labels for each in samples]
        maps = [each.gt_sem_seg.sem_seg[0] for each in samples]
        names = [each.img_path for each in samples]
    else:
        from metaheads.hosts.detectron2.trainer import Trainer

        overrides = ("SOLVER.IMS_PER_BATCH", "2"), ("DATALOADER.NUM_WORKERS", "0")
        batch = next(iter(Trainer.build_train_loader(pair.detectron2_config(NAME, *overrides))))
        images = [each["image"].permute(1, 2, 0).numpy() for each in batch]
        is_crowd = [each["instances"].gt_is_crowd for each in batch]
        found = [each["instances"].gt_classes for each in batch]
        labels = [each[~crowd] for each, crowd in zip(found, is_crowd, strict=True)]
        crowds = [each[crowd] for each, crowd in zip(found, is_crowd, strict=True)]
        maps = [each["semantic"] for each in batch]
        names = [each["file_name"] for each in batch]
    assert {Path(each).parent.name for each in names} == {"aachen", "bochum"}
    for image, label, crowd, semantic in zip(images, labels, crowds, maps, strict=True):
        assert image.std() > 20 and image.shape[:2] == semantic.shape
        assert sorted(label.tolist()) == [0, 2] and crowd.tolist() == [2], "person, car"
        assert semantic.unique().tolist() == [0, 2, 8, 18, 255], "road 8, sky 18"


@each_host
def test_the_check_finds_images_in_their_cities(host, root, tmp_path, capsys):
    command = ["check-dataset", "--config-file", NAME, "--host", host]
    assert main([*command, "--overlay", str(tmp_path / "drawn.png")]) == 0, capsys.readouterr()
    assert Image.open(tmp_path / "drawn.png").size[0] > 100
    pictures = root / "leftImg8bit/train"
    (first,) = pictures.glob("aachen/*.png")
    (pictures / "ulm").mkdir()
    (pictures / "ulm" / first.name).write_bytes(first.read_bytes())
    module = __import__(f"metaheads.hosts.{host}.train", fromlist=["train"])
    config = {"mmdet": pair.mmdet_config, "detectron2": pair.detectron2_config}[host](NAME)
    with pytest.raises(DatasetError, match="more than one file there: aachen/.*, ulm/"):
        list(check_all(module.coco_sources(config, train=True)))
