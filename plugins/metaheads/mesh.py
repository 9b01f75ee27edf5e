"""The mesh that all objects of a class share: its triangles, and what a mirror does to it.

Letters: V vertices, F triangles, E edges.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

_KEYS = ("dimensions", "num_vertices", "triangles", "flip")


@dataclass(frozen=True)
class MeshTopology:
    """The topology of a mesh.

    Attributes:
        dimensions: 2 for x, y; 3 for x, y, z.
        num_vertices: V.
        triangles: (F, 3) int64 vertices.
        flip: (V,) int64, which vertex of the mirrored mesh each one is; its own inverse.
    """

    dimensions: int
    num_vertices: int
    triangles: ndarray
    flip: ndarray

    @classmethod
    def from_json(cls, path: str | Path) -> MeshTopology:
        """Reads {"dimensions": 3, "num_vertices": V, "triangles": [[i, j, k], ...], "flip": [...]}.

        Raises:
            FileNotFoundError: there is no such file; names it.
            ValueError: no JSON, or an item that is not as said above; names file and item.
        """
        try:
            content = json.loads(Path(path).read_text())
        except FileNotFoundError:
            raise FileNotFoundError(
                f"mesh file {path}: no such file; correct the path in the config"
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no JSON file: {error}") from None
        if not isinstance(content, dict) or (absent := [k for k in _KEYS if k not in content]):
            named = ", ".join(absent) if isinstance(content, dict) else ", ".join(_KEYS)
            raise ValueError(f"{path} lacks {named}: a mesh file is an object with {_KEYS}")
        dimensions, count = content["dimensions"], content["num_vertices"]
        if dimensions not in (2, 3) or isinstance(dimensions, bool):
            raise ValueError(f"{path}: dimensions must be 2 or 3, got {dimensions!r}")
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"{path}: num_vertices must be a positive integer, got {count!r}")
        triangles = _indices(content["triangles"], count, (-1, 3), f"{path}: triangles")
        flip = _indices(content["flip"], count, (count,), f"{path}: flip")
        wrong = np.flatnonzero(flip[flip] != np.arange(count))
        if len(wrong):
            first = int(wrong[0])
            raise ValueError(
                f"{path}: flip must be its own inverse, but flip[{first}] is {flip[first]} and "
                f"flip[{flip[first]}] is {flip[flip[first]]}"
            )
        return cls(dimensions, count, triangles, flip)

    def read_vertices(self, given: Sequence[list[float] | None], where: str) -> ndarray:
        """Flat lists of an annotation file -> (N, V, D) float32, NaN where there is None.

        Args:
            where: for messages, what the lists belong to.

        Raises:
            ValueError: a list of another length.
        """
        shape = self.num_vertices, self.dimensions
        found = np.full((len(given), *shape), np.nan, np.float32)
        for target, values in zip(found, given, strict=True):
            if values is None:
                continue
            if len(values) != shape[0] * shape[1]:
                raise ValueError(
                    f"{where}vertices of an object are {len(values)} numbers, but the mesh has "
                    f"{shape[0]} vertices in {shape[1]} dimensions: {shape[0] * shape[1]} numbers"
                )
            target[:] = np.reshape(values, shape)
        return found

    @functools.cached_property
    def edges(self) -> ndarray:
        """(E, 2) int64, every edge of the triangles once, the lower vertex first, ascending."""
        pairs = self.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
        return np.unique(np.sort(pairs, 1), axis=0)


def _indices(values: Any, count: int, shape: tuple[int, ...], what: str) -> ndarray:
    """Vertices as int64.

    Raises:
        ValueError: other things, another shape (-1: any length), or no vertex of the mesh.
    """
    spelled = "x".join("n" if length < 0 else str(length) for length in shape)
    try:
        found = np.array(values)
    except ValueError:
        raise ValueError(f"{what} must be {spelled} integers, but its rows differ") from None
    if not found.size and shape[0] < 0:
        return np.zeros((0, *shape[1:]), np.int64)
    fits = found.ndim == len(shape) and found.dtype.kind == "i"
    if not fits or any(want not in (-1, got) for want, got in zip(shape, found.shape, strict=True)):
        raise ValueError(f"{what} must be {spelled} integers, got {found.dtype} {found.shape}")
    outside = np.argwhere((found < 0) | (found >= count))
    if len(outside):
        place = tuple(outside[0].tolist())
        raise ValueError(
            f"{what}{list(place)} is {found[place]}, but the vertices are 0 to {count - 1}"
        )
    return found.astype(np.int64)
