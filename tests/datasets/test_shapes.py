"""The embedded data set: what is written is consistent, varied, exact and repeatable."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from metaheads.commands import make_shapes as command
from metaheads.datasets import shapes

SIZE = (144, 192)
FIGURE = shapes.THINGS["figure"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shapes") / "data"
    shapes.make_shapes(folder, num_train=60, num_val=10, num_clips=3, num_faces=(40, 12))
    return folder


def load(folder: Path, name: str) -> dict:
    return json.loads((folder / "annotations" / f"{name}.json").read_text())


def read_picture(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None, path
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def read_ids(path: Path) -> np.ndarray:
    red, green, blue = read_picture(path).astype(np.int64).transpose(2, 0, 1)
    return red + 256 * green + 65536 * blue


def decode(annotation: dict) -> np.ndarray:
    """What pycocotools, and so both hosts, makes of the segmentation: (H, W) bool."""
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, dict):
        return coco_mask.decode(segmentation).astype(bool)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(segmentation, *SIZE))) > 0


def list_bytes(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def tight_box(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask)
    x, y = columns.min(), rows.min()
    return [x, y, columns.max() + 1 - x, rows.max() + 1 - y]


@pytest.mark.parametrize("split", ["train", "val"])
def test_instance_file_is_consistent(folder, split):
    content = load(folder, f"instances_{split}")
    names = {item["name"]: item["id"] for item in content["categories"]}
    assert names == shapes.THINGS and len(names) == 7
    assert sorted(names.values()) != list(range(1, 8)), "category ids must have gaps"
    count = len(content["images"])
    assert count == len(list((folder / split).iterdir()))
    assert [image["id"] for image in content["images"]] == list(range(1, count + 1))
    for image in content["images"]:
        picture = read_picture(folder / split / image["file_name"])
        assert picture.shape == (*SIZE, 3) == (image["height"], image["width"], 3)
        assert picture.std() > 8, "a picture is more than one flat region"
    numbers = [item["id"] for item in content["annotations"]]
    assert numbers == list(range(1, len(numbers) + 1))
    for item in content["annotations"]:
        mask = decode(item)
        assert item["category_id"] in names.values()
        assert item["area"] == mask.sum() >= shapes.TRAIN_OPTIONS.minimum_area
        assert item["bbox"] == tight_box(mask)


@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_are_the_panoptic_segments(folder, split):
    instances = load(folder, f"instances_{split}")["annotations"]
    panoptic = load(folder, f"panoptic_{split}")
    is_thing = {item["id"]: item["isthing"] for item in panoptic["categories"]}
    assert {name: number for name, number in shapes.STUFF.items() if not is_thing[number]} == (
        shapes.STUFF
    )
    for record in panoptic["annotations"]:
        ids = read_ids(folder / "annotations" / f"panoptic_{split}" / record["file_name"])
        segments = {item["id"]: item for item in record["segments_info"]}
        assert len(segments) == len(record["segments_info"])
        assert set(np.unique(ids)) - {0} == set(segments)
        assert (ids == 0).mean() < 0.5
        for number, item in segments.items():
            assert item["area"] == (ids == number).sum()
            assert item["bbox"] == tight_box(ids == number)
        own = [item for item in instances if item["image_id"] == record["image_id"]]
        things = [item for item in segments.values() if is_thing[item["category_id"]]]
        assert len(own) == len(things)
        for annotation, item in zip(own, things, strict=True):
            assert np.array_equal(decode(annotation), ids == item["id"])  # hence disjoint
            assert annotation["category_id"] == item["category_id"]
            assert annotation["iscrowd"] == item["iscrowd"]


def test_ids_of_segments_need_three_bytes(folder):
    numbers = [
        item["id"]
        for record in load(folder, "panoptic_train")["annotations"]
        for item in record["segments_info"]
    ]
    assert max(numbers) > 65535 and any(number % 256 for number in numbers)


def test_polygons_rasterise_to_the_mask(folder):
    """With another rasteriser than the writer's: OpenCV at eight times the size."""
    annotations = load(folder, "instances_train")["annotations"]
    polygons = [item for item in annotations if isinstance(item["segmentation"], list)]
    for item in polygons:
        ring = np.array(item["segmentation"][0]).reshape(-1, 2)
        canvas = np.zeros((SIZE[0] * 8, SIZE[1] * 8), np.uint8)
        cv2.fillPoly(canvas, [ring * 8], 1)
        drawn = cv2.resize(canvas * 255, SIZE[::-1], interpolation=cv2.INTER_AREA) > 127
        mask = decode(item)
        assert (drawn & mask).sum() / (drawn | mask).sum() > 0.97
    assert len(polygons) > len(annotations) / 2


