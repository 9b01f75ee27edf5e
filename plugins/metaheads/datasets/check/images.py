"""Faults of image files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from metaheads.datasets.image_files import list_missing
from metaheads.messages import list_some

_EXIF_ORIENTATION = 0x0112


def find_missing_images(images: list[dict[str, Any]], folder: Path) -> Iterator[str]:
    missing = list_missing([image["file_name"] for image in images], folder)
    if missing:
        yield (
            f"images that are not in {folder}: {list_some(missing)}; correct the image folder in "
            f"the config, or remove them from the file"
        )


def find_broken_images(
    images: list[dict[str, Any]], folder: Path, progress: Callable[[], Any] = lambda: None
) -> Iterator[str]:
    """Decodes the images."""
    broken, other_size = [], []
    with ThreadPoolExecutor() as pool:
        results = pool.map(_size_or_fault, [folder / image["file_name"] for image in images])
        for image, (path, size, fault) in zip(images, results, strict=True):
            stated = (image["height"], image["width"])
            if fault:
                broken.append(f"{path} ({fault})")
            elif size != stated:
                other_size.append(f"{path} ({size}, in the file {stated})")
            progress()
    if broken:
        yield f"images that cannot be decoded: {list_some(broken)}; replace or remove them"
    if other_size:
        yield (
            f"images of another size (height, width) than in the file: {list_some(other_size)}; "
            f"were they resized? Masks and boxes would not fit: restore them or scale the file"
        )


def _size_or_fault(path: Path) -> tuple[Path, tuple[int, int] | None, str]:
    try:
        return path, decoded_size(path), ""
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises
        return path, None, str(error) or type(error).__name__


def decoded_size(path: Path) -> tuple[int, int]:
    """(height, width) as the hosts read it, upright by EXIF; decodes all of it.

    Raises:
        OSError, SyntaxError, ValueError: Pillow cannot decode it, or it is cut off.
    """
    with Image.open(path) as image:
        size = upright_size(image)
        image.draft("RGB", (1, 1))  # JPEG: an eighth of the size in a third of the time
        image.load()
    return size


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) after the turn that its EXIF asks for."""
    width, height = image.size
    lies = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
    return (width, height) if lies else (height, width)


def evenly_spaced(images: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """`count` of the images, or all, from the first on."""
    if count <= 0:
        return []
    step = max(len(images) / count, 1)
    return [images[int(index * step)] for index in range(min(count, len(images)))]
