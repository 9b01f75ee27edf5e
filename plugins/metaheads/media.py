"""Pictures in: images, folders, patterns, videos and cameras, one frame at a time, in order."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".gif"}


@dataclass
class Frame:
    """One picture of a source.

    Attributes:
        index: 0-based number in its video; 0 of an image.
        image: (H, W, 3) uint8 RGB; None if it cannot be read.
        fault: why it cannot be read, with the remedy.
    """

    index: int
    image: np.ndarray | None
    fault: str = ""


class Source:
    """An image, a video or a camera; iterating yields its frames.

    Attributes:
        name: as the user knows it.
        path: the file; None of a camera.
        rate: frames per second; None of an image.
        length: how many frames, as far as that is known.
    """

    name: str
    path: Path | None
    rate: float | None
    length: int | None

    def __iter__(self) -> Iterator[Frame]:
        raise NotImplementedError


def find_sources(inputs: list[str]) -> list[Source]:
    """Files, folders, patterns ("shots/*.jpg") and cameras ("camera:0") -> sources, in order.

    Raises:
        FileNotFoundError: an input does not exist, or there is no picture in it.
        ValueError: a file that is neither image nor video, or no camera that answers.
    """
    found: list[Source] = []
    for given in inputs:
        if given.startswith("camera:"):
            found.append(VideoSource(given))
            continue
        path = Path(given)
        if path.is_dir():
            inside = [each for each in sorted(path.iterdir()) if _is_picture(each)]
        elif path.is_file():
            inside = [path]
        else:
            inside = [each for each in map(Path, sorted(glob.glob(given))) if _is_picture(each)]
        if not inside:
            what = (
                "no image or video in the folder" if path.is_dir() else "no image, video or folder"
            )
            raise FileNotFoundError(f"{what} {given}")
        found += [_open(each) for each in inside]
    return found


def find_images(inputs: list[str], count: int) -> list[Path]:
    """The first so many image files of files, folders and patterns; videos are left out.

    Raises:
        FileNotFoundError, ValueError: as `find_sources`, or there is no image.
    """
    found = [each.path for each in find_sources(inputs) if isinstance(each, ImageSource)][:count]
    if not found:
        raise ValueError(f"no image in {', '.join(inputs)}")
    return found


def read_image(path: str | Path) -> np.ndarray:
    """An image file -> (H, W, 3) uint8 RGB, upright.

    Raises:
        FileNotFoundError, ValueError: no such file; not an image.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no image {path}")
    try:  # Pillow refuses files that are cut off; OpenCV fills what is missing with grey
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not an image, or it is broken ({error}): replace it") from None


def write_image(path: str | Path, image: np.ndarray) -> None:
    """(H, W, 3) uint8 RGB -> a file, whose suffix says the format.

    Raises:
        ValueError: OpenCV cannot write there, or not in this format.
    """
    pixels = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    try:
        is_written = cv2.imwrite(str(path), pixels)
    except cv2.error:  # a suffix that it does not know
        is_written = False
    if not is_written:
        raise ValueError(f"{path} cannot be written: is the folder there, and does it end in .png?")


class ImageSource(Source):
    """An image file."""

    path: Path

    def __init__(self, path: Path) -> None:
        self.name, self.path = str(path), path
        self.rate, self.length = None, 1

    def __iter__(self) -> Iterator[Frame]:
        try:
            yield Frame(0, read_image(self.path))
        except ValueError as error:
            yield Frame(0, None, str(error))


class VideoSource(Source):
    """A video file or a camera ("camera:0"), decoded frame by frame by OpenCV.

    Behind frames that cannot be decoded it reads on, but OpenCV may lose more of them than it says:
    the numbers of the others are then too low, and the rest is reported as missing at the end.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._camera = name.partition("camera:")[2] if name.startswith("camera:") else None
        if self._camera is not None and not self._camera.isdecimal():
            raise ValueError(f"{name}: write camera: and the number of the camera, as in camera:0")
        self.path = Path(name) if self._camera is None else None
        capture = self._open()
        if self._camera is not None and not capture.isOpened():
            raise ValueError(f"{name} cannot be opened: is another program using it?")
        self.rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
        length = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.length = length if self._camera is None and length > 0 else None
        capture.release()

    def __iter__(self) -> Iterator[Frame]:
        capture = self._open()
        if not capture.isOpened():
            yield Frame(
                0, None, f"{self.name} cannot be opened: it is broken, or no video; copy it again"
            )
            return
        index, broken = 0, 0
        try:
            # A broken frame may lie in the middle: whoever knows the length reads on.
            while True:
                is_there, pixels = capture.read()
                is_over = not is_there and (self.length is None or index >= self.length)
                if broken and (is_there or is_over):
                    yield Frame(index - broken, None, self._fault(index - broken, index - 1))
                    broken = 0
                if is_over:
                    break
                if is_there:
                    yield Frame(index, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
                else:
                    broken += 1
                index += 1
        finally:
            capture.release()

    def _fault(self, first: int, last: int) -> str:
        which = f"frame {first}" if first == last else f"frames {first} to {last}"
        return (
            f"{self.name}: {which} of {self.length} (from 0) cannot be decoded: the video is cut "
            "off or damaged; copy it again"
        )

    def _open(self) -> cv2.VideoCapture:
        return cv2.VideoCapture(self.name if self._camera is None else int(self._camera))


class VideoWriter:
    """Writes frames to an MP4 file as they come; the first one sets the size.

    Args:
        path: the file.
        rate: frames per second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate = path, rate
        self._writer: cv2.VideoWriter | None = None

    def write(self, image: np.ndarray) -> None:
        """(H, W, 3) uint8 RGB; all of one size.

        Raises:
            ValueError: OpenCV here cannot write such a file.
        """
        if self._writer is None:
            size = (image.shape[1], image.shape[0])
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._path), code, self._rate, size)
            if not self._writer.isOpened():
                raise ValueError(f"{self._path}: OpenCV here cannot write MP4 videos")
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def _open(path: Path) -> Source:
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return VideoSource(str(path))
    if suffix in IMAGE_SUFFIXES:
        return ImageSource(path)
    raise ValueError(
        f"{path} is neither image nor video; images end in {', '.join(sorted(IMAGE_SUFFIXES))}, "
        f"videos in {', '.join(sorted(VIDEO_SUFFIXES))}"
    )
