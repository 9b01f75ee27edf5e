"""The text files of faces with five points: RetinaFace's, SCRFD's and WIDER FACE's own.

Points are (x, y) in pixels: the left eye, the right eye, the nose, the left and the right corner of
the mouth, left and right as the viewer sees them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy import ndarray

FACE_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
FACE_FLIP_PAIRS = ((0, 1), (3, 4))  # what a mirror swaps

_POINT_NUMBERS = 3 * len(FACE_POINTS)
_OCCLUDED, _MISSING = 1, -1


@dataclass(frozen=True)
class Face:
    """One face of a text file.

    Attributes:
        box: x, y, width, height in pixels, as they stand in the file.
        points: (5, 3) float64 x, y, flag (0 visible, 1 occluded, -1 missing) as they stand in the
            file, or None where the line has none.
        line: number of its line, from 1.
        is_ignored: the file itself says that it is no face to learn from (WIDER's "invalid").
    """

    box: tuple[float, float, float, float]
    points: ndarray | None
    line: int
    is_ignored: bool = False

    @property
    def has_points(self) -> bool:
        """By the authors' rule: the first point's x is not negative."""
        return self.points is not None and bool(self.points[0, 0] >= 0)

    @property
    def keypoints(self) -> ndarray:
        """(5, 3) x, y, visibility (0 absent, 1 occluded, 2 visible); zeros without points.

        Points outside of the image stay where they are.
        """
        if self.points is None or not self.has_points:
            return np.zeros((len(FACE_POINTS), 3))
        flags = self.points[:, 2:]
        visibility = np.where(flags == _MISSING, 0, np.where(flags == _OCCLUDED, 1, 2))
        return np.where(visibility > 0, np.hstack((self.points[:, :2], visibility)), 0)


@dataclass
class FaceImage:
    """An image of a text file.

    Attributes:
        path: as it stands in the file.
        line: number of its line, from 1.
        size: (height, width) where the file says it.
    """

    path: str
    line: int
    size: tuple[int, int] | None = None
    faces: list[Face] = field(default_factory=list)


def read_retinaface(path: Path) -> list[FaceImage]:
    """RetinaFace's `label.txt`: a line "# path", then a line for each face.

    A face is x, y, width, height, five times x, y, flag, and the blur; in the validation file its
    box alone.

    Raises:
        ValueError: a line is neither; names it.
    """
    return _read_marked(path, (4, 5 + _POINT_NUMBERS), lambda numbers: numbers[:4], has_size=False)


def read_scrfd(path: Path) -> list[FaceImage]:
    """SCRFD's `labelv2.txt`: "# path width height", then x1, y1, x2, y2 and the points, if any.

    Raises:
        ValueError: a line is neither; names it.
    """

    def to_box(numbers: list[float]) -> list[float]:
        x1, y1, x2, y2 = numbers[:4]
        return [x1, y1, x2 - x1, y2 - y1]

    return _read_marked(path, (4, 4 + _POINT_NUMBERS), to_box, has_size=True)


def read_wider(path: Path) -> list[FaceImage]:
    """WIDER FACE's `wider_face_*_bbx_gt.txt`: path, number of faces, a line of numbers for each.

    A face is x, y, width, height, blur, expression, illumination, invalid, occlusion, pose. An
    image without faces has one line of zeros, which is none.

    Raises:
        ValueError: a line is not what it should be; names it.
    """
    lines, images, at = _lines(path), [], 0
    while at < len(lines):
        name = lines[at].strip()
        if not name:
            at += 1
            continue
        image = FaceImage(name, at + 1)
        count_line = lines[at + 1].strip() if at + 1 < len(lines) else ""
        if not count_line.isdigit():
            raise ValueError(
                f"{path}, line {at + 2}: expected the number of faces of {name}, got {count_line!r}"
            )
        count, first = int(count_line), at + 2
        at = first + max(count, 1)
        if at > len(lines) and count:
            raise ValueError(f"{path} ends before the {count} faces of {name}, line {first - 1}")
        for number in range(first, first + count):
            numbers = _parse(lines[number], (4, 10), f"{path}, line {number + 1}")
            is_ignored = len(numbers) == 10 and numbers[7] == 1
            image.faces.append(Face(_box(numbers), None, number + 1, is_ignored))
        if not count and first < len(lines) and set(lines[first].split()) - {"0"}:
            at = first  # the line of zeros is left out
        images.append(image)
    return images


def _read_marked(
    path: Path, counts: tuple[int, int], to_box: Callable, *, has_size: bool
) -> list[FaceImage]:
    """Files whose images begin with "#"; a face has `counts` numbers, without or with points."""
    images: list[FaceImage] = []
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}, line {number}"
        if line.startswith("#"):
            images.append(_image(line[1:].strip(), number, where, has_size))
        elif line.strip():
            if not images:
                raise ValueError(f'{where}: a face before the first image, a line "# path"')
            numbers = _parse(line, counts, where)
            points = None
            if len(numbers) > 4:
                points = np.reshape(numbers[4 : 4 + _POINT_NUMBERS], (-1, 3))
                strange = set(points[:, 2].tolist()) - {0, _OCCLUDED, _MISSING}
                if strange:
                    raise ValueError(
                        f"{where}: a point's flag is 0 (visible), 1 (occluded) or -1 (missing), "
                        f"not {strange.pop():g}"
                    )
            images[-1].faces.append(Face(_box(to_box(numbers)), points, number))
    return images


def _image(words: str, line: int, where: str, has_size: bool) -> FaceImage:
    if not has_size:
        if not words:
            raise ValueError(f'{where}: "#" without the path of an image')
        return FaceImage(words, line)
    path, *size = words.rsplit(maxsplit=2)
    if len(size) != 2 or not all(each.isdigit() for each in size):
        raise ValueError(f'{where}: expected "# path width height", got {words!r}')
    return FaceImage(path, line, (int(size[1]), int(size[0])))


def _box(numbers: list[float]) -> tuple[float, float, float, float]:
    x, y, width, height = numbers[:4]
    return x, y, width, height


def _parse(line: str, counts: tuple[int, int], where: str) -> list[float]:
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError:
        raise ValueError(f"{where}: {line.strip()!r} is no line of numbers") from None
    if len(numbers) not in counts:
        raise ValueError(
            f"{where}: a face is {counts[0]} or {counts[1]} numbers, not {len(numbers)}"
        )
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{where}: {line.strip()!r} holds numbers that are not finite")
    return numbers


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not there, or no text file: {error}") from None
