"""The overlay: what it leaves alone, what it mixes, what lies on top, what stays inside."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metaheads.datasets.transforms import Record
from metaheads.structures import Detections
from metaheads.visualization import (
    GREY,
    OPACITY,
    blend_masks,
    class_color,
    draw_detections,
    draw_objects,
    draw_record,
    grid,
    side_by_side,
)

NAMES = ("cat", "dog")


@pytest.fixture
def image():
    return np.random.RandomState(0).randint(0, 256, (120, 160, 3)).astype(np.uint8)


def make_detections(boxes, size=(120, 160), scores=None, labels=None):
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores if scores is not None else [0.9] * len(boxes)),
        torch.tensor(labels if labels is not None else [0] * len(boxes), dtype=torch.long),
        masks,
    )


def mixed(image, color):
    return image * (1 - OPACITY) + np.array(color) * OPACITY


def test_inside_is_mixed_outside_is_untouched(image):
    kept = image.copy()
    found = make_detections([[20, 30, 60, 90]])
    drawn = draw_detections(image, found, NAMES, show_labels=False)
    assert drawn.dtype == np.uint8 and drawn.shape == image.shape
    inside = drawn[31:89, 21:59].astype(float)
    assert np.abs(inside - mixed(image[31:89, 21:59], class_color(0))).max() <= 1
    assert (drawn[30:90, 20] == class_color(0)).all() and (drawn[89, 20:60] == class_color(0)).all()
    drawn[30:90, 20:60] = image[30:90, 20:60]
    np.testing.assert_array_equal(drawn, image)
    np.testing.assert_array_equal(image, kept)


def test_nothing_found_changes_nothing(image):
    np.testing.assert_array_equal(draw_detections(image, make_detections([]), NAMES), image)
    boxes_only = make_detections([])
    boxes_only.masks = None
    np.testing.assert_array_equal(draw_detections(image, boxes_only, NAMES), image)


def test_threshold(image):
    found = make_detections([[5, 5, 20, 20], [50, 50, 80, 80]], scores=[0.5, 0.25])
    drawn = draw_detections(image, found, NAMES, threshold=0.5)
    np.testing.assert_array_equal(drawn, draw_detections(image, found[:1], NAMES))
    assert (drawn != draw_detections(image, found, NAMES, threshold=0.25)).any()


def test_small_objects_lie_on_top_and_masks_mix_once(image):
    boxes = [[50, 50, 70, 70], [20, 20, 100, 100]]
    for order in ([0, 1], [1, 0]):
        masks = make_detections(boxes).masks.numpy()[order]
        colors = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)[order]
        drawn = blend_masks(image, masks, colors)
        inner = drawn[52:68, 52:68].astype(float)
        assert np.abs(inner - mixed(image[52:68, 52:68], (255, 0, 0))).max() <= 1
        outer = drawn[30:40, 30:90].astype(float)
        assert np.abs(outer - mixed(image[30:40, 30:90], (0, 0, 255))).max() <= 1


def test_more_than_255_objects(image):
    boxes = [[x, y, x + 4, y + 4] for y in range(0, 100, 5) for x in range(0, 150, 5)]
    masks = make_detections(boxes).masks.numpy()
    colors = np.random.RandomState(0).randint(0, 256, (len(boxes), 3)).astype(np.uint8)
    drawn = blend_masks(image, masks, colors)
    for (x1, y1, _, _), color in zip(boxes, colors, strict=True):
        assert (drawn[y1, x1] == color).all()  # contour


def test_touching_objects_are_parted_by_contours(image):
    masks = make_detections([[20, 20, 40, 40], [40, 20, 60, 40]]).masks.numpy()
    drawn = blend_masks(image, masks, np.array([[9, 8, 7], [9, 8, 7]], np.uint8))
    assert (drawn[20:40, 39:41] == [9, 8, 7]).all()
    assert (drawn[25:35, 25:35] != [9, 8, 7]).any()


@pytest.mark.parametrize(
    "box",
    [[0, 0, 10, 10], [150, 110, 160, 120], [0, 0, 160, 120], [-9, -9, -3, -3], [70, 5, 70, 5]],
)
def test_labels_stay_in_the_image(image, box):
    long = ("a name that is much longer than the image is wide, and then some more", "dog")
    for names in (long, NAMES):
        found = make_detections([box])
        found.masks = None
        drawn = draw_detections(image, found, names, show_boxes=False)
        assert drawn.shape == image.shape
        tag = (drawn != image).any(2)
        assert tag.sum() > 100
        rows, columns = tag.nonzero()
        if names is NAMES:
            assert np.ptp(rows) >= 8 and 25 < np.ptp(columns) < 80


def test_labels_do_not_cover_each_other(image):
    many = make_detections([[60, 60, 64, 64]] * 50, labels=[0] + [1] * 49)
    many.masks = None
    drawn = draw_detections(image, many, NAMES, show_boxes=False)
    single = make_detections([[60, 60, 64, 64]])
    single.masks = None
    tag = draw_detections(image, single, NAMES, show_boxes=False)
    where = (tag != image).any(2)
    np.testing.assert_array_equal(drawn[where], tag[where])


def test_scale_enlarges_image_masks_and_boxes(image):
    found = make_detections([[20, 30, 60, 90]])
    drawn = draw_detections(image, found, NAMES, scale=2.5, show_labels=False)
    assert drawn.shape == (300, 400, 3)
    assert (drawn[75:225, 50] == class_color(0)).all()
    plain = draw_detections(image, make_detections([]), NAMES, scale=2.5)
    outside = np.ones((300, 400), bool)
    outside[75:225, 50:150] = False
    np.testing.assert_array_equal(drawn[outside], plain[outside])


def test_colors(image):
    boxes = [[5, 50, 30, 80], [40, 50, 70, 80]]
    found = make_detections(boxes, labels=[1, 1])
    corners = [(50, 5), (50, 40)]

    def corner_colors(names, **options):
        drawn = draw_detections(image, found, names, show_labels=False, **options)
        return [tuple(drawn[corner].tolist()) for corner in corners]

    assert corner_colors(NAMES) == [class_color(1)] * 2
    assert corner_colors(NAMES, color_by="instance") == [class_color(0), class_color(1)]
    found.labels[:] = 0
    assert corner_colors(("cell",)) == [class_color(0), class_color(1)]
    assert corner_colors(("cell",), color_by="class") == [class_color(0)] * 2
    colors = [class_color(label) for label in range(20)]
    assert len(set(colors)) == 20 and min(max(color) for color in colors) > 150
    with pytest.raises(ValueError, match="color_by"):
        corner_colors(NAMES, color_by="size")


def test_ground_truth_of_a_record(image):
    found = make_detections([[20, 30, 60, 90], [80, 30, 120, 90]], labels=[1, 1])
    record = Record(
        image.astype(np.float32) + 0.3,
        found.boxes.numpy(),
        found.labels.numpy(),
        np.array([False, True]),
        found.masks.numpy(),
        np.array([[[40, 60, 2], [10, 10, 0]], [[100, 60, 1], [10, 10, 0]]], np.float32),
    )
    drawn = draw_record(record, NAMES, show_labels=False)
    assert (drawn[60, 20] == class_color(1)).all() and (drawn[60, 80] == GREY).all()
    assert (drawn[60, 40] == class_color(1)).all()  # the point
    np.testing.assert_array_equal(drawn[5:15, 5:15], image[5:15, 5:15])  # the absent one
    assert (draw_record(record, NAMES) != drawn).any()


def test_other_images_are_refused(image):
    nothing = np.zeros((0, 4)), np.zeros(0, int)
    for wrong in (image.astype(np.float32), image[..., 0]):
        with pytest.raises(ValueError, match="uint8"):
            draw_objects(wrong, *nothing, NAMES)


def test_unknown_labels_are_numbers(image):
    drawn = draw_detections(image, make_detections([[20, 30, 60, 90]], labels=[7]), NAMES)
    assert drawn.shape == image.shape


def test_grid():
    images = [np.full((10, 20, 3), 1, np.uint8), np.full((8, 12, 3), 2, np.uint8)]
    images.append(np.full((10, 20, 3), 3, np.uint8))
    sheet = grid(images, 2, gap=4)
    assert sheet.shape == (2 * 10 + 3 * 4, 2 * 20 + 3 * 4, 3)
    assert (sheet[4:14, 4:24] == 1).all() and (sheet[5:13, 32:44] == 2).all()
    assert (sheet[18:28, 4:24] == 3).all()
    assert (sheet == 255).sum() == sheet.size - 3 * (200 + 96 + 200)
    assert grid(images[:1], 5, gap=0).shape == (10, 20, 3)
    with pytest.raises(ValueError, match="expected images"):
        grid([], 2)


def test_side_by_side(image):
    both = side_by_side(image, image[:100, :90], ("left", "right"))
    bar = both.shape[0] - 120
    assert 10 < bar < 40 and both.shape[1] == 160 + 4 + 90
    np.testing.assert_array_equal(both[bar:, :160], image)
    titles = both[:10]
    assert (titles[:, :160] < 255).any() and (titles[:, 164:] < 255).any()
    assert (both[-15:, 164:] == 255).all()


def test_vertices_are_dots_inside_of_the_image(image):
    vertices = np.full((2, 3, 3), np.nan, np.float32)
    vertices[0] = [[10.6, 20.2, 5], [-3, 40, 0], [159.9, 119.9, 1]]
    boxes = np.array([[5, 5, 60, 60], [70, 70, 90, 90]], np.float32)
    options = {"show_boxes": False, "show_labels": False, "color_by": "class"}
    with np.errstate(invalid="raise"):
        drawn = draw_objects(image, boxes, np.zeros(2, int), NAMES, vertices=vertices, **options)
    changed = np.argwhere((drawn != image).any(2)).tolist()
    assert changed == [[20, 10], [119, 159]]
    assert tuple(drawn[20, 10]) == class_color(0)
    found = make_detections([[5, 5, 60, 60]])
    found.masks, found.vertices = None, torch.tensor(vertices[:1, :, :2])
    drawn = draw_detections(image, found, NAMES, scale=2.0, **options)
    assert (drawn[40, 21] == class_color(0)).all()
