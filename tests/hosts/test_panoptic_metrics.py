"""Panoptic quality in both hosts equals that of the files, on the embedded data set."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from PIL import Image
from tests.hosts.installed import each_host, needs_detectron2, needs_mmdet

from metaheads.datasets.shapes.annotations import to_colors
from metaheads.distributed import leave_process_group
from metaheads.evaluation import PanopticFiles, SegmentationError, evaluate_panoptic_files

KEYS = {f"{name}{group}" for name in ("PQ", "SQ", "RQ") for group in ("", "_th", "_st")}
Segmentations = dict[int, tuple[np.ndarray, list]]


@pytest.fixture
def truth(shapes_data: Path) -> PanopticFiles:
    folder = shapes_data / "shapes/annotations"
    return PanopticFiles(folder / "panoptic_val.json", folder / "panoptic_val")


def perfect(truth: PanopticFiles) -> Segmentations:
    """Crowds are left out, as no model finds them."""
    found = {}
    for image in truth:
        ids, segments = truth.read(image)
        crowds = [each.id for each in segments if each.is_crowd]
        ids = np.where(np.isin(ids, crowds), 0, ids).astype(np.int64)
        found[image] = ids, [each for each in segments if not each.is_crowd]
    return found


def corrupted(truth: PanopticFiles) -> Segmentations:
    """Shifted, and the first segment of every image is missing."""
    found = {}
    for image, (ids, segments) in perfect(truth).items():
        ids = np.roll(ids, 3, 1)
        found[image] = np.where(ids == segments[0].id, 0, ids), segments[1:]
    return found


def expected_of(truth: PanopticFiles, found: Segmentations, folder: Path) -> dict[str, float]:
    """By way of files."""
    records = []
    for image, (ids, segments) in found.items():
        Image.fromarray(to_colors(ids)).save(folder / f"{image}.png")
        infos = [{"id": each.id, "category_id": each.category} for each in segments]
        records.append({"image_id": image, "file_name": f"{image}.png", "segments_info": infos})
    (folder / "found.json").write_text(json.dumps({"annotations": records}))
    given = truth.json_file, truth.folder, folder / "found.json", folder
    return evaluate_panoptic_files(*given).to_percent()


def run_mmdet(
    truth: PanopticFiles, found: Segmentations, images: Sequence[int] | None = None
) -> dict[str, float]:
    """Through the Evaluator of MMEngine and a config's name; `images` of this process."""
    from mmdet.structures import DetDataSample
    from mmengine.evaluator import Evaluator
    from mmengine.registry import init_default_scope
    from mmengine.structures import PixelData

    init_default_scope("mmdet")
    metric = dict(
        type="metaheads.PanopticMetric",
        ann_file=str(truth.json_file),
        seg_prefix=str(truth.folder),
    )
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = {"classes": tuple(truth.names.values())}
    labels = {category: label for label, category in enumerate(truth.names)}
    for image in found if images is None else images:
        ids, segments = found[image]
        values = np.full(ids.shape, len(labels))
        for number, each in enumerate(segments):
            instance = number + 1 if truth.is_thing[each.category] else 0
            values[ids == each.id] = labels[each.category] + 1000 * instance
        values[0, :2] = np.where(values[0, :2] == len(labels), 255, values[0, :2])
        sample = DetDataSample(metainfo={"img_id": image})
        sample.pred_panoptic_seg = PixelData(sem_seg=torch.from_numpy(values)[None].int())
        evaluator.process([sample])
    results = evaluator.evaluate(len(found))
    return {key.removeprefix("coco_panoptic/"): value for key, value in results.items()}


@pytest.fixture
def dataset(truth: PanopticFiles) -> Iterator[str]:
    """The name of the data set in Detectron2's catalog."""
    from detectron2.data import MetadataCatalog

    things = [each for each, is_thing in truth.is_thing.items() if is_thing]
    stuff = [each for each, is_thing in truth.is_thing.items() if not is_thing]
    MetadataCatalog.get("panoptic_metrics").set(
        panoptic_json=str(truth.json_file),
        panoptic_root=str(truth.folder),
        label_divisor=1000,
        thing_dataset_id_to_contiguous_id={each: i for i, each in enumerate(things)},
        # Stuff from 1 as in COCO's "separated" data, whose 0 stands for all things.
        stuff_dataset_id_to_contiguous_id={0: 0} | {each: i for i, each in enumerate(stuff, 1)},
    )
    yield "panoptic_metrics"
    MetadataCatalog.remove("panoptic_metrics")


