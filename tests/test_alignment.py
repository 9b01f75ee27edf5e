from __future__ import annotations

import cv2
import numpy as np
import pytest

from metaheads.alignment import ARCFACE_POINTS, align_face, estimate_similarity


def turn(points: np.ndarray, degrees: float, scale: float, shift: tuple[float, float]):
    angle = np.deg2rad(degrees)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ matrix.T + shift


@pytest.mark.parametrize("degrees", [0, 30, 180, -95])
def test_a_similarity_is_found_exactly(degrees):
    source = turn(ARCFACE_POINTS, degrees, 2.5, (30.0, -7.0))
    matrix = estimate_similarity(source, ARCFACE_POINTS)
    np.testing.assert_allclose(source @ matrix[:, :2].T + matrix[:, 2], ARCFACE_POINTS, atol=1e-9)
    assert np.linalg.det(matrix[:, :2]) == pytest.approx(1 / 2.5**2)


def test_it_is_the_nearest_and_never_mirrors():
    rng = np.random.default_rng(0)
    source = ARCFACE_POINTS + rng.normal(0, 4, (5, 2))
    best = estimate_similarity(source, ARCFACE_POINTS)

    def distance(matrix):
        return np.square(source @ matrix[:, :2].T + matrix[:, 2] - ARCFACE_POINTS).sum()

    for _ in range(50):
        a, b, x, y = rng.normal(0, 0.02, 4)
        other = best + np.array([[a, -b, x], [b, a, y]])
        assert distance(other) >= distance(best)
    mirrored = ARCFACE_POINTS * (-1, 1)
    assert np.linalg.det(estimate_similarity(mirrored, ARCFACE_POINTS)[:, :2]) > 0


def test_points_that_are_one_are_refused():
    with pytest.raises(ValueError, match="all of the 5 points are the same"):
        estimate_similarity(np.full((5, 2), 3.0), ARCFACE_POINTS)


def test_a_turned_face_becomes_upright():
    image = np.zeros((400, 500, 3), np.uint8)
    points = turn(ARCFACE_POINTS, 40, 1.5, (200.0, 60.0))
    for number, (x, y) in enumerate(points):
        cv2.circle(image, (round(x), round(y)), 6, (50 * (number + 1),) * 3, -1)
    face = align_face(image, points)
    assert face.shape == (112, 112, 3)
    for number, (x, y) in enumerate(ARCFACE_POINTS):
        assert abs(int(face[round(y), round(x), 0]) - 50 * (number + 1)) < 10
