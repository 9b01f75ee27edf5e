"""Panoptic data in both hosts: what the file says arrives, and their own PanopticFPN trains."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.hosts.installed import each_host, needs_both, needs_detectron2, needs_mmdet

from metaheads.architectures.upsnet import SemanticHead
from metaheads.configs import config_root
from metaheads.datasets.check import DatasetError, check_all
from metaheads.structures import Targets

NUM_THINGS, NUM_STUFF = 7, 6
_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco_panoptic"
REAL = Path(os.environ.get("METAHEADS_COCO_PANOPTIC") or _BESIDE)
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"no {REAL}; METAHEADS_COCO_PANOPTIC names the folder"
)
STILL = {"flip": 0.0}


def shapes_paths(root: Path) -> tuple[Path, Path, Path]:
    """Images, JSON, PNGs."""
    folder = root / "shapes"
    return (
        folder / "train",
        folder / "annotations/panoptic_train.json",
        folder / "annotations/panoptic_train",
    )


def real_paths(split: str) -> tuple[Path, Path, Path]:
    annotations = REAL / "annotations"
    return (
        REAL / f"{split}2017",
        annotations / f"panoptic_{split}2017.json",
        annotations / f"panoptic_{split}2017",
    )


def mmdet_dataset(paths: tuple[Path, Path, Path], options: dict, **others):
    from mmengine.registry import init_default_scope

    from metaheads.hosts.mmdet import DATASETS

    init_default_scope("mmdet")
    images, file, pngs = paths
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="metaheads.LoadPanoptic"),
        dict(type="metaheads.TrainTransform", color_order="bgr", **options),
        dict(type="metaheads.PackInputs"),
    ]
    prefix = dict(img=str(images), seg=str(pngs))
    return DATASETS.build(
        dict(
            type="metaheads.CocoPanoptic",
            ann_file=str(file),
            data_prefix=prefix,
            pipeline=pipeline,
            **others,
        )
    )


def detectron2_config(paths: tuple[Path, Path, Path], options: dict, *, base: str = ""):
    from detectron2.config import get_cfg

    from metaheads.hosts.detectron2 import add_metaheads_config

    cfg = get_cfg()
    add_metaheads_config(cfg)
    if base:
        cfg.merge_from_file(str(config_root() / "detectron2" / base))
    images, file, pngs = map(str, paths)
    cfg.merge_from_list(["DATASETS.REGISTER_PANOPTIC", (("pan_test", images, file, pngs),)])
    cfg.merge_from_list(["DATASETS.TRAIN", ("pan_test",), "DATASETS.TEST", ("pan_test",)])
    cfg.merge_from_list(["MODEL.MASK_ON", True, "INPUT.MAPPER", "metaheads"])
    for name, value in options.items():
        cfg.merge_from_list([f"INPUT.TRANSFORM.{name.upper()}", value])
    return cfg


def mmdet_targets(paths, options: dict, batch_size: tuple[int, int]) -> dict[int, Targets]:
    from metaheads.hosts.mmdet.models import to_targets

    samples = [each["data_samples"] for each in mmdet_dataset(paths, options)]
    device = torch.device("cpu")
    return {each.img_id: to_targets(each, batch_size, device) for each in samples}


def detectron2_targets(paths, options: dict, batch_size: tuple[int, int]) -> dict[int, Targets]:
    from detectron2.data import get_detection_dataset_dicts

    from metaheads.hosts.detectron2 import MetaheadsMapper
    from metaheads.hosts.detectron2.models import to_targets

    mapper = MetaheadsMapper(detectron2_config(paths, options), True)
    found = {}
    for each in map(mapper, get_detection_dataset_dicts(["pan_test"], filter_empty=False)):
        size = tuple(each["image"].shape[-2:])
        found[each["image_id"]] = to_targets(each["instances"], size, batch_size, each["semantic"])
    return found


TARGETS = {"mmdet": mmdet_targets, "detectron2": detectron2_targets}


def plain_truth(paths: tuple[Path, Path, Path]) -> dict[int, dict[str, np.ndarray]]:
    """The file, read as plainly as possible."""
    _, file, pngs = paths
    content = json.loads(file.read_text())
    categories = content["categories"]
    order = [c["id"] for kind in (1, 0) for c in categories if c["isthing"] == kind]
    num_things = sum(c["isthing"] for c in categories)
    found = {}
    for annotation in content["annotations"]:
        ids = np.asarray(Image.open(pngs / annotation["file_name"])).astype(int)
        ids = ids @ (1, 256, 65536)
        semantic = np.full(ids.shape, 255)
        boxes, labels, crowds, masks = [], [], [], []
        for segment in annotation["segments_info"]:
            label = order.index(segment["category_id"])
            if not segment["iscrowd"]:
                semantic[ids == segment["id"]] = label
            if label < num_things:
                x, y, width, height = segment["bbox"]
                boxes.append([x, y, x + width, y + height])
                labels.append(label)
                crowds.append(bool(segment["iscrowd"]))
                masks.append(ids == segment["id"])
        found[annotation["image_id"]] = {
            "boxes": np.array(boxes, np.float32).reshape(-1, 4),
            "labels": np.array(labels, int),
            "is_crowd": np.array(crowds, bool),
            "masks": np.array(masks, bool).reshape(-1, *ids.shape),
            "semantic": semantic,
        }
    return found


def assert_truth(targets: Targets, truth: dict[str, np.ndarray]) -> None:
    """Equal up to the order of the objects: MMDetection puts crowds behind."""
    height, width = truth["semantic"].shape
    order = np.argsort(truth["is_crowd"], kind="stable")
    given = np.argsort(targets.is_crowd.numpy(), kind="stable")
    for name in ("boxes", "labels", "is_crowd"):
        assert np.array_equal(getattr(targets, name).numpy()[given], truth[name][order]), name
    masks, semantic = targets.masks.numpy()[given], targets.semantic.numpy()
    assert targets.semantic.dtype == torch.int64 and semantic.shape == targets.image_size
    assert np.array_equal(masks[:, :height, :width], truth["masks"][order])
    assert np.array_equal(semantic[:height, :width], truth["semantic"])
    assert (semantic[height:] == 255).all() and (semantic[:, width:] == 255).all()
    assert not masks[:, height:].any() and not masks[:, :, width:].any()


def mirrored(truth: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    width = truth["semantic"].shape[1]
    boxes = truth["boxes"].copy()
    boxes[:, [0, 2]] = width - truth["boxes"][:, [2, 0]]
    flipped = {name: truth[name][..., ::-1] for name in ("masks", "semantic")}
    return {**truth, "boxes": boxes, **flipped}


@each_host
def test_the_file_arrives(host, shapes_data):
    paths = shapes_paths(shapes_data)
    truth = plain_truth(paths)
    found = TARGETS[host](paths, STILL, (160, 224))
    assert found.keys() == truth.keys() and len(truth) == 24
    assert any(each["is_crowd"].any() for each in truth.values())
    for image_id, targets in found.items():
        assert_truth(targets, truth[image_id])


@each_host
def test_the_mirrored_file_arrives(host, shapes_data):
    paths = shapes_paths(shapes_data)
    truth = plain_truth(paths)
    for image_id, targets in TARGETS[host](paths, {"flip": 1.0}, (160, 224)).items():
        assert_truth(targets, mirrored(truth[image_id]))


@each_host
def test_the_resized_file_arrives(host, shapes_data):
    """To two thirds of 192 x 144: pixel i shows floor((i + 0.5) 3 / 2)."""
    paths = shapes_paths(shapes_data)
    truth = plain_truth(paths)
    rows, columns = (np.floor((np.arange(n) + 0.5) * 1.5).astype(int) for n in (96, 128))
    found = TARGETS[host](paths, {**STILL, "size": (96, 128)}, (96, 128))
    for image_id, targets in found.items():
        expected = truth[image_id]["semantic"][np.ix_(rows, columns)]
        assert np.array_equal(targets.semantic.numpy(), expected)


@needs_both
@pytest.mark.parametrize("options", [STILL, {"flip": 1.0, "size": (100, 90)}])
def test_both_hosts_deliver_the_same(shapes_data, options):
    paths, size = shapes_paths(shapes_data), (160, 224)
    first, second = (TARGETS[host](paths, options, size) for host in ("mmdet", "detectron2"))
    for image_id, one in first.items():
        other = second[image_id]
        other = other[torch.argsort(other.is_crowd.int(), stable=True)]
        for name in ("boxes", "labels", "is_crowd", "masks", "semantic"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


@needs_detectron2
def test_a_map_of_another_size_is_resized_with_the_image(shapes_data):
    from detectron2.structures import BitMasks, Boxes, Instances

    from metaheads.hosts.detectron2.models import to_targets

    instances = Instances((2, 4))
    instances.gt_boxes, instances.gt_classes = Boxes(torch.zeros(0, 4)), torch.zeros(0).long()
    instances.gt_masks = BitMasks(torch.zeros(0, 2, 4).bool())
    semantic = torch.arange(8).view(2, 4)
    targets = to_targets(instances, (4, 2), (5, 3), semantic)
    assert targets.semantic.tolist() == [
        [1, 3, 255],
        [1, 3, 255],
        [5, 7, 255],
        [5, 7, 255],
        [255] * 3,
    ]


@needs_mmdet
def test_mmdets_data_set_knows_its_classes(shapes_data):
    dataset = mmdet_dataset(shapes_paths(shapes_data), STILL)
    assert len(dataset.metainfo["thing_classes"]) == NUM_THINGS
    assert len(dataset.metainfo["stuff_classes"]) == NUM_STUFF
    both = (*dataset.metainfo["thing_classes"], *dataset.metainfo["stuff_classes"])
    assert dataset.metainfo["classes"] == both
    chosen = dict(thing_classes=("tree", "ball"), stuff_classes=("grass",))
    dataset = mmdet_dataset(shapes_paths(shapes_data), STILL, metainfo=chosen)
    assert dataset.metainfo["classes"] == ("tree", "ball", "grass")
    labels = {int(n) for each in dataset for n in each["data_samples"].gt_instances.labels}
    assert labels == {0, 1}
    dataset = mmdet_dataset(
        shapes_paths(shapes_data), STILL, filter_cfg=dict(filter_empty_gt=True, min_size=32)
    )
    assert 0 < len(dataset) <= 24 and all(dataset.get_cat_ids(n) for n in range(len(dataset)))


@needs_mmdet
def test_mmdets_sample_has_its_own_names(shapes_data):
    sample = mmdet_dataset(shapes_paths(shapes_data), STILL)[0]["data_samples"]
    assert sample.gt_sem_seg.sem_seg.shape == (1, 144, 192)
    assert sample.gt_sem_seg.ignore_index == 255


@needs_detectron2
def test_detectron2s_metadata_and_dicts(shapes_data):
    from detectron2.data import DatasetCatalog, MetadataCatalog

    from metaheads.hosts.detectron2 import class_names, register_datasets

    paths = shapes_paths(shapes_data)
    cfg = detectron2_config(paths, STILL)
    names = class_names(cfg)
    register_datasets(cfg)  # again: nothing happens
    dicts, metadata = DatasetCatalog.get("pan_test"), MetadataCatalog.get("pan_test")
    content = json.loads(paths[1].read_text())
    things = [c for c in content["categories"] if c["isthing"]]
    stuff = [c for c in content["categories"] if not c["isthing"]]
    assert metadata.thing_classes == names == [c["name"] for c in things]
    assert metadata.stuff_classes == ["things", *(c["name"] for c in stuff)]
    assert metadata.thing_dataset_id_to_contiguous_id == {
        c["id"]: number for number, c in enumerate(things)
    }
    expected = {c["id"]: number for number, c in enumerate(stuff, 1)}
    assert metadata.stuff_dataset_id_to_contiguous_id == {0: 0, **expected}
    assert metadata.evaluator_type == "metaheads_panoptic" and metadata.ignore_label == 255
    for mine, annotation in zip(dicts, content["annotations"], strict=True):
        assert mine["pan_seg_file_name"].endswith(annotation["file_name"])
        assert "annotations" not in mine
        for segment, theirs in zip(mine["segments_info"], annotation["segments_info"], strict=True):
            ids = metadata.thing_dataset_id_to_contiguous_id
            ids = ids if segment["isthing"] else metadata.stuff_dataset_id_to_contiguous_id
            assert segment["category_id"] == ids[theirs["category_id"]]


@needs_detectron2
def test_stuff_comes_as_detectron2_wants_it(shapes_data):
    from detectron2.data import DatasetCatalog

    from metaheads.hosts.detectron2 import MetaheadsMapper

    paths = shapes_paths(shapes_data)
    truth = plain_truth(paths)
    cfg = detectron2_config(paths, STILL)
    cfg.INPUT.SEPARATE_STUFF = True
    mapper = MetaheadsMapper(cfg, True)
    for inputs in map(mapper, DatasetCatalog.get("pan_test")):
        labels = truth[inputs["image_id"]]["semantic"]
        expected = np.where(labels < NUM_THINGS, 0, labels - NUM_THINGS + 1)
        expected[labels == 255] = 255
        assert np.array_equal(inputs["sem_seg"].numpy(), expected)
        assert not inputs["instances"].gt_is_crowd.any()
        is_crowd = truth[inputs["image_id"]]["is_crowd"]
        assert len(inputs["instances"]) == (~is_crowd).sum()


@needs_detectron2
@pytest.mark.parametrize("entry", [("a", "b", "c"), ("a", "b", "c", 4), "abcd"])
def test_wrong_entries_are_refused(entry):
    from detectron2.config import get_cfg

    from metaheads.hosts.detectron2 import add_metaheads_config

    cfg = get_cfg()
    add_metaheads_config(cfg)
    with pytest.raises(ValueError, match=r"REGISTER_PANOPTIC holds \(name, image folder, pano"):
        cfg.merge_from_list(["DATASETS.REGISTER_PANOPTIC", (entry,)])


@needs_detectron2
def test_names_of_others_are_not_taken(shapes_data):
    from metaheads.hosts.detectron2 import register_datasets

    cfg = detectron2_config(shapes_paths(shapes_data), STILL)
    cfg.DATASETS.REGISTER_PANOPTIC = (("coco_2017_train", "a", "b", "c"),)
    with pytest.raises(ValueError, match="already the name of another data set"):
        register_datasets(cfg)


def mmdet_panoptic_fpn(**head) -> torch.nn.Module:
    from mmengine.config import Config

    from metaheads.hosts.mmdet import MODELS

    cfg = Config.fromfile(config_root() / "mmdet/_base_/mask_rcnn_r18.py")
    things = dict(num_classes=NUM_THINGS)
    counts = dict(num_things_classes=NUM_THINGS, num_stuff_classes=NUM_STUFF)
    theirs = dict(type="PanopticFPNHead", inner_channels=32, norm_cfg=dict(type="GN", num_groups=8))
    semantic_head = dict(
        in_channels=128,
        loss_seg=dict(type="CrossEntropyLoss", ignore_index=255, loss_weight=0.5),
        **counts,
        **(head or theirs),
    )
    cfg.merge_from_dict(
        dict(
            model=dict(
                type="PanopticFPN",
                data_preprocessor=dict(pad_seg=True, seg_pad_value=255),
                roi_head=dict(bbox_head=things, mask_head=things),
                semantic_head=semantic_head,
                panoptic_fusion_head=dict(type="HeuristicFusionHead", **counts),
                test_cfg=dict(panoptic=dict(mask_overlap=0.5, stuff_area_limit=64)),
            )
        )
    )
    return MODELS.build(cfg.model).train()


def assert_trains(model: torch.nn.Module, losses: dict[str, torch.Tensor], semantic: str) -> None:
    assert all(torch.isfinite(each).all() for each in losses.values())
    assert losses[semantic] > 0
    sum(each.sum() for each in losses.values()).backward()
    grads = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(grad is not None and torch.isfinite(grad).all() for grad in grads)
    assert sum(bool(grad.any()) for grad in grads) > 0.9 * len(grads)


OURS = dict(type="metaheads.UPSNetSemanticHead", widths=(16, 16))


@needs_mmdet
@pytest.mark.parametrize("head", [{}, OURS], ids=["own", "upsnet"])
def test_mmdets_own_panoptic_fpn_trains(head, shapes_data):
    from mmdet.utils import register_all_modules
    from mmengine.dataset import pseudo_collate

    register_all_modules()
    dataset = mmdet_dataset(shapes_paths(shapes_data), {"size": (96, 128)})
    model = mmdet_panoptic_fpn(**head)
    model.init_weights()
    data = model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), True)
    samples = [each.gt_sem_seg.sem_seg for each in data["data_samples"]]
    table = model.semantic_head._set_things_to_void(samples[0])
    assert set(table.unique().tolist()) <= {*range(NUM_STUFF + 1), 255}
    assert_trains(model, _flat(model(**data, mode="loss")), "loss_seg")
    if head:
        assert isinstance(model.semantic_head.head, SemanticHead)
        features = model.extract_feat(data["inputs"])
        scores = model.semantic_head(features)["seg_preds"]
        assert scores.shape == (2, NUM_STUFF + 1, 24, 32), "stride 4"
        for sample in data["data_samples"]:
            height, width = sample.ori_shape
            sample.set_metainfo({"scale_factor": (128 / width, 96 / height)})
        samples = model.eval().predict(data["inputs"], data["data_samples"])
        labels = samples[0].pred_panoptic_seg.sem_seg[0]
        assert labels.shape == samples[0].ori_shape
        assert set((labels % 1000).unique().tolist()) <= {*range(NUM_THINGS + NUM_STUFF + 1)}


def _flat(losses: dict) -> dict[str, torch.Tensor]:
    """MMDetection's lists of losses summed; figures that are no losses left out."""
    return {
        name: sum(each) if isinstance(each, list) else each
        for name, each in losses.items()
        if "loss" in name
    }


