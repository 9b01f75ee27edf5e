"""Every fault that stops training is found before, and named; what is only odd is reported."""

from __future__ import annotations

import json
import time

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from metaheads.datasets.check import DatasetError, check_coco, decode_counts

CLASSES = ("cat", "dog")


def polygon(x1, y1, x2, y2):
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def make_annotation(number, image_id, category_id, box=(2, 3, 10, 8), **more):
    x, y, width, height = box
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(box),
        "area": width * height,
        "iscrowd": 0,
        "segmentation": polygon(x, y, x + width, y + height),
        **more,
    }


class CocoSet:
    """Three images with four objects on disk; tests break it."""

    def __init__(self, folder):
        self.folder, self.file = folder / "images", folder / "train.json"
        self.folder.mkdir()
        self.data = {
            "images": [
                {"id": number, "file_name": f"{number}.jpg", "height": 24, "width": 32}
                for number in (1, 2, 3)
            ],
            "annotations": [
                make_annotation(1, 1, 7),
                make_annotation(2, 1, 9),
                make_annotation(3, 2, 9),
                make_annotation(4, 3, 9),
            ],
            "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
        }
        noise = np.random.RandomState(0).randint(0, 256, (24, 32, 3)).astype(np.uint8)
        for number in (1, 2, 3):
            cv2.imwrite(str(self.folder / f"{number}.jpg"), noise)

    def check(self, **options):
        self.file.write_text(json.dumps(self.data))
        return check_coco(self.file, self.folder, **options)

    def fault(self, **options):
        with pytest.raises(DatasetError) as caught:
            self.check(**options)
        assert str(self.file) in str(caught.value)
        return str(caught.value)


@pytest.fixture
def coco(tmp_path):
    return CocoSet(tmp_path)


def test_a_sound_set_passes(coco):
    report = coco.check(class_names=CLASSES, num_classes=2)
    assert report.class_counts == {"cat": 1, "dog": 3}
    assert (report.num_images, report.num_objects, report.num_verified) == (3, 4, 3)
    assert not report.warnings
    assert "3 images, 4 objects of 2 classes (of 2), 0 crowds" in report.summary()
    assert "dog 3, cat 1" in report.summary()


# The file


def test_missing_file_and_folder(coco):
    with pytest.raises(DatasetError, match="no-such.json: no such file; correct the path"):
        check_coco(coco.folder / "no-such.json", coco.folder)
    coco.check()
    with pytest.raises(DatasetError, match="image folder .*nowhere: no such folder"):
        check_coco(coco.file, coco.folder / "nowhere")


def test_broken_json_is_located(coco):
    coco.file.write_text('{"images": [],\n "annotations": [}')
    with pytest.raises(DatasetError, match="train.json: broken JSON at line 2, column 18"):
        check_coco(coco.file, coco.folder)
    coco.file.write_bytes(b"\xff\xfe\xfa\x00\xd8")
    with pytest.raises(DatasetError, match="no text"):
        check_coco(coco.file, coco.folder)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_missing_key(coco, key):
    del coco.data[key]
    assert f"no key {key}" in coco.fault()


def test_json_of_another_kind(coco):
    coco.data = [1, 2]
    assert "no key images, annotations, categories" in coco.fault()
    coco.data = {"images": 3, "annotations": [], "categories": []}
    assert '"images" is no list' in coco.fault()
    coco.data = {"images": [], "annotations": [], "categories": []}
    assert '"images" is empty' in coco.fault()


@pytest.mark.parametrize(
    ("key", "name"), [("images", "height"), ("annotations", "area"), ("categories", "name")]
)
def test_missing_field(coco, key, name):
    del coco.data[key][1][name]
    assert f'entry 1 of "{key}" (from 0) without "{name}"' in coco.fault()


# Ids and classes


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_duplicate_ids(coco, key):
    coco.data[key][1]["id"] = coco.data[key][0]["id"]
    assert f'used more than once in "{key}": {coco.data[key][0]["id"]}' in coco.fault()


@pytest.mark.parametrize("name", ["image_id", "category_id"])
def test_unknown_ids(coco, name):
    coco.data["annotations"][2][name] = 55
    assert f"3 ({name} 55)" in coco.fault()


def test_only_five_are_named(coco):
    for number in range(100, 107):
        coco.data["annotations"].append(make_annotation(number, 66, 7))
    message = coco.fault()
    assert "104 (image_id 66) and 2 more" in message and "105" not in message


def test_class_names_differ(coco):
    message = coco.fault(class_names=("cat", "Dogs"), num_classes=2)
    assert "no category: 'Dogs' (did you mean 'dog'?)" in message
    assert "categories with objects that are no class of the config: 'dog'" in message
    assert "another order" in coco.fault(class_names=("dog", "cat"))
    assert "'dog'" in coco.fault(class_names=("cat",))
    coco.data["categories"].append({"id": 11, "name": "background"})
    assert coco.check(class_names=CLASSES, num_classes=2).num_objects == 4  # unused is harmless