def test_rles_hold_holes_parts_and_crowds(folder):
    annotations = load(folder, "instances_train")["annotations"]
    rles = [item for item in annotations if isinstance(item["segmentation"], dict)]
    crowds = [item for item in annotations if item["iscrowd"]]
    assert crowds and all(isinstance(item["segmentation"]["counts"], str) for item in rles)
    assert any(item["category_id"] == shapes.THINGS["ring"] for item in rles)
    for item in crowds:
        assert isinstance(item["segmentation"], dict)
        assert cv2.connectedComponents(decode(item).astype(np.uint8))[0] > 4


def test_scenes_are_varied(folder):
    content = load(folder, "instances_train")
    annotations = [item for item in content["annotations"] if not item["iscrowd"]]
    seen = {item["image_id"] for item in content["annotations"]}
    assert 0 < len(content["images"]) - len(seen) <= 4, "some images have no object"
    assert {item["category_id"] for item in annotations} == set(shapes.THINGS.values())
    lengths = [max(item["bbox"][2:]) for item in annotations]
    assert min(lengths) <= 26 and max(lengths) >= 70
    cut = [item for item in annotations if item["bbox"][0] == 0 or item["bbox"][1] == 0]
    assert cut, "some objects are cut by the border"
    touching = 0
    for first, second in zip(annotations, annotations[1:], strict=False):
        if (first["image_id"], first["category_id"]) == (second["image_id"], second["category_id"]):
            grown = cv2.dilate(decode(first).astype(np.uint8), np.ones((3, 3), np.uint8))
            touching += bool((grown & decode(second)).any())
    assert touching, "some objects touch one of their class"
    stuff = {
        item["category_id"]
        for record in load(folder, "panoptic_train")["annotations"]
        for item in record["segments_info"]
    }
    assert stuff >= set(shapes.STUFF.values())


def test_color_does_not_give_the_class_away(folder):
    """The nearest neighbour by mean color is rarely of the same class (chance is 1 in 7)."""
    colors, labels, owners = [], [], []
    for item in load(folder, "instances_train")["annotations"]:
        picture = read_picture(folder / "train" / f"{item['image_id']:06d}.png")
        colors.append(picture[decode(item)].mean(0))
        labels.append(item["category_id"])
        owners.append(item["image_id"])
    distance = np.linalg.norm(np.array(colors)[:, None] - np.array(colors), axis=-1)
    distance[np.array(owners)[:, None] == np.array(owners)] = np.inf  # shared light
    nearest = np.array(labels)[distance.argmin(1)]
    assert (nearest == np.array(labels)).mean() < 0.4


@pytest.mark.parametrize("split", ["train", "val"])
def test_keypoints_lie_on_their_figures(folder, split):
    content = load(folder, f"keypoints_{split}")
    (category,) = content["categories"]
    assert category["id"] == FIGURE and len(category["keypoints"]) == 9
    figures = [
        item
        for item in load(folder, f"instances_{split}")["annotations"]
        if item["category_id"] == FIGURE
    ]
    assert [item["id"] for item in content["annotations"]] == list(range(1, len(figures) + 1))
    flags = []
    for item, figure in zip(content["annotations"], figures, strict=True):
        assert all(item[key] == figure[key] for key in ("image_id", "bbox", "segmentation"))
        points = np.array(item["keypoints"]).reshape(9, 3)
        assert item["num_keypoints"] == (points[:, 2] > 0).sum()
        mask = decode(item)
        for x, y, flag in points:
            assert 0 <= x < SIZE[1] and 0 <= y < SIZE[0]
            assert (flag == 2) == bool(flag and mask[y, x])
            assert flag or (x == 0 and y == 0)
        if not item["iscrowd"]:
            flags.extend(points[:, 2])
    assert set(flags) == {0, 1, 2} or split == "val"
    assert np.mean(np.array(flags) == 2) > 0.5


def test_keypoint_names_pair_up():
    names = shapes.FIGURE_KEYPOINTS
    assert len(shapes.FIGURE_SIGMAS) == len(names)
    for left, right in shapes.FIGURE_FLIP_PAIRS:
        assert names[left].replace("left_", "right_") == names[right] != names[left]
    paired = {index for pair in shapes.FIGURE_FLIP_PAIRS for index in pair}
    assert {names[index] for index in set(range(9)) - paired} == {"head", "neck", "pelvis"}
    assert {index for pair in shapes.FIGURE_SKELETON for index in pair} == set(range(1, 10))


