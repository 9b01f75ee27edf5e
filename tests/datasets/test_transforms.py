"""Resizing and augmentation: what one sees in the image, the masks, the boxes and points agree."""

from __future__ import annotations

import copy

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from metaheads.datasets.transforms import (
    Record,
    TrainTransform,
    distort_colors,
    resize_image,
    resize_masks,
    resize_record,
    resize_tensor,
)
from metaheads.datasets.views import View, Window
from metaheads.options import check_options

ALL = {"flip": 0.5, "flip_vertical": 0.5, "rotate90": 0.5, "expand": 3.0, "crop": True}
BLACK = (0.0, 0.0, 0.0)


class Draws:
    """A generator that hands out prepared draws in [0, 1)."""

    def __init__(self, *draws: float) -> None:
        self._draws = list(draws)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * self._draws.pop(0)


def make_record(rng: np.random.RandomState, count: int = 3, size=(50, 70)) -> Record:
    """Rectangles that do not touch, white in the image; the first is a crowd."""
    height, width = size
    pitch = width // max(count, 1)
    boxes = np.zeros((count, 4), np.float32)
    masks = np.zeros((count, height, width), bool)
    for index in range(count):
        x1 = pitch * index + rng.randint(1, 4)
        y1 = rng.randint(0, height // 2)
        x2, y2 = x1 + rng.randint(6, pitch - 4), y1 + rng.randint(6, height // 2)
        boxes[index] = x1, y1, x2, y2
        masks[index, y1:y2, x1:x2] = True
    image = np.repeat(masks.any(0)[..., None], 3, 2).astype(np.uint8) * 255
    corners = np.stack((boxes[:, [0, 1]], boxes[:, [2, 1]], boxes[:, [0, 3]]), 1)
    keypoints = np.concatenate((corners, np.full((count, 3, 1), 2, np.float32)), -1)
    labels = np.arange(count)
    return Record(image, boxes, labels, labels == 0, masks, keypoints)


def bounding_box(mask: np.ndarray) -> list[int]:
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


# Resizing


@pytest.mark.parametrize("size", [(138, 138), (20, 31), (97, 181), (1, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resize_image_is_torch_bilinear(size, dtype):
    image = np.random.RandomState(0).randint(0, 256, (97, 181, 3)).astype(dtype)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    expected = F.interpolate(tensor[None].float(), size, mode="bilinear", align_corners=False)[0]
    resized = resize_image(image, size)
    assert resized.dtype == np.float32 and resized.flags.c_contiguous
    np.testing.assert_array_equal(resized, expected.permute(1, 2, 0).numpy())
    torch.testing.assert_close(resize_tensor(tensor, size), expected, rtol=0, atol=0)
    torch.testing.assert_close(resize_tensor(tensor.contiguous(), size), expected, rtol=0, atol=0)


def test_resize_image_takes_views():
    image = np.random.RandomState(0).rand(20, 30, 3).astype(np.float32)
    mirrored = resize_image(image[:, ::-1], (40, 50))
    np.testing.assert_allclose(mirrored, resize_image(image, (40, 50))[:, ::-1], atol=1e-5)


@pytest.mark.parametrize("size", [(138, 138), (20, 31), (194, 362), (1, 1), (97, 181)])
def test_resize_masks_is_the_same_kernel_and_a_threshold(size):
    rng = np.random.RandomState(0)
    noise = rng.rand(4, 97, 181).astype(np.float32)
    masks = np.stack([cv2.GaussianBlur(each, (0, 0), 2) > 0.5 for each in noise])
    masks[1] = False
    masks[2] = True
    masks[3] = False
    masks[3, 40:, 150:] = True
    tensor = torch.from_numpy(masks)[None].float()
    soft = F.interpolate(tensor, size, mode="bilinear", align_corners=False)[0].numpy()
    resized = resize_masks(masks, size)
    assert resized.dtype == bool and resized.shape == (4, *size)
    differs = resized != (soft > 0.5)
    assert np.abs(soft[differs] - 0.5).max(initial=0) < 1e-4  # ties but for rounding
    assert differs.sum() < 5
    np.testing.assert_array_equal(resize_masks(masks.astype(np.uint8) * 255, size), resized)


def test_resize_masks_without_masks():
    assert resize_masks(np.zeros((0, 5, 6), bool), (7, 8)).shape == (0, 7, 8)


def test_resize_record_scales_boxes_and_points():
    record = make_record(np.random.RandomState(0), size=(50, 70))
    record.keypoints[0, 0] = 0
    resized = resize_record(record, (100, 210))
    np.testing.assert_allclose(resized.boxes, record.boxes * [3, 2, 3, 2])
    np.testing.assert_allclose(resized.keypoints, record.keypoints * [3, 2, 1])
    for mask, box in zip(resized.masks, resized.boxes, strict=True):
        np.testing.assert_allclose(bounding_box(mask), box, atol=1)


# Geometry


def test_nothing_switched_on_changes_nothing():
    record = make_record(np.random.RandomState(0))
    result = TrainTransform(flip=0.0)(record)
    np.testing.assert_array_equal(result.image, record.image)
    assert result.image.dtype == np.float32
    for name in ("boxes", "labels", "is_crowd", "masks", "keypoints"):
        np.testing.assert_array_equal(getattr(result, name), getattr(record, name))


def test_everything_agrees_after_everything():
    """Over many draws: white pixels = masks, mask's bounding box = box, corners = points."""
    rng = np.random.RandomState(0)
    transform = TrainTransform(**ALL, mean=BLACK)
    sizes = set()
    for _ in range(200):
        record = make_record(rng)
        before = copy.deepcopy(record)
        result = transform(record, rng)
        sizes.add(result.image.shape)
        assert len(result) >= 1
        by_label = dict(zip(result.labels, result.masks, strict=True))
        lost = set(range(3)) - set(by_label)
        seen = result.masks.any(0)
        white = result.image[..., 0] > 127
        assert not (seen & ~white).any()
        assert lost or (seen == white).all()
        for index, mask in enumerate(result.masks):
            np.testing.assert_allclose(bounding_box(mask), result.boxes[index])
            points = result.keypoints[index]
            present = points[points[:, 2] > 0]
            x1, y1, x2, y2 = result.boxes[index]
            assert all(x in (x1, x2) and y in (y1, y2) for x, y, _ in present)
            assert not points[points[:, 2] == 0].any()
        np.testing.assert_array_equal(record.image, before.image)
        np.testing.assert_array_equal(record.boxes, before.boxes)
        np.testing.assert_array_equal(record.masks, before.masks)
    assert len(sizes) > 50


def test_everything_agrees_when_resized():
    rng = np.random.RandomState(0)
    transform = TrainTransform(size=(128, 96), **ALL, mean=BLACK)
    for _ in range(100):
        result = transform(make_record(rng), rng)
        assert result.image.shape == (128, 96, 3) and result.masks.shape[1:] == (128, 96)
        assert result.boxes.dtype == np.float32 and result.image.dtype == np.float32
        white = result.image[..., 0] > 127.5
        assert (result.masks.any(0) & ~white).sum() <= 2
        for mask, box in zip(result.masks, result.boxes, strict=True):
            if mask.any():
                np.testing.assert_allclose(bounding_box(mask), box, atol=1.01)


def test_mirror_swaps_pairs_and_keeps_absent_points():
    record = make_record(np.random.RandomState(0), count=1, size=(50, 70))
    record.keypoints[0] = [[10, 20, 2], [30, 40, 1], [0, 0, 0]]
    record.masks = np.random.RandomState(0).rand(1, 50, 70) > 0.5
    result = TrainTransform(flip=1.0, keypoint_flip_pairs=((0, 1),))(record)
    np.testing.assert_array_equal(result.keypoints[0], [[40, 40, 1], [60, 20, 2], [0, 0, 0]])
    np.testing.assert_array_equal(result.image, record.image[:, ::-1])
    np.testing.assert_array_equal(result.masks, record.masks[:, :, ::-1])
    x1, y1, x2, y2 = record.boxes[0]
    np.testing.assert_array_equal(result.boxes[0], [70 - x2, y1, 70 - x1, y2])


def test_vertical_flip_and_rotations():
    record = make_record(np.random.RandomState(0))
    record.masks = np.random.RandomState(0).rand(3, 50, 70) > 0.5
    upside_down = TrainTransform(flip=0.0, flip_vertical=1.0)(record)
    np.testing.assert_array_equal(upside_down.image, record.image[::-1])
    both = TrainTransform(flip=1.0, flip_vertical=1.0, keypoint_flip_pairs=((0, 1),))(record)
    np.testing.assert_array_equal(both.image, record.image[::-1, ::-1])
    np.testing.assert_array_equal(both.keypoints[:, 0, 2], 2)
    np.testing.assert_array_equal(both.keypoints[..., 0], 70 - record.keypoints[..., 0])
    for turns in (1, 2, 3):
        turned = TrainTransform(flip=0.0, rotate90=1.0)(record, Draws(0, 0, 0, turns / 3 - 0.1))
        np.testing.assert_array_equal(turned.image, np.rot90(record.image, turns))
        np.testing.assert_array_equal(turned.masks, np.rot90(record.masks, turns, axes=(1, 2)))


def test_expand_fills_with_the_mean_in_the_image_s_order():
    record = make_record(np.random.RandomState(0), count=1, size=(50, 70))
    draws = 0.4, 0.5, 0.1, 0.9, 1, 1, 1  # expand; ratio 1.5 of 1..2; left .1 of 35, top .9 of 25
    result = TrainTransform(expand=2.0, flip=0.0, color_order="bgr")(record, Draws(*draws))
    assert result.image.shape == (75, 105, 3)
    np.testing.assert_allclose(result.image[0, 0], (103.94, 116.78, 123.68), rtol=1e-6)
    np.testing.assert_array_equal(result.image[22:72, 3:73], record.image)
    np.testing.assert_array_equal(result.boxes, record.boxes + [3, 22, 3, 22])
    assert not TrainTransform(expand=1.0, flip=0.0)(record, Draws(1, 1, 1)).image[0, 0].any()


@pytest.mark.parametrize("turns", [0, 1])
@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("window", [(-30, -20, -5, -4), (-30, 10, -5, 20), (90, 60, 99, 70)])
def test_a_window_that_shows_nothing_of_the_image(window, is_mirrored, turns):
    record = make_record(np.random.RandomState(0))
    view = View(Window(*window), size=(8, 9), is_mirrored=is_mirrored, turns=turns)
    assert (view.pixels(record.image, (1, 2, 3)) == np.array([1, 2, 3])).all()
    assert view.masks(record.masks).shape == (3, 8, 9) and not view.masks(record.masks).any()


# The crop


def test_crop_keeps_what_has_its_centre_inside():
    record = make_record(np.random.RandomState(0), size=(50, 70))
    record.boxes[:] = [[0, 0, 9, 9], [10, 0, 30, 20], [40, 10, 60, 30]]
    record.keypoints[1] = [[25, 5, 2], [12, 5, 2], [45, 5, 2]]
    # a crop; width .4286 of .3..1 = 42, height 35; left 20 of 28, top 0
    crop = 0.5, (0.6 - 0.3) / 0.7, (0.7 - 0.3) / 0.7, 20.5 / 28, 0.0
    result = TrainTransform(crop=True, flip=0.0)(record, Draws(*crop, 1, 1, 1))
    assert result.image.shape == (35, 42, 3)
    np.testing.assert_array_equal(result.labels, [2])  # the second's centre is on the edge
    np.testing.assert_array_equal(result.boxes, [[20, 10, 40, 30]])
    np.testing.assert_array_equal(result.image, record.image[:35, 20:62])
    np.testing.assert_array_equal(result.masks, record.masks[2:, :35, 20:62])


def test_crop_makes_points_outside_absent():
    record = make_record(np.random.RandomState(0), count=1, size=(50, 70))
    record.is_crowd[:] = False
    record.boxes[0] = 30, 10, 50, 30
    record.keypoints[0] = [[35, 15, 1], [5, 15, 2], [35, 45, 2]]
    crop = 0.5, (0.6 - 0.3) / 0.7, (0.7 - 0.3) / 0.7, 20.5 / 28, 0.0
    result = TrainTransform(crop=True, flip=0.0)(record, Draws(*crop, 1, 1, 1))
    np.testing.assert_array_equal(result.keypoints[0], [[15, 15, 1], [0, 0, 0], [0, 0, 0]])


def test_crop_holds_an_object_that_is_no_crowd_and_often_is_none():
    rng = np.random.RandomState(0)
    transform = TrainTransform(crop=True, flip=0.0)
    whole = 0
    for _ in range(300):
        record = make_record(rng)
        result = transform(record, rng)
        whole += result.image.shape == record.image.shape
        assert (~result.is_crowd).any()
        assert (result.boxes[:, 2:] > result.boxes[:, :2]).all()
        height, width = result.image.shape[:2]
        assert (result.boxes >= 0).all() and (result.boxes <= [width, height] * 2).all()
        assert 0.5 - 0.1 < height / width < 2 + 0.1
    assert 30 <= whole <= 75  # one in six


@pytest.mark.parametrize("only_crowds", [False, True])
def test_images_without_objects_pass(only_crowds):
    rng = np.random.RandomState(0)
    transform = TrainTransform(size=(32, 40), photometric=True, **ALL)
    for _ in range(50):
        record = make_record(rng, count=1 if only_crowds else 0)
        result = transform(record, rng)
        assert result.image.shape == (32, 40, 3)
        assert result.boxes.shape == (len(result), 4)
        assert result.masks.shape == (len(result), 32, 40)
        assert result.keypoints.shape[0] == len(result)


def test_masks_and_keypoints_may_be_absent():
    rng = np.random.RandomState(0)
    transform = TrainTransform(size=(32, 40), **ALL)
    for _ in range(20):
        record = make_record(rng)
        record.masks = record.keypoints = None
        result = transform(record, rng)
        assert result.masks is None and result.keypoints is None and len(result) >= 1


def test_degenerate_boxes_stay_without_a_crop():
    record = make_record(np.random.RandomState(0))
    record.boxes[:] = [[5, 5, 5, 9], [-20, -20, -10, -10], [60, 40, 90, 80]]
    result = TrainTransform(size=(100, 140), flip=0.0, expand=2.0)(record, Draws(0.9, 1, 1, 1))
    np.testing.assert_array_equal(result.boxes, record.boxes * 2)


def test_degenerate_boxes_go_in_a_crop():
    rng = np.random.RandomState(0)
    transform = TrainTransform(crop=True)
    for _ in range(50):
        record = make_record(rng)
        record.boxes[2, 2:] = record.boxes[2, :2]
        result = transform(record, rng)
        if result.image.shape != record.image.shape:
            assert 2 not in result.labels


# Colours


def test_distort_colors_by_hand():
    image = np.full((1, 1, 3), 100, np.uint8)
    brighter = distort_colors(image, "rgb", Draws(0.4, 0.75, 0.6, 0.6, 0.6, 0.6))
    np.testing.assert_allclose(brighter, 116)  # -32 + .75 * 64
    contrast = distort_colors(image, "rgb", Draws(0.6, 0.4, 0.25, 0.6, 0.6, 0.6))
    np.testing.assert_allclose(contrast, 75)  # .5 + .25
    reddish = np.array([[[100, 50, 50]]], np.uint8)
    grey = distort_colors(reddish, "rgb", Draws(0.6, 0.6, 0.6, 0.4, 0.0, 0.6))
    np.testing.assert_allclose(grey, [[[100, 75, 75]]], rtol=1e-5)  # half the saturation
    hue = distort_colors(reddish, "rgb", Draws(0.6, 0.6, 0.6, 0.6, 0.4, 1.0))
    np.testing.assert_allclose(hue, [[[100, 65, 50]]], rtol=1e-4)  # 18 of 60 degrees to yellow


def test_distort_colors_knows_the_order_and_the_range():
    image = np.random.RandomState(0).randint(0, 256, (9, 11, 3)).astype(np.uint8)
    kept = image.copy()
    as_float = image.astype(np.float32)
    for seed in range(30):
        rgb = distort_colors(image, "rgb", np.random.RandomState(seed))
        bgr = distort_colors(image[..., ::-1], "bgr", np.random.RandomState(seed))
        np.testing.assert_allclose(bgr[..., ::-1], rgb, atol=1e-3)
        assert rgb.dtype == np.float32 and rgb.min() >= 0 and rgb.max() <= 255
        same = distort_colors(as_float, "rgb", np.random.RandomState(seed))
        np.testing.assert_array_equal(same, rgb)
    np.testing.assert_array_equal(as_float, kept)
    np.testing.assert_array_equal(image, kept)


# Options


def test_seeding_numpy_repeats_the_draws():
    record = make_record(np.random.RandomState(0))
    transform = TrainTransform(size=(32, 32), photometric=True, **ALL)
    results = []
    for _ in range(2):
        np.random.seed(7)
        results.append([transform(record).image for _ in range(5)])
    np.testing.assert_array_equal(*results)


def test_options_come_from_configs():
    values = {"size": [32, 40], "expand": 4, "keypoint_flip_pairs": [[0, 1]], "mean": [1, 2, 3]}
    transform = TrainTransform(**check_options(TrainTransform, values))
    assert transform.size == (32, 40) and transform.keypoint_flip_pairs == ((0, 1),)


@pytest.mark.parametrize(
    "options",
    [{"flip": 1.5}, {"color_order": "gbr"}, {"expand": 0.5}, {"size": (0, 5)}, {"rotate90": -1.0}],
)
def test_impossible_options_are_refused_by_name(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        TrainTransform(**options)