@needs_detectron2
@pytest.mark.parametrize("head", ["SemSegFPNHead", "UPSNetSemanticHead"])
def test_detectron2s_own_panoptic_fpn_trains(head, shapes_data):
    from detectron2.data import build_detection_train_loader
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage

    from metaheads.hosts.detectron2 import MetaheadsMapper

    options = {"size": (96, 128)}
    cfg = detectron2_config(shapes_paths(shapes_data), options, base="_base_/mask_rcnn_r18.yaml")
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "PanopticFPN", "SOLVER.IMS_PER_BATCH", 2])
    cfg.merge_from_list(["MODEL.ROI_HEADS.NUM_CLASSES", NUM_THINGS, "INPUT.SEPARATE_STUFF", True])
    cfg.merge_from_list(["MODEL.SEM_SEG_HEAD.NUM_CLASSES", NUM_STUFF + 1])
    cfg.merge_from_list(["MODEL.SEM_SEG_HEAD.CONVS_DIM", 32, "DATALOADER.NUM_WORKERS", 0])
    cfg.merge_from_list(["MODEL.SEM_SEG_HEAD.NAME", head, "MODEL.UPSNET.HEAD_WIDTHS", (16, 16)])
    model = build_model(cfg).train()
    assert type(model.sem_seg_head).__name__ == head
    loader = build_detection_train_loader(cfg, mapper=MetaheadsMapper(cfg, True))
    with EventStorage():
        batch = next(iter(loader))
        losses = model(batch)
    assert_trains(model, losses, "loss_sem_seg")
    (found, *_) = model.eval()(batch)
    assert found["sem_seg"].shape == (NUM_STUFF + 1, 144, 192)
    assert found["panoptic_seg"][0].shape == (144, 192)


