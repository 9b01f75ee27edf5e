"""The training crop of faces, and vertices through all transforms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from metaheads.datasets.faces import FaceTransform
from metaheads.datasets.transforms import Record, TrainTransform
from metaheads.datasets.warps import CropTransform, TestView, WarpTransform

PLAIN = {"flip": 0.0, "photometric": False, "random_interpolation": False}
NAN = float("nan")


def make_record(boxes, size=(100, 140), crowds=None) -> Record:
    """Every face has its corners as points and vertices, with z = x."""
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    corners = np.stack((boxes[:, :2], boxes[:, 2:]), 1)  # (N, 2, 2)
    keypoints = np.concatenate((corners, np.full((len(boxes), 2, 1), 2)), -1)
    rng = np.random.default_rng(0)
    return Record(
        image=rng.integers(0, 256, (*size, 3)).astype(np.uint8),
        boxes=boxes,
        labels=np.zeros(len(boxes), np.int64),
        is_crowd=np.zeros(len(boxes), bool) if crowds is None else np.array(crowds),
        keypoints=keypoints.astype(np.float32),
        vertices=np.concatenate((corners, corners[..., :1]), -1),
        vertex_flip=np.array([1, 0]),
    )


def transform(record: Record, seed: int = 0, **options) -> Record:
    options = {"size": 50, "keypoint_flip_pairs": (), **PLAIN, **options}
    return FaceTransform(**options)(record, np.random.RandomState(seed))


def test_a_face_lies_wholly_in_every_crop():
    record = make_record([[30, 40, 50, 60], [100, 10, 130, 45]])
    zooms = set()
    for seed in range(40):
        found = transform(record, seed)
        assert found.image.shape == (50, 50, 3) and found.image.dtype == np.float32
        assert len(found) and (found.boxes >= 0).all() and (found.boxes <= 50).all()
        # A vertex is not clipped: whole faces are those whose box still ends at both.
        ends = found.vertices[..., :2].reshape(-1, 4)
        whole = np.isclose(found.boxes, ends, atol=1e-3).all(1)
        assert whole.any()
        width = (found.vertices[:, 1, 2] - found.vertices[:, 0, 2])[whole][0]
        height = (found.vertices[:, 1, 1] - found.vertices[:, 0, 1])[whole][0]
        zooms.add(round(float(width / (20 if np.isclose(width, height) else 30)), 2))
    assert zooms <= {1.67, 1.11, 0.83, 0.62, 0.63, 0.5} and len(zooms) >= 4


def test_the_crop_shows_what_the_boxes_say():
    record = make_record([[30, 40, 50, 60]])
    record.image[:] = 0
    record.image[40:60, 30:50] = 255
    for seed in range(10):
        found = transform(record, seed, flip=0.5)
        x1, y1, x2, y2 = np.round(found.boxes[0]).astype(int)
        assert found.image[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].min() > 254
        assert found.image.sum() == pytest.approx(255 * 3 * (x2 - x1) * (y2 - y1), rel=0.15)


def test_points_are_clipped_and_vertices_are_not():
    record = make_record([[40, 40, 60, 60], [0, 0, 100, 80]])
    seen = False
    for seed in range(40):
        found = transform(record, seed)
        assert (found.keypoints[..., :2] >= 0).all() and (found.keypoints[..., :2] <= 50).all()
        assert (found.keypoints[..., 2] == 2).all()
        seen |= bool((found.vertices[..., :2] < -1).any())
        # z was x: it has the same scale, and the same zero as before.
        np.testing.assert_allclose(
            np.diff(found.vertices[..., 2]), np.diff(found.vertices[..., 0]), atol=1e-3
        )
    assert seen


def test_mirror_swaps_points_and_vertices():
    record = make_record([[30, 40, 50, 60]], size=(100, 100))
    options = {"scales": (1.0,), "keypoint_flip_pairs": ((0, 1),)}
    plain, mirrored = (transform(record, flip=flip, **options) for flip in (0.0, 1.0))
    for before, after in (
        (plain.keypoints, mirrored.keypoints),
        (plain.vertices, mirrored.vertices),
    ):
        np.testing.assert_allclose(after[:, ::-1, 0], 50 - before[..., 0])
        np.testing.assert_allclose(after[:, ::-1, 1:], before[..., 1:])
    np.testing.assert_allclose(mirrored.image, plain.image[:, ::-1], atol=1e-3)


def test_without_a_crop_the_image_is_padded_below():
    record = make_record([[0, 0, 140, 100]])  # fits no square
    found = transform(record, size=70)
    assert found.boxes.tolist() == [[0, 0, 70, 50]]
    assert np.allclose(found.image[52:], (123, 117, 104)) and found.image[:49].std() > 20


def test_small_faces_are_dropped():
    record = make_record([[30, 40, 50, 60], [31, 70, 34, 73]])
    for seed in range(20):
        assert (transform(record, seed, min_face=8.0).boxes[:, 2:].min(1) > 8).all()
    counts = {len(transform(record, seed)) for seed in range(20)}
    assert counts == {1, 2}


def test_of_crowds_stays_what_the_crop_shows():
    """Else the ignored faces in it would be background."""
    record = make_record([[30, 40, 50, 60], [60, 0, 140, 100]], crowds=[False, True])
    cut = 0
    for seed in range(20):
        plain = dataclasses.replace(record, image=np.zeros_like(record.image))
        plain.image[:, 60:140] = 255  # what the crowd covers
        found = transform(plain, seed, min_face=2.0, mean=(0.0, 0.0, 0.0))
        covered = found.image.max((0, 2)) > 127
        assert found.is_crowd.sum() == covered.any()
        if covered.any():
            columns = np.flatnonzero(covered)
            box = found.boxes[found.is_crowd][0]
            np.testing.assert_allclose(box[[0, 2]], (columns[0], columns[-1] + 1), atol=1)
            cut += box[2] - box[0] < 20
    assert cut


def test_range_of_scales():
    record = make_record([[45, 45, 47, 47]], size=(100, 100))
    sides = []
    for seed in range(60):
        found = transform(record, seed, scale_range=(0.3, 1.0))
        sides.append(round(100 / (found.boxes[0, 2] - found.boxes[0, 0]).item()))
    assert sides.count(100) > 5 and len(set(sides)) > 15 and min(sides) >= 29


@pytest.mark.parametrize(
    "record",
    [
        make_record([]),
        make_record([[30, 40, 50, 60]], crowds=[True]),
        make_record([[30, 40, 31, 41], [50, 50, 52, 52]]),
        make_record([[30, 40, 30, 60], [0, 0, 0, 0]]),
        make_record([[-20, -20, 10, 10], [130, 90, 160, 120]]),
        make_record([[0, 0, 1, 1]], size=(1, 1)),
    ],
    ids=["none", "crowd", "tiny", "empty", "outside", "one pixel"],
)
def test_odd_images_pass(record):
    for seed in range(10):
        found = transform(record, seed, photometric=True, random_interpolation=True, flip=0.5)
        assert found.image.shape == (50, 50, 3) and np.isfinite(found.image).all()
        assert np.isfinite(found.boxes).all() and len(found) <= len(record)
        assert len(found.keypoints) == len(found.vertices) == len(found)


def test_images_without_faces_are_cropped_not_padded():
    for seed in range(10):
        found = transform(make_record([], size=(40, 200)), seed)
        assert found.image.reshape(50, -1).std(1).min() > 20


def test_absent_points_stay_absent():
    record = make_record([[30, 40, 50, 60]])
    record.keypoints[:] = 0
    record.vertices[:] = NAN
    found = transform(record, flip=1.0)
    assert not found.keypoints.any() and np.isnan(found.vertices).all()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"size": 0}, "size"),
        ({"scales": ()}, "scales"),
        ({"scales": (1.5,)}, "scales"),
        ({"scale_range": (0.5,)}, "scale_range"),
        ({"flip": 2.0}, "flip"),
        ({"color_order": "grey"}, "color_order"),
    ],
)
def test_bad_options_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        FaceTransform(**options)


TRANSFORMS = [
    lambda flip: TrainTransform(size=(50, 70), flip=flip),
    lambda flip: WarpTransform(size=(64, 64), scales=(), flip=flip, jitter=0.0, lighting=0.0),
    lambda flip: CropTransform(size=(70, 70), scales=(), flip=flip, jitter=0.0, lighting=0.0),
]


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("build", TRANSFORMS, ids=["train", "warp", "crop"])
def test_vertices_go_where_the_boxes_go(build, flip):
    record = make_record([[30, 40, 50, 60], [100, 10, 130, 45]])
    found = build(flip)(record, np.random.RandomState(0))
    x1, y1, x2, y2 = found.boxes.T
    # The corners lie where the box has them; mirrored, vertex 0 was 1 before.
    left, right = found.vertices[:, 0], found.vertices[:, 1]
    np.testing.assert_allclose(np.stack((left[:, 0], right[:, 0])), (x1, x2), atol=0.01)
    low, high = (y2, y1) if flip else (y1, y2)
    np.testing.assert_allclose(np.stack((left[:, 1], right[:, 1])), (low, high), atol=0.01)
    depths = np.abs(np.diff(found.vertices[..., 2])[:, 0])
    np.testing.assert_allclose(depths, x2 - x1, rtol=0.02)
    assert record.vertices[0, 0].tolist() == [30, 40, 30]


def test_the_authors_views():
    image = np.zeros((375, 500, 3), np.uint8)
    for kind, size, expected in (
        ("original", (1, 1), (375, 500)),
        ("short", (1600, 2150), (1600, 2133)),
    ):
        seen, geometry = TestView(kind=kind, size=size)(image)
        assert seen.shape[:2] == expected == geometry.input_size
        assert geometry.original_size == (375, 500)
    seen, geometry = TestView(kind="original")(image, 0.5)
    assert seen.shape[:2] == (188, 250) and geometry.scale == pytest.approx(2, rel=0.01)