def run_detectron2(
    truth: PanopticFiles, found: Segmentations, images: Sequence[int] | None = None
) -> dict[str, float]:
    from detectron2.data import MetadataCatalog

    from metaheads.hosts.detectron2.evaluation import PanopticQualityEvaluator

    evaluator = PanopticQualityEvaluator("panoptic_metrics")
    evaluator.reset()
    metadata = MetadataCatalog.get("panoptic_metrics")
    numbers = {
        **metadata.stuff_dataset_id_to_contiguous_id,
        **metadata.thing_dataset_id_to_contiguous_id,
    }
    for image in found if images is None else images:
        ids, segments = found[image]
        infos = [
            {
                "id": each.id,
                "isthing": truth.is_thing[each.category],
                "category_id": numbers[each.category],
            }
            for each in segments
        ]
        ids = np.where(ids == 0, 2**20, ids)  # an id without a segment
        output = {"panoptic_seg": (torch.from_numpy(ids).int(), infos)}
        evaluator.process([{"image_id": image}], [output])
    return (evaluator.evaluate() or {}).get("panoptic_seg", {})


@pytest.fixture
def run(host: str, request: pytest.FixtureRequest):
    if host == "detectron2":
        request.getfixturevalue("dataset")
        return run_detectron2
    return run_mmdet


@each_host
def test_perfect_is_100(host, run, truth):
    results = run(truth, perfect(truth))
    assert results.keys() == KEYS and set(results.values()) == {100.0}


@each_host
def test_corrupted_is_as_of_the_files(host, run, truth, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "panopticapi", None)
    results = run(truth, corrupted(truth))
    expected = expected_of(truth, corrupted(truth), tmp_path)
    assert results == pytest.approx(expected, rel=1e-12)
    assert 20 < results["PQ"] < 90 and results["PQ_th"] != results["PQ_st"]


@each_host
def test_one_missing_object(host, run, truth):
    """Everything is right but one object: its category has n - 1 of n - 1/2."""
    found = perfect(truth)
    image = next(i for i, (_, each) in found.items() if truth.is_thing[each[0].category])
    ids, segments = found[image]
    category = segments[0].category
    count = sum(each.category == category for _, some in found.values() for each in some)
    things = {
        each.category
        for _, some in found.values()
        for each in some
        if truth.is_thing[each.category]
    }
    found[image] = np.where(ids == segments[0].id, 0, ids), segments[1:]
    results = run(truth, found)
    quality = (count - 1) / (count - 0.5)
    assert results["PQ_th"] == pytest.approx(100 * (len(things) - 1 + quality) / len(things))
    assert results["PQ_st"] == 100


def to_masks(truth: PanopticFiles, found: tuple, kind: bool) -> tuple[torch.Tensor, list[int]]:
    """(N, H, W) bool, and the categories, of the things or the stuff of an image."""
    ids, segments = found
    chosen = [each for each in segments if truth.is_thing[each.category] is kind]
    masks = np.array([ids == each.id for each in chosen]).reshape(-1, *ids.shape)
    return torch.from_numpy(masks), [each.category for each in chosen]


@needs_mmdet
def test_mmdet_own_fusion_of_true_masks(truth):
    from mmdet.models import HeuristicFusionHead
    from mmengine.structures import InstanceData

    from metaheads.hosts.mmdet import PanopticMetric

    metric = PanopticMetric(str(truth.json_file), str(truth.folder))
    metric.dataset_meta = {"classes": tuple(truth.names.values())}
    things = [each for each, is_thing in truth.is_thing.items() if is_thing]
    stuff = [each for each, is_thing in truth.is_thing.items() if not is_thing]
    options = {"mask_overlap": 0.5, "stuff_area_limit": 0}
    head = HeuristicFusionHead(len(things), len(stuff), test_cfg=type("Options", (), options))
    for image, found in perfect(truth).items():
        masks, categories = to_masks(truth, found, True)
        instances = InstanceData(
            bboxes=torch.zeros(len(masks), 4),
            scores=torch.ones(len(masks)),
            labels=torch.tensor([things.index(each) for each in categories], dtype=torch.long),
            masks=masks,
        )
        scores = torch.zeros(len(stuff) + 1, *masks.shape[1:])
        scores[-1] = 0.5  # void
        for mask, category in zip(*to_masks(truth, found, False), strict=True):
            scores[stuff.index(category)] += mask
        result = head._predict_single(instances, scores)
        metric.process(None, [{"img_id": image, "pred_panoptic_seg": result.to_dict()}])
    assert set(metric.evaluate(len(metric.results)).values()) == {100.0}


@needs_detectron2
def test_detectron2_own_fusion_of_true_masks(truth, dataset):
    from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
    from detectron2.structures import Instances

    from metaheads.hosts.detectron2.evaluation import PanopticQualityEvaluator

    evaluator = PanopticQualityEvaluator(dataset)
    evaluator.reset()
    things = [each for each, is_thing in truth.is_thing.items() if is_thing]
    stuff = [each for each, is_thing in truth.is_thing.items() if not is_thing]
    for image, found in perfect(truth).items():
        masks, categories = to_masks(truth, found, True)
        instances = Instances(
            masks.shape[1:],
            scores=torch.ones(len(masks)),
            pred_masks=masks,
            pred_classes=torch.tensor([things.index(each) for each in categories]),
        )
        semantic = torch.zeros(masks.shape[1:], dtype=torch.long)
        for mask, category in zip(*to_masks(truth, found, False), strict=True):
            semantic[mask] = stuff.index(category) + 1
        output = combine_semantic_and_instance_outputs(instances, semantic, 0.5, 0, 0.5)
        evaluator.process([{"image_id": image}], [{"panoptic_seg": output}])
    assert set(evaluator.evaluate()["panoptic_seg"].values()) == {100.0}
    evaluator.reset()
    assert np.isnan(list(evaluator.evaluate()["panoptic_seg"].values())).all()