def sources(host: str, paths: tuple[Path, Path, Path], num_things: int = NUM_THINGS) -> list[dict]:
    if host == "mmdet":
        from mmengine.config import ConfigDict

        from metaheads.hosts.mmdet.config import coco_sources

        head = dict(num_things_classes=num_things, num_stuff_classes=NUM_STUFF)
        prefix = dict(img=str(paths[0]), seg=str(paths[2]))
        dataset = dict(
            type="metaheads.CocoPanoptic", ann_file=str(paths[1]), data_prefix=prefix, pipeline=[]
        )
        loader = dict(dataset=dict(type="RepeatDataset", times=2, dataset=dataset))
        cfg = ConfigDict(
            model=dict(type="PanopticFPN", semantic_head=head),
            train_dataloader=loader,
            val_dataloader=None,
        )
        return coco_sources(cfg, train=True)
    from metaheads.hosts.detectron2.train import coco_sources

    cfg = detectron2_config(paths, STILL)
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "PanopticFPN", "DATASETS.TEST", ()])
    cfg.merge_from_list(["MODEL.ROI_HEADS.NUM_CLASSES", num_things])
    cfg.merge_from_list(["MODEL.SEM_SEG_HEAD.NUM_CLASSES", NUM_STUFF + 1])
    return coco_sources(cfg, train=True)


