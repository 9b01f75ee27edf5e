"""Faces through both hosts: points and meshes arrive, and the metrics read the right ones."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from tests.hosts import pair
from tests.hosts.installed import each_host, needs_detectron2, needs_mmdet

from metaheads.evaluation import WiderFace, WiderFaceTruth
from metaheads.mesh import MeshTopology

FACES = "retinaface/retinaface_mnet025_320_faces"
SIZE = (320, 320)


def file_faces(shapes_data) -> dict[str, list[dict]]:
    content = json.loads((shapes_data / "shapes/annotations/faces_train.json").read_text())
    found: dict[str, list] = {image["file_name"]: [] for image in content["images"]}
    names = {image["id"]: image["file_name"] for image in content["images"]}
    for each in content["annotations"]:
        found[names[each["image_id"]]].append(each)
    return found


@pytest.fixture
def mesh(shapes_data) -> MeshTopology:
    return MeshTopology.from_json(shapes_data / "shapes/annotations/mesh.json")


def assert_consistent(boxes, points, vertices, size: tuple[int, int], mesh: MeshTopology) -> int:
    """A face's points are vertices of its mesh, mirrored or not; how many faces had both."""
    landmarks = [16, 18, 24, 30, 32]
    has_mesh = np.isfinite(vertices).all((1, 2))
    assert ((points[..., 2] > 0).all(1) == has_mesh).all()
    for box, own, corners in zip(
        boxes[has_mesh], points[has_mesh], vertices[has_mesh], strict=True
    ):
        expected = np.clip(corners[landmarks, :2], 0, size[::-1])
        np.testing.assert_allclose(own[:, :2], expected, atol=0.1)
        limits = np.clip(np.concatenate((corners[:, :2].min(0), corners[:, :2].max(0))), 0, size[0])
        np.testing.assert_allclose(box, limits, atol=0.1)
    return int(has_mesh.sum())


@needs_mmdet
def test_mmdet_data(shapes_data, mesh):
    from mmengine.runner import Runner

    from metaheads.hosts.mmdet.models import to_targets

    cfg = pair.mmdet_config(FACES)
    dataset, count, crowds = Runner.build_dataloader(cfg.train_dataloader).dataset, 0, 0
    for index in range(len(dataset)):
        sample = dataset[index]["data_samples"]
        targets = to_targets(sample, SIZE, torch.device("cpu"))
        assert targets.vertices is not None and targets.keypoints is not None
        fields = (each.numpy() for each in (targets.boxes, targets.keypoints, targets.vertices))
        count += assert_consistent(*fields, SIZE, mesh)
        crowds += int(targets.is_crowd.sum())
    assert count > 10 and crowds


@needs_detectron2
def test_detectron2_data(shapes_data, mesh):
    from detectron2.data import get_detection_dataset_dicts

    from metaheads.hosts.detectron2.data import MetaheadsMapper
    from metaheads.hosts.detectron2.models import to_targets

    cfg = pair.detectron2_config(FACES)
    mapper, count = MetaheadsMapper(cfg, True), 0
    for entry in get_detection_dataset_dicts(cfg.DATASETS.TRAIN[0], filter_empty=False):
        inputs = mapper(entry)
        targets = to_targets(inputs["instances"], SIZE, SIZE)
        assert targets.vertices is not None and targets.keypoints is not None
        fields = (each.numpy() for each in (targets.boxes, targets.keypoints, targets.vertices))
        count += assert_consistent(*fields, SIZE, mesh)
    assert count > 10


@needs_mmdet
@pytest.mark.parametrize(
    "step",
    [
        {"type": "RandomFlip", "prob": 1.0},
        {"type": "Resize", "scale": (384, 288)},
        {"type": "RandomCrop", "crop_size": (60, 80), "allow_negative_crop": True},
    ],
    ids=lambda step: step["type"],
)
def test_transforms_that_leave_points_behind_are_refused(shapes_data, step):
    from mmengine.runner import Runner

    loader = pair.mmdet_config(FACES).train_dataloader
    *steps, transform, pack = loader.dataset.pipeline
    assert transform.type == "metaheads.FaceTransform"
    loader.dataset.pipeline = [*steps, step, pack]
    dataset = Runner.build_dataloader(loader).dataset
    with pytest.raises(ValueError, match="leave gt_keypoints and gt_vertices where they were"):
        dataset[0]


