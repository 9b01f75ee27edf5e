"""Our data mapper, and what Detectron2's loader hands to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.config import get_cfg  # noqa: E402
from detectron2.data import DatasetMapper, get_detection_dataset_dicts  # noqa: E402
from detectron2.structures import BoxMode  # noqa: E402

from metaheads.hosts.detectron2 import MetaheadsMapper, add_metaheads_config  # noqa: E402
from metaheads.hosts.detectron2.data import read_image, to_record  # noqa: E402


@pytest.fixture
def cfg(tiny_coco: Path):
    cfg = get_cfg()
    add_metaheads_config(cfg)
    entry = ("data_test", f"{tiny_coco}/instances.json", f"{tiny_coco}/images")
    cfg.merge_from_list(["DATASETS.REGISTER", (entry,), "INPUT.FORMAT", "RGB"])
    cfg.merge_from_list(["INPUT.TRANSFORM.FLIP", 0.0, "MODEL.MASK_ON", True])
    cfg.merge_from_list(["INPUT.MASK_FORMAT", "bitmask", "INPUT.MIN_SIZE_TRAIN", (0,)])
    return cfg


@pytest.fixture
def dicts(cfg):
    return get_detection_dataset_dicts(["data_test"], filter_empty=False)


def test_crowds_and_empty_images_arrive(cfg, dicts):
    mapper = MetaheadsMapper(cfg, True)
    found = [mapper(each)["instances"] for each in dicts]
    assert [instances.gt_is_crowd.tolist() for instances in found] == [
        [False] * 2,
        [False] * 3,
        [True],
        [],
    ]
    assert [instances.gt_classes.tolist() for instances in found] == [[0, 1], [0, 1, 1], [0], []]
    assert [instances.gt_masks.tensor.sum((1, 2)).tolist() for instances in found] == [
        [320, 320],
        [320, 1, 0],
        [1600],
        [],
    ]
    assert found[3].gt_masks.tensor.shape == (0, 64, 64)
    assert found[0].gt_boxes.tensor.tolist() == [[8, 10, 24, 30], [30, 10, 46, 30]]


def test_images_equal_those_of_detectron2s_mapper(cfg, dicts):
    cfg.INPUT.RANDOM_FLIP = "none"
    theirs, ours = DatasetMapper(cfg, True)(dicts[0]), MetaheadsMapper(cfg, True)(dicts[0])
    assert torch.equal(ours["image"].float(), theirs["image"].float())
    assert torch.equal(ours["instances"].gt_masks.tensor, theirs["instances"].gt_masks.tensor)
    assert {n: ours[n] for n in ("height", "width", "file_name", "image_id")} == {
        n: theirs[n] for n in ("height", "width", "file_name", "image_id")
    }
    assert "annotations" in dicts[0], "the data set's own dict stays whole"


def test_transform_is_applied_to_image_and_objects(cfg, dicts):
    cfg.merge_from_list(["INPUT.TRANSFORM.FLIP", 1.0, "INPUT.TRANSFORM.SIZE", (32, 32)])
    inputs = MetaheadsMapper(cfg, True)(dicts[0])
    assert inputs["image"].shape == (3, 32, 32) and inputs["image"].dtype == torch.float32
    assert inputs["instances"].gt_boxes.tensor.tolist()[0] == [20, 5, 28, 15]
    assert inputs["instances"].gt_masks.tensor[0, 5:15, 20:28].all()


def test_expanded_canvas_follows_the_channel_order(cfg, dicts):
    cfg.merge_from_list(["INPUT.FORMAT", "BGR", "INPUT.TRANSFORM.EXPAND", 4])
    np.random.seed(0)
    images = [MetaheadsMapper(cfg, True)(dicts[3])["image"] for _ in range(8)]
    corners = {tuple(image[:, 0, 0].tolist()) for image in images if image.shape[1] > 64}
    assert corners == {tuple(np.float32([103.94, 116.78, 123.68]).tolist())}


def test_test_time_image_comes_as_it_is(cfg, dicts):
    inputs = MetaheadsMapper(cfg, False)(dicts[1])
    assert inputs["image"].shape == (3, 48, 80) and "instances" not in inputs
    assert inputs["image"].dtype == torch.uint8


def test_an_object_without_mask_counts_as_crowd():
    annotation = {"bbox": [1, 1, 4, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    record = to_record(np.zeros((8, 8, 3), np.uint8), [annotation])
    assert record.is_crowd.tolist() == [True] and not record.masks.any()


def test_unreadable_images_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        read_image(str(tmp_path / "gone.png"), "RGB")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    with pytest.raises(ValueError, match=r"broken\.png"):
        read_image(str(broken), "RGB")
