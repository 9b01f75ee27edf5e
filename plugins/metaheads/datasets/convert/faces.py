"""Text files of faces with five points -> COCO keypoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from metaheads.datasets.convert.coco import CocoBuilder, ConversionError, image_size
from metaheads.datasets.face_labels import (
    FACE_POINTS,
    FaceImage,
    read_retinaface,
    read_scrfd,
    read_wider,
)

_CLASS = "face"


def convert_retinaface(
    source: Path, classes: Sequence[str] | None = None, progress: Callable = lambda: None
) -> CocoBuilder:
    """`label.txt` and `images/` beside it; `source` is their folder, or the file.

    File names become relative to `images`. Faces without points have visibility 0 throughout;
    points outside of the image stay. A box without area becomes a crowd, which is ignored.

    Args:
        classes: the one name of the class, "face" where it is left out.

    Raises:
        ConversionError: no such file, an image that is not there, or several class names.
        ValueError: a malformed line; names it.
    """
    return _convert(_find(source, "label.txt"), read_retinaface, classes, progress)


def convert_scrfd(
    source: Path, classes: Sequence[str] | None = None, progress: Callable = lambda: None
) -> CocoBuilder:
    """`labelv2.txt`; otherwise as `convert_retinaface`."""
    return _convert(_find(source, "labelv2.txt"), read_scrfd, classes, progress)


def convert_wider(
    source: Path, classes: Sequence[str] | None = None, progress: Callable = lambda: None
) -> CocoBuilder:
    """`wider_face_*_bbx_gt.txt`, faces without points; otherwise as `convert_retinaface`.

    Faces that it calls invalid become crowds.
    """
    return _convert(_find(source, "wider_face_*_bbx_gt.txt"), read_wider, classes, progress)


def _find(source: Path, pattern: str) -> Path:
    if source.is_file():
        return source
    found = sorted(source.glob(pattern))
    if len(found) != 1:
        named = ", ".join(each.name for each in found) or "none"
        raise ConversionError(f"expected one {pattern} in the folder {source}, found {named}")
    return found[0]


def _convert(
    file: Path,
    read: Callable[[Path], list[FaceImage]],
    classes: Sequence[str] | None,
    progress: Callable,
) -> CocoBuilder:
    names = tuple(classes or (_CLASS,))
    if len(names) != 1:
        raise ConversionError(f"{file} has faces only: give one class name, not {names}")
    builder = CocoBuilder(names, keypoints=FACE_POINTS)
    folder = file.parent / "images"
    if not folder.is_dir():
        raise ConversionError(f"no folder {folder}: the images of {file.name} lie there")
    for image in read(file):
        size = image_size(folder / image.path)
        if image.size not in (None, size):
            raise ConversionError(
                f"{file}, line {image.line}, is for an image of {image.size} (height, width), but "
                f"{image.path} has {size}: was it resized? Restore it, or annotate it anew"
            )
        builder.add_image(image.path, size)
        for face in image.faces:
            where = f"{file}, line {face.line}"
            is_empty = min(face.box[2:]) <= 0
            if is_empty or face.is_ignored:
                reason = "a box without area" if is_empty else "called invalid"
                builder.ignored.append(f"{where}: {reason}")
            builder.add_box(
                names[0],
                [*face.box[:2], *(max(side, 0.0) for side in face.box[2:])],
                where=where,
                is_crowd=is_empty or face.is_ignored,
                keypoints=face.keypoints.ravel().tolist(),
            )
        progress()
    return builder