@needs_detectron2
def test_detectron2_trains_on_the_crop_as_it_is(shapes_data):
    """INPUT.TEST_SIZE has another aspect: faces would be wider in training than in tests."""
    from detectron2.data import get_detection_dataset_dicts

    from metaheads.hosts.detectron2.data import MetaheadsMapper

    cfg = pair.detectron2_config(FACES, ("MODEL.DEVICE", "cpu"))
    assert tuple(cfg.INPUT.TEST_SIZE) != (cfg.INPUT.FACE_TRANSFORM.SIZE,) * 2
    entries = get_detection_dataset_dicts(cfg.DATASETS.TRAIN[0], filter_empty=False)
    inputs = MetaheadsMapper(cfg, True)(entries[0])
    model = pair.detectron2_model(FACES, ("MODEL.DEVICE", "cpu")).train()
    images = []
    model.backbone.register_forward_pre_hook(lambda _, given: images.append(given[0]))
    model([inputs])
    assert images[0].shape[-2:] == (cfg.INPUT.FACE_TRANSFORM.SIZE,) * 2


@needs_mmdet
@needs_detectron2
def test_both_hosts_give_the_same(shapes_data):
    """One transform for both: from one state of the random numbers they give the same face."""
    boxes = boxes_in_both_hosts()
    assert len(boxes) > 10


@needs_mmdet
@needs_detectron2
def test_faces_of_any_size_reach_both_hosts(own_data):
    """MMDetection's own data set leaves out what is narrower than a pixel."""
    file = own_data / "faces_train.json"
    content = json.loads(file.read_text())
    first = max(each["id"] for each in content["annotations"]) + 1
    sizes = [(0.5, 0.75), (1, 1), (2, 2), (0, 4)]
    category = content["categories"][0]["id"]
    for image in content["images"]:
        for width, height in sizes:
            face = {"id": first, "image_id": image["id"], "category_id": category, "iscrowd": 0}
            face |= {"bbox": [60, 70, width, height], "area": width * height}
            content["annotations"].append(face)
            first += 1
    file.write_text(json.dumps(content))
    boxes = boxes_in_both_hosts()
    smallest = (boxes[:, 2:] - boxes[:, :2]).amin(1)
    assert ((smallest > 0) & (smallest < 5)).sum() > 9


def boxes_in_both_hosts() -> torch.Tensor:
    """(N, 4) of all faces of the training set, no crowds; they are equal."""
    from detectron2.data import get_detection_dataset_dicts
    from mmengine.runner import Runner

    from metaheads.hosts.detectron2.data import MetaheadsMapper

    cfg = pair.detectron2_config(FACES)
    entries = get_detection_dataset_dicts(cfg.DATASETS.TRAIN[0], filter_empty=False)
    mapper = MetaheadsMapper(cfg, True)
    dataset = Runner.build_dataloader(pair.mmdet_config(FACES).train_dataloader).dataset
    by_name = {dataset.get_data_info(i)["img_path"].split("/")[-1]: i for i in range(len(dataset))}
    boxes = []
    for entry in entries:
        np.random.seed(3)
        first = mapper(entry)
        np.random.seed(3)
        second = dataset[by_name[entry["file_name"].split("/")[-1]]]
        theirs = second["data_samples"].gt_instances
        ours = first["instances"]
        np.testing.assert_allclose(first["image"].numpy(), second["inputs"].numpy(), atol=1e-3)
        kept = ~ours.gt_is_crowd
        np.testing.assert_allclose(
            ours.gt_vertices[kept].numpy(), theirs.vertices.numpy(), atol=1e-3
        )
        expected = ours.gt_boxes.tensor[kept]
        np.testing.assert_allclose(expected.numpy(), theirs.bboxes.tensor.numpy(), atol=1e-3)
        boxes.append(expected)
    return torch.cat(boxes)


@pytest.fixture
def own_data(shapes_data, tmp_path, monkeypatch):
    """A copy of the embedded data to be changed, as $METAHEADS_DATA; its annotations."""
    shutil.copytree(shapes_data / "shapes", tmp_path / "shapes")
    monkeypatch.setenv("METAHEADS_DATA", str(tmp_path))
    return tmp_path / "shapes/annotations"


def shorten_meshes(file) -> None:
    content = json.loads(file.read_text())
    for each in content["annotations"]:
        if "vertices" in each:
            each["vertices"] = each["vertices"][:-3]
    file.write_text(json.dumps(content))


@each_host
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_check_of_the_data_finds_another_mesh(host, split, own_data, capsys):
    from metaheads.cli import main

    command = ["check-dataset", "--config-file", FACES, "--host", host]
    assert main(command) == 0
    shorten_meshes(own_data / f"faces_{split}.json")
    assert main(command) == 1
    out = capsys.readouterr().out
    assert f"faces_{split}.json: annotations without exactly 147 finite numbers" in out
    assert "(144 numbers)" in out


