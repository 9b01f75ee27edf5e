from __future__ import annotations

import numpy as np
import pytest
import torch

from metaheads.datasets.transforms import Record
from metaheads.datasets.warps import (
    TestView,
    Warp,
    WarpTransform,
    change_colors,
    fit,
    keep_resolution,
    warp_record,
)

PAIRS = ((0, 1),)


def make_record(height: int = 60, width: int = 100) -> Record:
    """A white square on black, its box, and keypoints at its left and right edge."""
    image = np.zeros((height, width, 3), np.uint8)
    image[20:40, 30:60] = 255
    return Record(
        image=image,
        boxes=np.array([[30, 20, 60, 40]], np.float32),
        labels=np.array([0]),
        is_crowd=np.array([False]),
        keypoints=np.array([[[30, 30, 2], [59, 30, 2], [5, 5, 0]]], np.float32),
    )


def box_of(image: np.ndarray) -> list[int]:
    """x1 y1 x2 y2 of what is bright."""
    bright = image[..., 0] > 127
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize("size", [(60, 100), (64, 64), (1, 31)])
def test_kept_resolution_is_surrounded_by_black(size):
    image = np.full((*size, 3), 200, np.uint8)
    warp = keep_resolution(size, 32)
    assert all(side % 32 == 0 and side > old for side, old in zip(warp.size, size, strict=True))
    view = warp.pixels(image)
    assert (view == 200).sum() == image.size and (view == 0).sum() == view.size - image.size


@pytest.mark.parametrize("size", [(96, 96), (64, 128), (128, 64)])
def test_boxes_follow_the_pixels(size):
    record = make_record()
    warped = warp_record(record, fit((60, 100), size))
    np.testing.assert_allclose(warped.boxes[0], box_of(warped.image), atol=1.5)
    assert warped.image.shape == (*size, 3) and warped.image.dtype == np.float32


def test_a_view_and_its_geometry_are_inverse():
    warp = Warp((37.0, 21.0), 80.0, (64, 96))
    points = np.array([[3.0, 5.0], [70.0, 44.0]], np.float32)
    back = warp.geometry((60, 100)).points_to_original(torch.from_numpy(warp.points(points)))
    np.testing.assert_allclose(back.numpy(), points, atol=1e-4)


def test_the_mirror_swaps_keypoints():
    transform = WarpTransform(
        size=(64, 128), scales=(), flip=1.0, jitter=0, lighting=0, keypoint_flip_pairs=PAIRS
    )
    record = transform(make_record())
    np.testing.assert_allclose(record.boxes[0], box_of(record.image), atol=2.5)
    left, right = record.keypoints[0, :2, 0]
    assert left < right, "left and right change their names"
    assert record.keypoints[0, 2].tolist() == [0, 0, 0], "absent ones stay absent"


def test_random_views_show_the_objects_where_their_boxes_are():
    transform = WarpTransform(size=(96, 128), jitter=0, lighting=0)
    rng = np.random.RandomState(0)
    seen = 0
    for _ in range(30):
        record = transform(make_record(120, 160), rng)
        box = record.boxes[0]
        if box.min() > 2 and box[2] < 126 and box[3] < 94:
            seen += 1
            np.testing.assert_allclose(box, box_of(record.image), atol=2.5)
    assert seen > 5


def test_colours_change_and_the_order_of_channels_does_not_matter():
    image = np.random.default_rng(0).uniform(0, 255, (8, 9, 3)).astype(np.float32)
    bgr = change_colors(image, 0.4, 0.1, "bgr", np.random.RandomState(3))
    rgb = change_colors(image[..., ::-1].copy(), 0.4, 0.1, "rgb", np.random.RandomState(3))
    np.testing.assert_allclose(bgr, rgb[..., ::-1], atol=1e-2)
    assert np.abs(bgr - image).max() > 1
    same = change_colors(image, 0.0, 0.0, "bgr", np.random.RandomState(3))
    np.testing.assert_allclose(same, image, atol=1e-3)


def test_test_views():
    image = make_record().image
    pixels, geometry = TestView(kind="fit", size=(64, 128))(image)
    box = torch.tensor([box_of(pixels)], dtype=torch.float32)
    back = geometry.boxes_to_original(box)[0]
    np.testing.assert_allclose(back.numpy(), [30, 20, 60, 40], atol=1.0)
    assert pixels.dtype == np.float32 and geometry.input_size == (64, 128)
    halved = geometry.of_resized((30, 50)).boxes_to_original(box)[0]
    np.testing.assert_allclose(halved.numpy(), back.numpy() / 2, atol=1e-4)
    for options, message in (({"kind": "crop"}, "kind"), ({"multiple": 24}, "power of two")):
        with pytest.raises(ValueError, match=message):
            TestView(**options)


def test_bad_options():
    for options in ({"size": (0, 5)}, {"flip": 1.5}, {"color_order": "hsv"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            WarpTransform(**options)