def test_left_is_on_the_right_of_upright_figures():
    options = replace(shapes.TRAIN_OPTIONS, object_count=(8, 8), empty_every=0, crowd_every=0)
    right_ward = []
    for index in range(10):
        scene = shapes.draw_scene(options, SIZE, seed=1, split="train", index=index)
        for instance in scene.instances:
            if instance.category == FIGURE and (instance.keypoints[:, 2] > 0).all():
                points = instance.keypoints
                if points[2, 1] - points[0, 1] > 8:  # head well above the pelvis
                    right_ward.append(points[3, 0] > points[4, 0])
    assert len(right_ward) >= 3 and all(right_ward)


def test_val_differs_from_train(folder):
    assert shapes.VAL_OPTIONS.object_count != shapes.TRAIN_OPTIONS.object_count
    assert shapes.VAL_OPTIONS.texture_scale != shapes.TRAIN_OPTIONS.texture_scale
    train = {path.read_bytes() for path in (folder / "train").iterdir()}
    val = {path.read_bytes() for path in (folder / "val").iterdir()}
    assert len(train) == 60 and len(val) == 10 and not train & val
    options = shapes.TRAIN_OPTIONS
    first, second = (
        shapes.draw_scene(options, SIZE, seed=0, split=split, index=3) for split in ("train", "val")
    )
    assert not np.array_equal(first.picture, second.picture)


def test_equal_arguments_give_equal_bytes(folder, tmp_path):
    shapes.make_shapes(tmp_path / "few", num_train=3, num_val=1, num_clips=1, num_faces=(0, 0))
    shapes.make_shapes(tmp_path / "again", num_train=3, num_val=1, num_clips=1, num_faces=(0, 0))
    few = list_bytes(tmp_path / "few")
    assert few == list_bytes(tmp_path / "again")
    many = list_bytes(folder)  # a scene does not depend on how many there are
    pictures = [name for name in few if name.endswith((".png", ".npz"))]
    assert len(pictures) == 2 * 3 + 2 * 1 + 8 + 8 + 7
    assert all(few[name] == many[name] for name in pictures)
    shapes.make_shapes(
        tmp_path / "other", num_train=1, num_val=0, num_clips=0, num_faces=(0, 0), seed=1
    )
    assert list_bytes(tmp_path / "other")["train/000001.png"] != few["train/000001.png"]


def test_clips_keep_their_ids(folder):
    content = load(folder, "clips")
    assert [video["length"] for video in content["videos"]] == [8, 8, 8]
    records = {record["image_id"]: record for record in content["annotations"]}
    known: dict[tuple, int] = {}
    followed = []
    for image in content["images"]:
        record = records[image["id"]]
        assert record["video_id"] == image["video_id"]
        ids = read_ids(folder / "annotations" / "panoptic_clips" / record["file_name"])
        assert set(np.unique(ids)) - {0} == {item["id"] for item in record["segments_info"]}
        for item in record["segments_info"]:
            assert item["area"] == (ids == item["id"]).sum() and not item["iscrowd"]
            key = (image["video_id"], item["id"])
            assert known.setdefault(key, item["category_id"]) == item["category_id"]
            followed.append(key)
    assert [image["frame_id"] for image in content["images"]] == 3 * [*range(8)]
    longest = [key for key in known if followed.count(key) == 8]
    assert sum(known[key] in shapes.THINGS.values() for key in longest) >= 4


def iterate_flows(folder: Path):
    """Yields pictures and ids of a frame and the next, the flow and its validity."""
    images = load(folder, "clips")["images"]
    for image, following in zip(images, images[1:], strict=False):
        if image["flow_file"] is None:
            assert following["frame_id"] == 0
            continue
        with np.load(folder / "flow" / image["flow_file"]) as content:
            flow, valid = content["flow"], content["valid"]
        assert flow.shape == (*SIZE, 2) and flow.dtype == np.float32
        assert valid.shape == SIZE and valid.dtype == bool
        names = (image["file_name"], following["file_name"])
        pictures = [read_picture(folder / "clips" / name).astype(np.float32) for name in names]
        ids = [read_ids(folder / "annotations" / "panoptic_clips" / name) for name in names]
        yield pictures, ids, flow, valid


