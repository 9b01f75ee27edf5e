"""The mesh of drawn faces: a template, a few shape coefficients, a pose.

A face is a sheet of 7 x 7 vertices over the front of a head, from the forehead to the chin. Units
are half of a face's height; x to the right of the picture, y down, z towards the viewer, with the
middle of the head at the origin. V = 49 vertices, K coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GRID = 7
NUM_VERTICES = GRID * GRID
_COLUMNS = np.array([-1.0, -0.72, -0.4, 0.0, 0.4, 0.72, 1.0])
_ROWS = np.array([-1.0, -0.6, -0.22, 0.16, 0.5, 0.74, 1.0])
# The eyes, the tip of the nose and the corners of the mouth, in the order of FACE_POINTS.
LANDMARKS = np.array([2 * GRID + 2, 2 * GRID + 4, 3 * GRID + 3, 4 * GRID + 2, 4 * GRID + 4])
NOSE, NOSE_BRIDGE = 3 * GRID + 3, 2 * GRID + 3
# What a mirror swaps: the columns.
FLIP = np.arange(NUM_VERTICES).reshape(GRID, GRID)[:, ::-1].ravel()


def triangles() -> np.ndarray:
    """(72, 3) int64; two of each cell, alike on both sides of the face, turned to the viewer."""
    found = []
    for row in range(GRID - 1):
        for column in range(GRID - 1):
            a = row * GRID + column
            b, c, d = a + 1, a + GRID, a + GRID + 1
            if column < GRID // 2:
                found += [(a, b, d), (a, d, c)]
            else:
                found += [(a, b, c), (b, d, c)]
    return np.array(found)


def _template() -> np.ndarray:
    """(V, 3): an oval on an ellipsoid, with a nose, sockets and lips."""
    u, v = np.meshgrid(_COLUMNS, _ROWS)
    x = 0.74 * u * np.sqrt(1 - 0.42 * v**2)
    y = v * np.sqrt(1 - 0.3 * u**2)
    z = 0.85 * np.sqrt(np.maximum(1 - (x / 0.86) ** 2 - (y / 1.3) ** 2, 0.02))
    z[3, 3] += 0.26  # the nose
    z[2, 3] += 0.07
    z[2, [2, 4]] -= 0.05  # the eyes
    z[4, 3] += 0.05  # the lips
    return np.stack((x, y, z), -1).reshape(-1, 3)


def _basis() -> np.ndarray:
    """(K, V, 3): how shapes differ, for one deviation; all are symmetric."""
    mean = _template().reshape(GRID, GRID, 3)
    side = np.sign(mean[..., 0])
    modes = np.zeros((6, GRID, GRID, 3))
    modes[0, ..., 0] = 0.07 * mean[..., 0]  # wide or narrow
    modes[1, 4:, :, 0] = 0.1 * mean[4:, :, 0] * np.array([0.5, 0.8, 1.0])[:, None]  # jaw
    modes[2, 3, 3] = 0.0, 0.04, 0.09  # length of the nose
    modes[3, 4, [2, 4], 0] = 0.05 * side[4, [2, 4]]  # width of the mouth
    modes[4, 2, [2, 4], 0] = 0.04 * side[2, [2, 4]]  # distance of the eyes
    modes[5, 4:, :, 1] = 0.05 * np.array([0.6, 1.0, 1.2])[:, None]  # length of the chin
    return modes.reshape(6, -1, 3)


TEMPLATE, BASIS = _template(), _basis()


@dataclass(frozen=True)
class Head:
    """A shape in a pose.

    Attributes:
        vertices: (V, 3) after the rotation.
        rotation: (3, 3).
    """

    vertices: np.ndarray
    rotation: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, yaw: float, pitch: float, roll: float) -> Head:
        """A random shape and rotation; the angles are the largest ones, in radians."""
        shape = TEMPLATE + np.tensordot(np.clip(rng.normal(size=len(BASIS)), -2, 2), BASIS, 1)
        angles = rng.uniform(-1, 1, 3) * (yaw, pitch, 1)
        angles[2] = roll * angles[2] ** 3  # mostly upright
        rotation = rotate(*angles)
        return cls(shape @ rotation.T, rotation)

    def place(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) points of the head before its rotation -> (..., 3)."""
        return points @ self.rotation.T

    def normals(self) -> np.ndarray:
        """(V, 3) unit vectors out of the face."""
        faces = triangles()
        a, b, c = (self.vertices[faces[:, index]] for index in range(3))
        across = np.cross(b - a, c - a)
        total = np.zeros_like(self.vertices)
        for index in range(3):
            np.add.at(total, faces[:, index], across)
        return total / np.linalg.norm(total, axis=1, keepdims=True)


def rotate(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3): yaw turns about y, then pitch about x, then roll about z; radians."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def to_json() -> dict:
    """The topology as `metaheads.mesh` reads it."""
    return {
        "dimensions": 3,
        "num_vertices": NUM_VERTICES,
        "triangles": triangles().tolist(),
        "flip": FLIP.tolist(),
    }
