"""Small real data for the tests in the hosts."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle
from tests.hosts.installed import BOTH, HOSTS

from metaheads.datasets.shapes import make_shapes

SIZES = [(64, 64), (48, 80), (80, 56), (64, 64)]
CATEGORIES = [{"id": 3, "name": "square"}, {"id": 7, "name": "disc"}]


@pytest.fixture(scope="session")
def shapes_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for $METAHEADS_DATA with a small embedded data set (also crowds, empty images)."""
    root = tmp_path_factory.mktemp("data")
    make_shapes(root / "shapes", num_train=24, num_val=6, num_clips=0, num_faces=(12, 4), seed=3)
    return root


@pytest.fixture(autouse=True)
def _only_installed_hosts(request: pytest.FixtureRequest) -> None:
    host = getattr(request.node, "callspec", None) and request.node.callspec.params.get("host")
    if host in BOTH and host not in HOSTS:
        pytest.skip(f"{host} is not installed")


@pytest.fixture(autouse=True)
def _data_root(shapes_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAHEADS_DATA", str(shapes_data))


@pytest.fixture(scope="session")
def tiny_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with instances.json and images/: four images, category ids with gaps.

    Image 1 has polygons, image 2 an RLE, an object of one pixel and one without area, image 3 only
    a crowd, image 4 nothing.
    """
    folder = tmp_path_factory.mktemp("coco")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number, (height, width) in enumerate(SIZES, 1):
        pixels = rng.integers(0, 60, (height, width, 3), np.uint8)
        for x in (8, 30) if number < 3 else ():
            pixels[10:30, x : x + 16] = (250, 200, 100 * (x > 8))
        name = f"{number}.png"
        cv2.imwrite(str(folder / "images" / name), pixels)
        images.append({"id": number, "file_name": name, "height": height, "width": width})
    square = [[8.0, 10.0, 24.0, 10.0, 24.0, 30.0, 8.0, 30.0]]
    annotations += [
        _annotation(1, 3, [8, 10, 16, 20], square),
        _annotation(1, 7, [30, 10, 16, 20], [[30.0, 10.0, 46.0, 10.0, 46.0, 30.0, 30.0, 30.0]]),
        _annotation(2, 3, [8, 10, 16, 20], _encode((48, 80), (10, 30), (8, 24))),
        _annotation(2, 7, [40, 20, 1, 1], _encode((48, 80), (20, 21), (40, 41))),
        _annotation(2, 7, [50, 20, 0, 0], _encode((48, 80), (0, 0), (0, 0))),
        _annotation(3, 3, [5, 5, 40, 40], _encode((80, 56), (5, 45), (5, 45)), crowd=1),
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


def _annotation(image: int, category: int, box: list[float], mask, crowd: int = 0) -> dict:
    return {
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": crowd,
        "segmentation": mask,
    }


def _encode(size: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]) -> dict:
    mask = np.zeros(size, np.uint8, order="F")
    mask[slice(*rows), slice(*columns)] = 1
    encoded = rle.encode(mask)
    return {"size": list(size), "counts": encoded["counts"].decode()}