def test_num_classes_differs(coco):
    assert 'num_classes=80, but "categories" of the file are 2: set 2' in coco.fault(num_classes=80)
    assert "num_classes=3, but the class names are 2" in coco.fault(
        class_names=CLASSES, num_classes=3
    )


# Images


def test_missing_images(coco):
    (coco.folder / "2.jpg").unlink()
    coco.data["images"][0]["file_name"] = "sub/1.jpg"
    message = coco.fault()
    assert f"not in {coco.folder}: sub/1.jpg, 2.jpg;" in message


def test_images_in_subfolders(coco):
    (coco.folder / "sub").mkdir()
    (coco.folder / "1.jpg").rename(coco.folder / "sub" / "1.jpg")
    coco.data["images"][0]["file_name"] = "sub/1.jpg"
    assert coco.check().num_verified == 3


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("left", [0.0, 0.02, 0.7])
def test_broken_images(coco, suffix, left):
    path = coco.folder / f"2.{suffix}"
    noise = np.random.RandomState(0).randint(0, 256, (240, 320, 3)).astype(np.uint8)
    cv2.imwrite(str(path), noise)
    coco.data["images"][1].update(file_name=path.name, height=240, width=320)
    assert coco.check().num_verified == 3
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    assert f"cannot be decoded: {path}" in coco.fault()
    assert coco.check(verify_images=0).num_verified == 0
    assert coco.check(verify_images=1).num_verified == 1  # the first


def test_size_differs(coco):
    coco.data["images"][2].update(height=32, width=24)
    assert f"{coco.folder / '3.jpg'} ((24, 32), in the file (32, 24))" in coco.fault()
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side; the hosts turn it
    Image.new("RGB", (32, 24)).save(coco.folder / "3.jpg", exif=exif)
    assert coco.check().num_verified == 3


# Masks and boxes


def test_missing_segmentation(coco):
    del coco.data["annotations"][0]["segmentation"]
    coco.data["annotations"][2]["segmentation"] = []
    assert "annotations without segmentation: 1, 3;" in coco.fault()
    assert coco.check(use_masks=False).num_objects == 4


@pytest.mark.parametrize(
    ("segmentation", "fault"),
    [
        ([[1, 2, 3, 4, 5]], "odd number of coordinates"),
        ([[1, 2, 3, 4]], "no polygon has three points"),
        ([[1, 2, 3, 4, "5", 6]], "finite numbers"),
        ([[1, 2, 3, 4, float("nan"), 6]], "finite numbers"),
        ([1, 2, 3, 4, 5, 6], "finite numbers"),
        ({"counts": "abc"}, "neither polygons nor an RLE"),
        ({"size": [32, 24], "counts": [768]}, "RLE of size [32, 24] in an image of [24, 32]"),
        ({"size": [24, 32], "counts": [700]}, "do not add up to 24 x 32"),
        ({"size": [24, 32], "counts": [769, -1]}, "do not add up"),
        ({"size": [24, 32], "counts": "garbage"}, "do not add up"),
        ({"size": [24, 32], "counts": None}, "string or a list"),
        ("garbage", "neither polygons nor an RLE"),
    ],
)
def test_malformed_segmentation(coco, segmentation, fault):
    coco.data["annotations"][1]["segmentation"] = segmentation
    message = coco.fault()
    assert "malformed segmentation: 2 (" in message and fault in message


def test_missing_crowd_flag(coco):
    del coco.data["annotations"][2]["iscrowd"]
    with pytest.raises(DatasetError, match='without "iscrowd": 3; add'):
        coco.check()


def test_an_object_without_area_needs_no_polygon_with_area(coco):
    coco.data["annotations"][1].update(bbox=[5, 5, 0, 0], area=0, segmentation=[[5, 5, 5, 5]])
    assert any("without area: annotation 2" in warning for warning in coco.check().warnings)


def test_rle_of_every_kind_passes(coco):
    mask = np.zeros((24, 32), np.uint8, order="F")
    mask[3:9, 4:11] = 1
    mask[20:, 20] = 1
    packed = rle.encode(mask)
    crowd = {"size": [24, 32], "counts": packed["counts"].decode()}
    coco.data["annotations"][1].update(segmentation=crowd, iscrowd=1)
    coco.data["annotations"][2]["segmentation"] = {"size": [24, 32], "counts": [700, 8, 60]}
    assert coco.check().num_crowds == 1


def test_decode_counts_is_pycocotools():
    rng = np.random.RandomState(0)
    for share in (0.0, 0.01, 0.5, 0.99, 1.0):
        mask = np.asfortranarray(rng.rand(70, 90) < share).astype(np.uint8)
        counts = decode_counts(rle.encode(mask)["counts"].decode())
        bits = np.repeat(np.arange(len(counts)) % 2, counts)
        np.testing.assert_array_equal(bits, mask.ravel(order="F"))