@needs_mmdet
def test_mmdet_value_0_is_a_segment(truth):
    """Label 0 without an instance number: 0 is void in PNGs only."""
    from metaheads.hosts.mmdet import PanopticMetric

    metric = PanopticMetric(str(truth.json_file), str(truth.folder))
    metric.dataset_meta = {"classes": list(truth.names.values())}
    ids, segments = metric._to_segments(torch.tensor([[[0, 1000, 255]]]), "image")
    assert ids.tolist() == [[1, 1001, 0]]
    first = next(iter(truth.names))
    assert [(each.id, each.category) for each in segments] == [(1, first), (1001, first)]


@needs_mmdet
def test_mmdet_classes_are_found_by_name(truth):
    from metaheads.hosts.mmdet import PanopticMetric

    metric = PanopticMetric(str(truth.json_file), str(truth.folder))
    metric.dataset_meta = {"classes": list(truth.names.values())[::-1]}
    assert metric._categories == list(truth.names)[::-1]
    metric = PanopticMetric(str(truth.json_file), str(truth.folder))
    metric.dataset_meta = {"classes": ["unicorn"]}
    with pytest.raises(ValueError, match=r"has no categories \['unicorn'\]"):
        _ = metric._categories


@needs_mmdet
def test_mmdet_bad_predictions(truth):
    from metaheads.hosts.mmdet import PanopticMetric

    metric = PanopticMetric(str(truth.json_file), str(truth.folder))
    image = next(iter(truth))
    sample = {"img_id": image, "pred_panoptic_seg": {"sem_seg": torch.tensor([[[900]]])}}
    with pytest.raises(SegmentationError, match=f"image {image} .*value 900 of a model with"):
        metric.process(None, [sample])
    sample["pred_panoptic_seg"]["sem_seg"] = torch.zeros(1, 1, 1)
    with pytest.raises(SegmentationError, match="the prediction has the size"):
        metric.process(None, [sample])
    with pytest.raises(SegmentationError, match="no annotation of image -1"):
        metric.process(None, [sample | {"img_id": -1}])


@needs_detectron2
def test_detectron2_ids_that_say_their_category(truth, dataset):
    from metaheads.hosts.detectron2.evaluation import PanopticQualityEvaluator

    evaluator = PanopticQualityEvaluator(dataset)
    ids, infos = evaluator._split(np.array([[-1, 0, 2003]]))
    assert ids.tolist() == [[0, 1, 2004]]
    segments = [evaluator._to_segment(each, "image") for each in infos]
    things = [each for each, is_thing in truth.is_thing.items() if is_thing]
    assert [(each.id, each.category) for each in segments] == [(1, things[0]), (2004, things[2])]


@needs_detectron2
def test_detectron2_bad_predictions(truth, dataset):
    from metaheads.hosts.detectron2.evaluation import PanopticQualityEvaluator

    evaluator, image = PanopticQualityEvaluator(dataset), next(iter(truth))
    ids = torch.ones(truth.read(image)[0].shape, dtype=torch.int32)
    for info, words in (
        ({"id": 1, "isthing": True, "category_id": 77}, "thing category 77 is not in the metadata"),
        ({"id": 1, "isthing": False, "category_id": 0}, r"categories \[0\] are not known"),
        ({"id": 2, "isthing": True, "category_id": 0}, "segments without a pixel in the map: 2"),
    ):
        with pytest.raises(SegmentationError, match=f"image {image} .*{words}"):
            evaluator.process([{"image_id": image}], [{"panoptic_seg": (ids, [info])}])


def work(rank: int, folder: Path, run, truth: PanopticFiles, found: Segmentations, images) -> None:
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    results = run(truth, found, images[rank])
    (folder / f"{rank}.json").write_text(json.dumps(results))
    leave_process_group()


@each_host
def test_two_processes_are_as_one(host, run, truth, tmp_path):
    found = dict(list(corrupted(truth).items())[:5])
    first, second = list(found)[::2], list(found)[1::2]
    if host == "mmdet":  # its sampler repeats images until all processes have as many
        second.append(first[0])
    context = torch.multiprocessing.get_context("fork")
    common = tmp_path, run, truth, found, (first, second)
    processes = [context.Process(target=work, args=(rank, *common)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    results = json.loads((tmp_path / "0.json").read_text())
    assert results == pytest.approx(run(truth, found), rel=1e-12)