@each_host
def test_faults_are_named_before_the_training(host, shapes_data, tmp_path):
    images, file, pngs = shapes_paths(shapes_data)
    (report,) = check_all(sources(host, (images, file, pngs)))
    assert report.num_images == 24 and len(report.class_counts) == NUM_THINGS + NUM_STUFF
    with pytest.raises(DatasetError, match="7 things, the config's model has 80"):
        list(check_all(sources(host, (images, file, pngs), num_things=80)))
    content = json.loads(file.read_text())
    name = content["annotations"][0]["file_name"]
    lost = content["annotations"][0]["segments_info"].pop()["id"]
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=f"without a segment in the JSON.*{name} {lost}"):
        list(check_all(sources(host, (images, changed, pngs))))


@needs_real
@each_host
@pytest.mark.parametrize(("split", "images", "segments"), [("train", 20, 241), ("val", 16, 133)])
def test_real_coco(host, split, images, segments):
    paths = real_paths(split)
    truth = plain_truth(paths)
    found = TARGETS[host](paths, STILL, (640, 640))
    assert len(found) == len(truth) == images
    assert sum(int(each.is_crowd.sum()) for each in found.values()) == 1
    for image_id, targets in found.items():
        assert_truth(targets, truth[image_id])
    (report,) = check_all(
        [{"annotation_file": paths[1], "png_folder": paths[2], "image_folder": paths[0]}]
    )
    assert (report.num_objects, report.num_crowds) == (segments, 1)
    assert len(report.class_counts) == 133