@each_host
def test_another_mesh_is_refused(host, own_data, tmp_path, capsys):
    """Also where nobody has checked the data."""
    from metaheads.cli import main

    shorten_meshes(own_data / "faces_train.json")
    command = ["train", "--config-file", FACES, "--host", host, "--dry-run", "--no-data-check"]
    assert main([*command, "--work-dir", str(tmp_path / "work")]) == 2
    error = capsys.readouterr().err
    assert "are 144 numbers" in error and ".png" in error and "147 numbers" in error


def make_truth(folder) -> WiderFaceTruth:
    boxes = {"a--b/1": np.array([[10.0, 10, 20, 20]]), "a--b/2": np.array([[5.0, 5, 30, 30]])}
    counted = {name: np.array([True]) for name in boxes}
    return WiderFaceTruth(boxes, dict.fromkeys(("easy", "medium", "hard"), counted))


FOUND = {
    "a--b/1": (np.array([[10, 10, 30, 30], [50, 50, 60, 60]]), np.array([0.9, 0.5])),
    "a--b/2": (np.array([[5, 5, 35, 35]]), np.array([0.2])),
}
EXPECTED = 100 * (0.5 + 0.5 * 2 / 3)


@needs_mmdet
def test_mmdet_wider_metric(tmp_path, monkeypatch):
    from metaheads.hosts.mmdet import WiderFaceMetric

    monkeypatch.setattr(WiderFaceTruth, "from_folder", make_truth)
    metric = WiderFaceMetric("somewhere", submission=str(tmp_path / "out"))
    samples = [
        {
            "img_path": f"/images/{name}.jpg",
            "pred_instances": {
                "bboxes": torch.tensor(boxes).float(),
                "scores": torch.tensor(scores),
            },
        }
        for name, (boxes, scores) in FOUND.items()
    ]
    metric.process({}, samples)
    scores = metric.evaluate(2)
    assert scores["widerface/hard"] == pytest.approx(EXPECTED)
    again = WiderFace(make_truth(""))
    again.read_submission(tmp_path / "out")
    assert 100 * again.compute().precision["hard"] == pytest.approx(EXPECTED)


@needs_detectron2
def test_detectron2_wider_evaluator(tmp_path, monkeypatch):
    from detectron2.structures import Boxes, Instances

    from metaheads.hosts.detectron2.evaluation import WiderFaceEvaluator

    monkeypatch.setattr(WiderFaceTruth, "from_folder", make_truth)
    evaluator = WiderFaceEvaluator("somewhere", str(tmp_path / "out"))
    for name, (boxes, scores) in FOUND.items():
        instances = Instances((100, 100))
        instances.pred_boxes = Boxes(torch.tensor(boxes))
        instances.scores = torch.tensor(scores)
        evaluator.process([{"file_name": f"{name}.jpg"}], [{"instances": instances}])
    assert evaluator.evaluate()["widerface"]["easy"] == pytest.approx(EXPECTED)
    assert (tmp_path / "out/a--b/2.txt").read_text() == "2.jpg\n1\n5 5 30 30 0.2\n"
    evaluator.reset()
    assert evaluator.evaluate()["widerface"]["easy"] == 0


@pytest.fixture
def perfect(shapes_data) -> tuple[list[dict], str, str]:
    """What the validation file says of its faces with points, as if it had been found."""
    folder = shapes_data / "shapes/annotations"
    content = json.loads((folder / "faces_val.json").read_text())
    known = [each for each in content["annotations"] if each["num_keypoints"]]
    images = [
        {
            "image_id": image["id"],
            "faces": [each for each in known if each["image_id"] == image["id"]],
        }
        for image in content["images"]
    ]
    return images, str(folder / "faces_val.json"), str(folder / "mesh.json")


def found_fields(faces: list[dict], shift: float) -> dict[str, torch.Tensor]:
    """Boxes as in the file; all points lie `shift` of the box's root to the right."""
    boxes = torch.tensor([each["bbox"] for each in faces]).float().reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    root = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()[:, None]
    keypoints = torch.tensor([each["keypoints"] for each in faces]).float().reshape(-1, 5, 3)
    vertices = torch.tensor([each["vertices"] for each in faces]).float().reshape(-1, 49, 3)
    keypoints[..., 0] += shift * root
    vertices[..., 0] += 2 * shift * root
    ones = torch.ones(len(faces))
    return {
        "bboxes": boxes,
        "labels": torch.zeros(len(faces), dtype=torch.int64),
        "scores": ones,
        "keypoints": keypoints,
        "vertices": vertices,
    }


