"""COCO panoptic files as records: what the file says is what arrives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metaheads.datasets.check import DatasetError, check_all
from metaheads.datasets.panoptic import (
    SegmentInfo,
    describe_segments,
    find_labels,
    read_file,
    read_ids,
    read_record,
    to_colors,
)
from metaheads.datasets.transforms import Record, TrainTransform, resize_record
from metaheads.datasets.views import View, Window, nearest_cells
from metaheads.datasets.warps import CropTransform, WarpTransform
from metaheads.structures import Segment

CATEGORIES = [
    {"id": 9, "name": "sky", "isthing": 0},
    {"id": 7, "name": "ball", "isthing": 1},
    {"id": 3, "name": "tree", "isthing": 1},
    {"id": 2, "name": "grass", "isthing": 0},
]
SIZE = (6, 8)
# id -> (category, crowd, rows, columns); the rest is void
SEGMENTS = {
    70000: (9, 0, (0, 3), (0, 8)),
    300: (2, 0, (3, 6), (0, 6)),
    5: (7, 0, (2, 5), (1, 3)),
    256: (3, 1, (0, 2), (6, 8)),
    65536: (3, 0, (5, 6), (4, 5)),
    12: (2, 1, (4, 5), (6, 8)),
}


def paint() -> np.ndarray:
    ids = np.zeros(SIZE, np.int64)
    for number, (_, _, rows, columns) in SEGMENTS.items():
        ids[slice(*rows), slice(*columns)] = number
    return ids


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with panoptic.json, pngs/ and images/."""
    for name in ("pngs", "images"):
        (tmp_path / name).mkdir()
    Image.fromarray(to_colors(paint())).save(tmp_path / "pngs/a.png")
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "images/a.jpg")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1]}],
        "categories": CATEGORIES,
        "annotations": [
            {
                "image_id": 1,
                "file_name": "a.png",
                "segments_info": [
                    {
                        "id": number,
                        "category_id": category,
                        "iscrowd": crowd,
                        "area": int((paint() == number).sum()),
                    }
                    for number, (category, crowd, *_) in SEGMENTS.items()
                ],
            }
        ],
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    return tmp_path


def change(data: Path, function) -> None:
    content = json.loads((data / "panoptic.json").read_text())
    function(content)
    (data / "panoptic.json").write_text(json.dumps(content))


def load(data: Path, *classes) -> Record:
    entry = read_file(data / "panoptic.json", *classes).entries[0]
    return read_record(np.zeros((*SIZE, 3), np.uint8), data / "pngs" / entry.png, entry.segments)


def source(data: Path, **others) -> dict:
    folders = {"png_folder": data / "pngs", "image_folder": data / "images"}
    return {"annotation_file": data / "panoptic.json", **folders, **others}


def test_labels_follow_the_file_or_the_given_names():
    space = find_labels(CATEGORIES)
    assert space.classes == ("ball", "tree", "sky", "grass")
    assert space.labels == {7: 0, 3: 1, 9: 2, 2: 3}
    space = find_labels(CATEGORIES, ["tree"], ["grass", "sky"])
    assert space.labels == {3: 0, 2: 1, 9: 2}


def test_objects_and_map_are_those_of_the_file(data):
    record = load(data)
    assert record.labels.tolist() == [0, 1, 1]
    assert record.is_crowd.tolist() == [False, True, False]
    assert record.boxes.tolist() == [[1, 2, 3, 5], [6, 0, 8, 2], [4, 5, 5, 6]]
    assert record.boxes.dtype == np.float32
    ids = paint()
    for mask, number in zip(record.masks, (5, 256, 65536), strict=True):
        assert np.array_equal(mask, ids == number)
    table = {0: 255, 70000: 2, 300: 3, 5: 0, 256: 255, 65536: 1, 12: 255}
    assert np.array_equal(record.semantic, np.vectorize(table.get)(ids))
    assert record.semantic.dtype == np.uint8


def test_left_out_classes_are_unknown(data):
    record = load(data, ["ball"], ["grass"])
    assert record.labels.tolist() == [0]
    assert sorted(np.unique(record.semantic)) == [0, 1, 255]


def test_colours_and_ids_round_trip(tmp_path):
    ids = np.array([[0, 255, 256], [65535, 65536, 2**24 - 1]])
    Image.fromarray(to_colors(ids)).save(tmp_path / "a.png")
    assert np.array_equal(read_ids(tmp_path / "a.png"), ids)


def test_an_image_without_things_has_empty_objects(data):
    Image.fromarray(to_colors(np.full(SIZE, 4))).save(data / "pngs/a.png")
    image = np.zeros((*SIZE, 3), np.uint8)
    record = read_record(image, data / "pngs/a.png", [SegmentInfo(4, 2, False, False)])
    assert record.boxes.shape == (0, 4) and record.masks.shape == (0, *SIZE)
    assert (record.semantic == 2).all()