def sample(picture: np.ndarray, flow: np.ndarray, interpolation: int) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    return cv2.remap(picture, columns + flow[..., 0], rows + flow[..., 1], interpolation)


def test_flow_leads_to_the_same_object(folder):
    is_thing = {item["id"]: item["isthing"] for item in load(folder, "clips")["categories"]}
    for _, ids, flow, valid in iterate_flows(folder):
        rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
        columns = np.floor(columns + 0.5 + flow[..., 0].astype(np.float64)).astype(int)
        rows = np.floor(rows + 0.5 + flow[..., 1].astype(np.float64)).astype(int)
        inside = (rows >= 0) & (rows < SIZE[0]) & (columns >= 0) & (columns < SIZE[1])
        assert not (valid & ~inside).any()
        assert 0.8 < valid.mean() < 1
        found = ids[1][np.clip(rows, 0, SIZE[0] - 1), np.clip(columns, 0, SIZE[1] - 1)]
        for number in np.intersect1d(*(np.unique(part) for part in ids)):
            if number and is_thing[number // 4096]:
                mask = ids[0] == number
                assert (found[mask & valid] == number).all()
                hidden = mask & inside & ~valid
                assert (found[hidden] != number).all()


def test_flow_moves_whole_objects_by_their_centers(folder):
    own_motions = []
    for _, ids, flow, valid in iterate_flows(folder):
        for number in np.intersect1d(*(np.unique(part) for part in ids)):
            before, after = (np.argwhere(part == number)[:, ::-1] for part in ids)
            mask = ids[0] == number
            box = [*before.min(0), *(np.array(SIZE[::-1]) - 1 - before.max(0)), *after.min(0)]
            whole = min(box) > 3 and 0 < number < 65536 and (valid[mask].mean() > 0.95)
            if whole and abs(len(before) / len(after) - 1) < 0.03:
                moved = after.mean(0) - before.mean(0)
                assert np.abs(moved - flow[mask].mean(0)).max() < 0.6
                own_motions.append(np.abs(moved - np.median(flow, axis=(0, 1))).max())
    assert len(own_motions) >= 10 and max(own_motions) > 3, "objects move over the background"


def test_flow_explains_the_pictures(folder):
    """The next frame, fetched along the flow, is this frame; a flow off by a pixel fits worse."""
    for pictures, _, flow, valid in iterate_flows(folder):
        errors = []
        for offset in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
            shifted = flow + np.array(offset, np.float32)
            fetched = sample(pictures[1], shifted, cv2.INTER_LINEAR)
            errors.append(np.abs(fetched - pictures[0])[valid].mean())
        still = np.abs(pictures[1] - pictures[0])[valid].mean()
        assert errors[0] < min(errors[1:]) and errors[0] < 0.5 * still and errors[0] < 8


def test_existing_folders_are_respected(tmp_path):
    target = tmp_path / "data"
    few = {"num_train": 1, "num_val": 0, "num_clips": 0, "num_faces": (0, 0)}
    target.mkdir()  # an empty folder may be used
    shapes.make_shapes(target, **few)
    (target / "train" / "000001.png").write_bytes(b"changed")
    shapes.make_shapes(target, **few)  # the same arguments: nothing is written
    assert (target / "train" / "000001.png").read_bytes() == b"changed"
    with pytest.raises(ValueError, match="other arguments.*--force") as error:
        shapes.make_shapes(target, **few, seed=1)
    assert str(target) in str(error.value)
    with pytest.raises(ValueError, match="other arguments"):
        options = replace(shapes.TRAIN_OPTIONS, noise=0.0)
        shapes.make_shapes(target, **few, train_options=options)
    shapes.make_shapes(target, **few, force=True)
    assert (target / "train" / "000001.png").read_bytes() != b"changed"
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "no partial folder is left"
    assert (target / "shapes.json").is_file()


def test_parts_are_drawn_one_by_one(tmp_path):
    few = {"num_train": 2, "num_val": 1, "num_clips": 1, "num_faces": (2, 1), "size": (48, 64)}
    shapes.make_shapes(tmp_path / "all", **few)
    target = tmp_path / "parts"
    shapes.make_shapes(target, **few, only=("scenes",))
    assert {path.name for path in target.iterdir()} == {
        *("train", "val", "annotations", "shapes.json")
    }
    (target / "train/000001.png").write_bytes(b"changed")
    shapes.make_shapes(target, num_faces=(2, 1), size=(48, 64), only=("faces",))
    assert (target / "train/000001.png").read_bytes() == b"changed", "scenes are left as they are"
    shutil.copy(tmp_path / "all/train/000001.png", target / "train")
    with pytest.raises(ValueError, match="other arguments"):
        shapes.make_shapes(target, **few, seed=1, only=("clips",))
    shapes.make_shapes(target, **few)  # what is not yet there: the clips
    assert read_all(target) == read_all(tmp_path / "all")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_part_that_cannot_be_added_leaves_the_others(tmp_path):
    few = {"num_train": 1, "num_val": 0, "num_faces": (1, 0), "size": (48, 64)}
    shapes.make_shapes(tmp_path / "data", **few, only=("scenes",))
    before = read_all(tmp_path / "data")

    def fail() -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        shapes.make_shapes(tmp_path / "data", **few, only=("faces",), progress=fail)
    assert read_all(tmp_path / "data") == before
    with pytest.raises(ValueError, match="there is no 'face', the parts are scenes, faces, clips"):
        shapes.make_shapes(tmp_path / "data", **few, only=("face",))


def read_all(folder: Path) -> dict[str, bytes]:
    """Every file of a folder; the markers as what they say."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    found["shapes.json"] = json.loads(found["shapes.json"])
    return found


def test_foreign_folders_are_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(ValueError, match="not made by make_shapes"):
        shapes.make_shapes(tmp_path / "photos", num_train=1, force=True)
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"


def test_failures_leave_nothing(tmp_path):
    def fail() -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        shapes.make_shapes(tmp_path / "data", num_train=1, progress=fail)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments", [{"num_train": -1}, {"size": (144,)}, {"size": (8, 192)}, {"seed": -1}]
)
def test_bad_arguments_are_named(tmp_path, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        shapes.make_shapes(tmp_path / "data", **arguments)


def test_options_act():
    quiet = shapes.SceneOptions(
        object_count=(3, 3),
        clutter_count=(0, 0),
        crowd_every=0,
        empty_every=0,
        minimum_area=1,
        minimum_visible=0,
    )
    for index in range(8):
        scene = shapes.draw_scene(quiet, SIZE, seed=2, split="train", index=index)
        assert len(scene.instances) <= 3
        covered = sum(instance.mask.astype(int) for instance in scene.instances)
        assert ((covered + (scene.stuff > 0)) == 1).all(), "without clutter nothing is void"
    many = replace(quiet, crowd_every=1, empty_every=2)
    scenes = [shapes.draw_scene(many, SIZE, seed=2, split="val", index=index) for index in range(4)]
    crowds = [sum(instance.is_crowd for instance in scene.instances) for scene in scenes]
    assert crowds == [1, 0, 1, 0] and not scenes[1].instances


@pytest.mark.parametrize("size", [(64, 64), (240, 200)])
def test_sizes_scale_with_the_picture(size):
    options = replace(shapes.TRAIN_OPTIONS, object_count=(8, 8), overlap_probability=0.0)
    areas = []
    for index in range(4):
        scene = shapes.draw_scene(options, size, seed=0, split="train", index=index)
        assert scene.picture.shape == (*size, 3) and scene.picture.dtype == np.uint8
        areas += [instance.mask.sum() / size[0] ** 2 for instance in scene.instances]
    assert 0.02 < np.mean(areas) < 0.2


def test_command_writes_and_reports(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    words = [
        "--num-train=2",
        "--num-val=1",
        "--num-clips=0",
        "--num-faces",
        "0",
        "0",
        "--size",
        "64",
        "96",
        "--seed=5",
    ]
    args = parser.parse_args([str(tmp_path / "data"), *words])
    assert command.run(args) == 0
    assert read_picture(tmp_path / "data" / "train" / "000002.png").shape == (64, 96, 3)
    assert "3/3" in capsys.readouterr().err
    marker = json.loads((tmp_path / "data" / "shapes.json").read_text())
    assert marker["arguments"]["seed"] == 5 and marker["version"] >= 1
    assert command.run(parser.parse_args([str(tmp_path / "data"), *words, "--force"])) == 0


def test_import_needs_no_host_and_no_torch():
    code = (
        "import sys, metaheads.datasets.shapes as shapes; "
        "names = {'torch', 'detectron2', 'mmdet', 'mmengine', 'mmcv', 'tqdm'}; "
        "sys.exit(str(names & set(sys.modules)) if names & set(sys.modules) else 0)"
    )
    plugins = str(Path(shapes.__file__).parents[3])
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {plugins!r}); {code}"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