EXPECTED_POINTS = {
    "NME": 8,
    "failures_10": 0,
    "matched": 100,
    "vertices_NME": 16,
    "vertices_failures_10": 100,
    "vertices_matched": 100,
}


@needs_mmdet
def test_mmdet_nme(perfect):
    from metaheads.hosts.mmdet import NMEMetric

    images, file, mesh_file = perfect
    metric = NMEMetric(file, mesh_file)
    metric.dataset_meta = {"classes": ("face",)}
    for image in images:
        fields = found_fields(image["faces"], 0.08)
        metric.process({}, [{"img_id": image["image_id"], "pred_instances": fields}])
    scores = metric.evaluate(len(images))
    expected = {f"points/{name}": value for name, value in EXPECTED_POINTS.items()}
    assert scores == pytest.approx(expected, abs=0.01)


@needs_detectron2
def test_detectron2_nme(perfect):
    from detectron2.data import MetadataCatalog
    from detectron2.structures import Boxes, Instances

    from metaheads.hosts.detectron2.evaluation import InstanceEvaluator, NMEEvaluator

    images, file, mesh_file = perfect
    MetadataCatalog.get("faces_of_the_nme_test").set(json_file=file)
    boxes_first = InstanceEvaluator("faces_of_the_nme_test", ("bbox",))
    boxes_first.reset()
    evaluator = NMEEvaluator("faces_of_the_nme_test", mesh_file)
    for image in images:
        fields = found_fields(image["faces"], 0.08)
        instances = Instances((144, 192))
        instances.pred_boxes = Boxes(fields["bboxes"])
        instances.scores, instances.pred_classes = fields["scores"], fields["labels"]
        instances.pred_keypoints = fields["keypoints"] + torch.tensor([0.5, 0.5, 0])
        instances.pred_vertices = fields["vertices"]
        for each in (boxes_first, evaluator):
            each.process([{"image_id": image["image_id"]}], [{"instances": instances}])
    assert evaluator.evaluate()["points"] == pytest.approx(EXPECTED_POINTS, abs=0.01)
    MetadataCatalog.remove("faces_of_the_nme_test")


ODD = {
    "no faces": "",
    "ignored faces only": "5 6 0 30\n9 9 7 0\n",
    "faces of one and two pixels": "5 6 1 1\n30 30 2 2\n",
    "no points": f"20 20 60 70 {'-1 ' * 15}0\n",
    "points outside": f"20 20 60 70 {'-0 400 0 ' * 5}0\n20 20 60 70 {'4000 9 1 ' * 5}0\n",
}


@pytest.fixture
def odd_data(shapes_data, tmp_path, monkeypatch) -> None:
    """A training set of five such pictures in the place of the drawn ones, from a label file."""
    from metaheads.cli import main

    shutil.copytree(shapes_data / "shapes", tmp_path / "shapes")
    source, lines = tmp_path / "source", []
    (source / "images").mkdir(parents=True)
    pictures = sorted((tmp_path / "shapes/faces/train").iterdir())
    for path, text in zip(pictures, ODD.values(), strict=False):
        shutil.copy(path, source / "images")
        lines.append(f"# {path.name}\n{text}")
    (source / "label.txt").write_text("".join(lines))
    out = tmp_path / "shapes/annotations/faces_train.json"
    out.unlink()
    command = ["convert-dataset", "--from", "retinaface", str(source), "--out", str(out)]
    assert main(command) == 0
    monkeypatch.setenv("METAHEADS_DATA", str(tmp_path))


@each_host
def test_odd_faces_train(host, odd_data, tmp_path):
    """Without faces, with ignored, tiny or pointless ones: losses stay finite, weights move."""
    from metaheads.cli import main

    options = {
        "mmdet": [
            "train_cfg.max_iters=5",
            "train_cfg.val_interval=5",
            "train_dataloader.batch_size=1",
        ],
        "detectron2": ["SOLVER.MAX_ITER=5", "SOLVER.IMS_PER_BATCH=1", "TEST.EVAL_PERIOD=5"],
    }[host]
    work = tmp_path / "work"
    command = ["train", "--config-file", FACES, "--host", host, "--work-dir", str(work)]
    assert main([*command, *options]) == 0
    scores = json.loads((work / "results.json").read_text())
    assert "points/NME" in scores and "points/vertices_NME" in scores