def test_an_image_may_have_no_segments(data):
    image, png = np.zeros((*SIZE, 3), np.uint8), data / "pngs/a.png"
    with pytest.raises(ValueError, match="ids without a segment in the JSON: 5, 12, 256, 300"):
        read_record(image, png, [])
    _save_ids(data, np.zeros(SIZE, int))
    record = read_record(image, png, [])
    assert len(record) == 0 and (record.semantic == 255).all()


def _save_ids(data: Path, ids: np.ndarray) -> None:
    Image.fromarray(to_colors(ids)).save(data / "pngs/a.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "pngs/a.png").unlink(), "a.png: no such PNG; correct the folder"),
        (lambda d: (d / "pngs/a.png").write_bytes(b"\x89PNG"), "a.png: broken, replace it"),
        (lambda d: _save_ids(d, paint()[:5]), r"a.png: 5 x 8 pixels .* 6 x 8; save it"),
        (
            lambda d: _save_ids(d, np.where(paint() == 0, 77, paint())),
            "a.png: ids without a segment in the JSON: 77; add the segments",
        ),
        (
            lambda d: _save_ids(d, np.where(paint() == 5, 300, paint())),
            "a.png: segments of the JSON without a pixel: 5; remove them",
        ),
        (
            lambda d: Image.fromarray(paint().astype(np.uint8)).save(d / "pngs/a.png"),
            "a.png: of kind 'L', but ids are colours",
        ),
        (
            lambda d: change(d, lambda c: c["categories"].pop()),
            "panoptic.json: segment 300 of a.png has category 2, which is not in categories",
        ),
        (
            lambda d: change(d, lambda c: c["annotations"][0]["segments_info"][0].update(id=5)),
            "a.png: 5 are ids of two segments",
        ),
        (
            lambda d: change(d, lambda c: c["images"].clear()),
            "panoptic.json: a.png belongs to image 1, which is not in images",
        ),
        (lambda d: change(d, lambda c: c.pop("categories")), "no COCO panoptic file"),
    ],
)
def test_bad_input_is_named(data, spoil, message):
    spoil(data)
    with pytest.raises(ValueError, match=message):
        load(data)
    with pytest.raises(DatasetError, match=r"a\.png|no COCO panoptic file|images"):
        list(check_all([source(data)]))


def test_unknown_and_repeated_class_names_are_refused(data):
    with pytest.raises(ValueError, match="has no 'trees'; did you mean 'tree'"):
        load(data, ["trees"], None)
    with pytest.raises(ValueError, match="thing_classes .* tree more than once"):
        load(data, ["tree", "tree"], None)


def test_a_sound_file_passes_the_check(data):
    (report,) = check_all([source(data, num_things=2, num_stuff=2)])
    assert (report.num_images, report.num_objects, report.num_crowds) == (1, 6, 2)
    assert report.class_counts == {"ball": 1, "tree": 2, "sky": 1, "grass": 2}
    assert "6 segments of 4 classes" in report.summary()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda d: Image.fromarray(to_colors(paint())[..., ::-1]).save(d / "pngs/a.png"),
            "order B, G, R; save them as R, G, B: a.png",
        ),
        (
            lambda d: change(d, lambda c: c["annotations"][0]["segments_info"][0].update(area=1)),
            "another area than their pixels; count anew: a.png 70000",
        ),
        (lambda d: (d / "images/a.jpg").unlink(), "images that are not in"),
        (lambda d: (d / "pngs").rename(d / "elsewhere"), "no folder .*pngs"),
    ],
)
def test_what_the_check_finds_before_a_training(data, spoil, message):
    spoil(data)
    with pytest.raises(DatasetError, match=message):
        list(check_all([source(data)]))


def test_counts_of_the_model_are_compared(data):
    with pytest.raises(DatasetError, match="2 things, the config's model has 80"):
        list(check_all([source(data, num_things=80)]))


def test_panoptic_files_must_number_classes_alike(data, tmp_path_factory):
    content = json.loads((data / "panoptic.json").read_text())
    content["categories"].reverse()
    other = data / "other.json"
    other.write_text(json.dumps(content))
    sources = [source(data), {**source(data), "annotation_file": other}]
    with pytest.raises(DatasetError, match="number the classes otherwise"):
        list(check_all(sources))


def test_nearest_cells_by_hand():
    assert nearest_cells(4, 2).tolist() == [1, 3]
    assert nearest_cells(2, 4).tolist() == [0, 0, 1, 1]
    assert nearest_cells(3, 5).tolist() == [0, 0, 1, 2, 2]
    assert nearest_cells(5, 5).tolist() == [0, 1, 2, 3, 4]


