"""Pictures of panoptic segmentations: what is mixed, outlined, hatched, named and left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metaheads.structures import Detections, PanopticSegmentation, Segment
from metaheads.visualization import OPACITY, class_color, draw_detections
from metaheads.visualization_panoptic import draw_result, draw_segmentation

NAMES = ("cat", "dog", "sky", "grass")


@pytest.fixture
def image():
    return np.random.RandomState(0).randint(0, 256, (120, 160, 3)).astype(np.uint8)


@pytest.fixture
def segmentation():
    """Sky over grass, two cats that touch each other, a dog of 4 x 4 pixels, void and unknown."""
    ids = torch.zeros(120, 160, dtype=torch.int32)
    ids[:60], ids[60:110] = 3, 70000  # the last rows are void
    ids[20:80, 20:60], ids[20:80, 60:100] = 5, 6
    ids[100:104, 120:124] = 9
    ids[110:115, :40] = 1234  # belongs to no segment
    unknown = torch.zeros(120, 160, dtype=torch.bool)
    unknown[112:120, 60:140] = True
    unknown[0:5, 0:5] = True  # beneath a segment: not drawn
    segments = [
        Segment(70000, 3, False),
        Segment(3, 2, False),
        Segment(5, 0, True, 0.9),
        Segment(6, 0, True, 0.8),
        Segment(9, 1, True),
    ]
    return PanopticSegmentation(ids, segments, unknown)


def mixed(pixels, label):
    return pixels * (1 - OPACITY) + np.array(class_color(label)) * OPACITY


def test_segments_are_mixed_things_outlined_void_is_left_alone(image, segmentation):
    kept = image.copy()
    drawn = draw_segmentation(image, segmentation, NAMES, show_labels=False)
    assert drawn.dtype == np.uint8 and drawn.shape == image.shape
    np.testing.assert_array_equal(image, kept)
    ids = segmentation.ids.numpy()
    for number, label in ((3, 2), (70000, 3)):  # stuff up to its border
        where = ids == number
        assert np.abs(drawn[where] - mixed(image[where], label)).max() <= 1
    inside = np.s_[22:78, 22:58]
    assert np.abs(drawn[inside] - mixed(image[inside], 0)).max() <= 1
    for outline in (np.s_[20:80, 20], np.s_[20, 20:100], np.s_[20:80, 59:61], np.s_[79, 20:100]):
        assert (drawn[outline] == class_color(0)).all()
    left = (ids == 0) | (ids == 1234)
    left &= ~segmentation.is_unknown.numpy()
    np.testing.assert_array_equal(drawn[left], image[left])


def test_only_what_is_unknown_is_hatched(image, segmentation):
    hatched = draw_segmentation(image, segmentation, NAMES)
    unknown, segmentation.is_unknown = segmentation.is_unknown.numpy(), None
    plain = draw_segmentation(image, segmentation, NAMES)
    changed = (hatched != plain).any(2)
    free = unknown & (segmentation.ids.numpy() == 0)
    assert not (changed & ~free).any() and 0.1 < changed[free].mean() < 0.5
    assert set(np.unique(hatched[changed])) == {0, 255}
    rows, columns = changed.nonzero()
    np.testing.assert_array_equal(np.unique((rows + columns) % 8), [0, 1])


def test_names_stand_in_their_segments(image, segmentation):
    named = draw_segmentation(image, segmentation, NAMES)
    plain = draw_segmentation(image, segmentation, NAMES, show_labels=False)
    tags = (named != plain).any(2)
    ids = segmentation.ids.numpy()
    for number in (3, 5, 6, 70000):
        assert tags[ids == number].sum() > 100
    assert not tags[95:108, 115:128].any(), "the dog is too small"
    columns = tags[20:80, 20:60].any(0).nonzero()[0]
    assert abs(20 + columns.mean() - 40) < 4, "in the middle"


def test_scale_and_colors(image, segmentation):
    large = draw_segmentation(image, segmentation, NAMES, scale=3, show_labels=False)
    assert large.shape == (360, 480, 3) and (large[60, 60:300] == class_color(0)).all()
    drawn = draw_segmentation(image, segmentation, NAMES, color_by="instance", show_labels=False)
    assert (drawn[50, 59] == class_color(2)).all() and (drawn[50, 60] == class_color(3)).all()
    short = draw_segmentation(image, segmentation, NAMES[:1])
    assert short.shape == image.shape, "labels without a name are numbers"


def test_void_and_small_images(image):
    empty = PanopticSegmentation(torch.zeros(120, 160, dtype=torch.int32), [])
    np.testing.assert_array_equal(draw_segmentation(image, empty, NAMES), image)
    tiny = PanopticSegmentation(torch.ones(3, 2, dtype=torch.int32), [Segment(1, 2, False)])
    assert draw_segmentation(image[:3, :2], tiny, NAMES).shape == (3, 2, 3)


def test_what_does_not_fit_is_refused(image, segmentation):
    with pytest.raises(ValueError, match="uint8"):
        draw_segmentation(image.astype(np.float32), segmentation, NAMES)
    with pytest.raises(ValueError, match="pixels"):
        draw_segmentation(image[:50], segmentation, NAMES)


def test_draw_result_draws_either(image, segmentation):
    assert (draw_result(image, segmentation, NAMES) != image).any()
    found = Detections(torch.tensor([[9.0, 9, 60, 60]]), torch.tensor([0.5]), torch.zeros(1).long())
    expected = draw_detections(image, found, NAMES)
    np.testing.assert_array_equal(draw_result(image, found, NAMES), expected)