@pytest.mark.parametrize(
    "box", [[1, 2, 3], [1, 2, 3, float("inf")], [1, 2, 3, "4"], [1, 2, 3, None]]
)
def test_malformed_box(coco, box):
    coco.data["annotations"][1]["bbox"] = box
    assert "not four finite numbers (x, y, width, height): 2 (" in coco.fault()


@pytest.fixture
def mesh_file(tmp_path):
    content = {"dimensions": 2, "num_vertices": 3, "triangles": [[0, 1, 2]], "flip": [1, 0, 2]}
    (tmp_path / "mesh.json").write_text(json.dumps(content))
    return tmp_path / "mesh.json"


def test_sound_vertices_pass(coco, mesh_file):
    coco.data["annotations"][0]["vertices"] = [1, 2, 3.5, 4, 5, 6]
    coco.data["annotations"][1]["vertices"] = None
    assert not coco.check(mesh_file=mesh_file).warnings
    (note,) = coco.check().warnings
    assert note == "objects with vertices, unused and unchecked without a mesh file: 1"


@pytest.mark.parametrize(
    ("vertices", "named"),
    [
        ([1, 2, 3, 4, 5], "3 (5 numbers)"),
        ([], "3 (0 numbers)"),
        ([[1, 2], [3, 4], [5, 6]], "3 (no list of finite numbers)"),
        ([1, 2, 3, 4, 5, float("nan")], "3 (no list of finite numbers)"),
        ([1, 2, 3, 4, 5, float("inf")], "3 (no list of finite numbers)"),
        ("none", "3 (no list of finite numbers)"),
    ],
)
def test_malformed_vertices(coco, mesh_file, vertices, named):
    coco.data["annotations"][2]["vertices"] = vertices
    fault = coco.fault(mesh_file=mesh_file)
    assert "without exactly 6 finite numbers in vertices, 3 vertices in 2 dimensions" in fault
    assert named in fault


def test_an_unfit_mesh_file(coco, mesh_file):
    coco.check()
    with pytest.raises(DatasetError, match=r"mesh file .*nowhere.json: no such file; correct"):
        coco.check(mesh_file=mesh_file.with_name("nowhere.json"))
    mesh_file.write_text('{"dimensions": 2}')
    with pytest.raises(DatasetError, match=r"mesh.json lacks num_vertices"):
        coco.check(mesh_file=mesh_file)


def test_what_is_odd_is_reported_and_passes(coco):
    coco.data["annotations"] = [
        make_annotation(1, 1, 9, (5, 5, 0, 7)),
        make_annotation(2, 1, 9, (5, 5, 1, 7)),
        make_annotation(3, 1, 9, (40, 5, 5, 5)),
        make_annotation(4, 1, 9, (30, 5, 5, 5)),
        make_annotation(5, 2, 9, iscrowd=1),
        make_annotation(6, 1, 9, segmentation=[*polygon(1, 1, 5, 5), [1, 2, 3, 4]]),
    ]
    report = coco.check()
    notes = "\n".join(report.warnings)
    assert "boxes without area: annotation 1" in notes
    assert "at most one pixel's width or height: annotation 2" in notes
    assert "outside of their image: annotation 3" in notes
    assert "reach out of their image: annotation 4" in notes
    assert "less than three points, which are left out: annotation 6" in notes
    assert "images without objects: 1" in notes and "images with crowds only: 1" in notes
    assert "classes without objects: cat" in notes
    assert len(report.warnings) == 8
    assert report.num_crowds == 1 and "1 crowds (16.7 %)" in report.summary()


def test_odd_categories_and_no_objects(coco):
    coco.data["categories"] = [{"id": 9, "name": "dog"}, {"id": 7, "name": "dog"}]
    notes = "\n".join(coco.check().warnings)
    assert "not in the order of their ids" in notes and "more than one category: dog" in notes
    coco.data["annotations"] = []
    assert "no objects at all" in coco.check().warnings


def test_all_faults_come_at_once(coco):
    (coco.folder / "2.jpg").unlink()
    del coco.data["annotations"][0]["segmentation"]
    message = coco.fault(num_classes=5)
    assert message.count("\n") == 3 and "num_classes=5" in message and "2.jpg" in message


def test_ten_thousand_annotations_take_seconds(coco):
    outline = np.random.RandomState(0).uniform(0, 24, 60).tolist()
    coco.data["annotations"] = [
        make_annotation(number, 1 + number % 3, 7, segmentation=[outline])
        for number in range(10_000)
    ]
    coco.file.write_text(json.dumps(coco.data))
    start = time.perf_counter()
    check_coco(coco.file, coco.folder)
    assert time.perf_counter() - start < 5  # 0.4 s on a quiet machine