def _expected(labels: np.ndarray, view: View) -> np.ndarray:
    """By the definition, on a canvas as large as the window."""
    height, width = view.window.size
    canvas = np.full((height, width), 255, np.uint8)
    for y in range(height):
        for x in range(width):
            row, column = y + view.window.top, x + view.window.left
            if 0 <= row < labels.shape[0] and 0 <= column < labels.shape[1]:
                canvas[y, x] = labels[row, column]
    canvas = canvas[:, ::-1] if view.is_mirrored else canvas
    canvas = np.rot90(canvas, view.turns)
    rows, columns = (
        [int((i + 0.5) * cells / results) for i in range(results)]
        for cells, results in zip(canvas.shape, view.result_size, strict=True)
    )
    return canvas[np.ix_(rows, columns)]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize(
    "window", [(0, 0, 8, 6), (2, 1, 7, 5), (-5, -2, 12, 9), (-3, 2, 4, 11), (20, 20, 25, 26)]
)
@pytest.mark.parametrize("size", [None, (5, 13), (12, 3)])
def test_the_map_follows_the_view(window, is_mirrored, turns, size):
    labels = np.arange(48, dtype=np.uint8).reshape(SIZE)
    view = View(Window(*window), size=size, is_mirrored=is_mirrored, turns=turns)
    assert np.array_equal(view.semantic(labels), _expected(labels, view))


def test_map_and_masks_stay_together(data):
    """Doubled in size, mirrored, turned and on a larger canvas, as the masks of the same pixels."""
    record = load(data)
    masks = np.stack([record.semantic == label for label in range(4)])
    record = Record(record.image, *_whole(4), masks=masks, semantic=record.semantic)
    transform = TrainTransform(flip=0.5, flip_vertical=0.5, rotate90=0.5, expand=3, crop=True)
    rng = np.random.RandomState(0)
    for _ in range(50):
        found = transform(record, rng)
        for label, mask in zip(found.labels, found.masks, strict=True):
            assert np.array_equal(mask, found.semantic == label)


def _whole(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    boxes = np.tile(np.float32([0, 0, SIZE[1], SIZE[0]]), (count, 1))
    return boxes, np.arange(count), np.zeros(count, bool)


def test_select_keeps_and_resize_scales_the_map(data):
    record = load(data)
    assert record.select(record.is_crowd).semantic is record.semantic
    double = resize_record(record, (12, 16)).semantic
    assert np.array_equal(double, record.semantic.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("transform", [WarpTransform(scales=()), CropTransform(scales=())])
def test_warps_drop_the_map(data, transform):
    assert transform(load(data)).semantic is None


def test_embedded_data_are_read_as_they_are(tmp_path):
    """Against the plainest reading: one comparison of the whole image per segment."""
    from metaheads.datasets.shapes import make_shapes

    make_shapes(tmp_path, num_train=6, num_val=2, num_clips=0, num_faces=(0, 0), seed=5)
    file = tmp_path / "annotations/panoptic_train.json"
    content = json.loads(file.read_text())
    ids_of = {c["id"]: c for c in content["categories"]}
    names = [c["name"] for kind in (1, 0) for c in content["categories"] if c["isthing"] == kind]
    for entry, annotation in zip(read_file(file).entries, content["annotations"], strict=True):
        png = tmp_path / "annotations/panoptic_train" / entry.png
        ids = np.asarray(Image.open(png)).astype(int) @ (1, 256, 65536)
        record = read_record(np.zeros((*ids.shape, 3), np.uint8), png, entry.segments)
        semantic, boxes = np.full(ids.shape, 255), []
        for segment in annotation["segments_info"]:
            category = ids_of[segment["category_id"]]
            if not segment["iscrowd"]:
                semantic[ids == segment["id"]] = names.index(category["name"])
            if category["isthing"]:
                x, y, width, height = segment["bbox"]
                boxes.append([x, y, x + width, y + height])
        assert np.array_equal(record.semantic, semantic)
        assert record.boxes.tolist() == boxes


def test_predictions_are_described_as_a_file_wants_it():
    ids = np.zeros((6, 8), np.int32)
    ids[1:5, 2:4], ids[4:6, 6:8], ids[0] = 70000, 4, 9
    segments = [Segment(70000, 2, True, 0.5), Segment(9, 5, False), Segment(4, 0, True)]
    found = describe_segments(ids, segments)
    assert [each["id"] for each in found] == [4, 9, 70000]
    assert [each["category_id"] for each in found] == [0, 5, 2]
    assert [each["area"] for each in found] == [4, 8, 8]
    assert [each["bbox"] for each in found] == [[6, 4, 2, 2], [0, 0, 8, 1], [2, 1, 2, 4]]
    assert [each.get("score") for each in found] == [None, None, 0.5]
    assert describe_segments(np.zeros((2, 2), np.int32), []) == []
