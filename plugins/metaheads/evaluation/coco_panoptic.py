"""PQ and VPQ of files: COCO panoptic JSON with a folder of PNGs."""

from __future__ import annotations

import functools
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from metaheads.evaluation.panoptic_quality import (
    LabelledSegment,
    Overlaps,
    PanopticQuality,
    PanopticScores,
    SegmentationError,
)

# The unit of work; sums are formed in it first, so that they do not depend on the processes.
_IMAGES_PER_PART = 32


class PanopticFiles:
    """A COCO panoptic JSON and its PNGs, read one at a time.

    Args:
        json_file: has `annotations` (image_id, file_name, segments_info with id, category_id and,
            of the truth, iscrowd) and, of the truth, `categories` (id, name, isthing).
        folder: of the PNGs, whose colours are ids: R + 256 G + 65536 B; 0 is void.

    Attributes:
        is_thing, names: by category; empty where the JSON has no categories.

    Raises:
        SegmentationError: another kind of JSON, or an image twice.
    """

    def __init__(self, json_file: str | Path, folder: str | Path) -> None:
        self.json_file, self.folder = Path(json_file), Path(folder)
        try:
            data = json.loads(self.json_file.read_bytes())
            self._annotations = {each["image_id"]: each for each in data["annotations"]}
            _ = [(each["file_name"], each["segments_info"]) for each in data["annotations"]]
            categories = data.get("categories", [])
            self.is_thing = {each["id"]: bool(each["isthing"]) for each in categories}
            self.names = {each["id"]: str(each.get("name", each["id"])) for each in categories}
            self._images = {each["id"]: each for each in data.get("images", [])}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise SegmentationError(
                f"{json_file}: no COCO panoptic file ({type(error).__name__}: {error}); it has "
                "categories with id and isthing, annotations with image_id, file_name and "
                "segments_info"
            ) from None
        if len(self._annotations) < len(data["annotations"]):
            raise SegmentationError(f"{json_file}: an image has more than one annotation")

    def __iter__(self) -> Iterator[Any]:
        """Ids of the images, in the order of the file."""
        return iter(self._annotations)

    def __contains__(self, image_id: Any) -> bool:
        return image_id in self._annotations

    def name_of(self, image_id: Any) -> str:
        return self._annotation(image_id)["file_name"]

    def read(self, image_id: Any) -> tuple[np.ndarray, list[LabelledSegment]]:
        """(H, W) uint32 ids, and the segments, of one image.

        Raises:
            SegmentationError: no such image, or a PNG that is not there or broken.
        """
        return read_png(self.path_of(image_id)), self.segments_of(image_id)

    def path_of(self, image_id: Any) -> Path:
        return self.folder / self.name_of(image_id)

    def segments_of(self, image_id: Any) -> list[LabelledSegment]:
        try:
            return [
                LabelledSegment(each["id"], each["category_id"], bool(each.get("iscrowd", 0)))
                for each in self._annotation(image_id)["segments_info"]
            ]
        except (LookupError, TypeError, AttributeError):
            raise SegmentationError(
                f"{self.json_file}, image {image_id}: segments_info has id and category_id each"
            ) from None

    def to_videos(self) -> list[list[Any]]:
        """Ids of the images of each video, in the order of frame_id; an image without video_id is
        alone."""
        videos: dict[Any, list[Any]] = {}
        for image_id in self:
            video = self._images.get(image_id, {}).get("video_id")
            videos.setdefault(("image", image_id) if video is None else video, []).append(image_id)
        for frames in videos.values():
            frames.sort(key=lambda each: self._images.get(each, {}).get("frame_id", 0))
        return list(videos.values())

    def _annotation(self, image_id: Any) -> dict[str, Any]:
        if image_id not in self._annotations:
            raise SegmentationError(f"{self.json_file} has no annotation of image {image_id}")
        return self._annotations[image_id]


def read_png(path: Path) -> np.ndarray:
    """A PNG -> (H, W) uint32 ids of segments: R + 256 G + 65536 B.

    Raises:
        SegmentationError: not there, or broken.
    """
    try:
        with Image.open(path) as image:
            colors = np.asarray(image.convert("RGBA"))  # (H, W, 4)
    except (OSError, SyntaxError, ValueError) as error:
        raise SegmentationError(f"{path} is not there or broken: {error}") from None
    return colors.view("<u4")[..., 0] & 0xFFFFFF


def evaluate_panoptic_files(
    truth_json: str | Path,
    truth_folder: str | Path,
    found_json: str | Path,
    found_folder: str | Path,
    *,
    window_sizes: Sequence[int] = (1,),
    processes: int = 1,
    progress: Callable[[int], object] = lambda images: None,
) -> PanopticScores:
    """PQ of a folder of predictions, or VPQ where the images of the truth have a video_id.

    A process holds the maps of one frame at a time. The result does not depend on the number of
    processes, not even in its last digit.

    Args:
        truth_json, truth_folder: COCO panoptic JSON and PNGs; its categories are evaluated.
        found_json, found_folder: the same for the prediction; images that the truth lacks are
            ignored.
        window_sizes: frames per window; (1, 2, 3, 4) for VPQ.
        processes: how many work; more than one are started anew, hence a script needs its
            `if __name__ == "__main__"`.
        progress: called with the number of images done since the last call.

    Raises:
        SegmentationError: names the image that has no prediction or whose map is at fault.
    """
    truth, found = PanopticFiles(truth_json, truth_folder), PanopticFiles(found_json, found_folder)
    if missing := [each for each in truth if each not in found]:
        raise SegmentationError(
            f"{found_json} has no prediction for {len(missing)} images, the first is {missing[0]}"
        )
    quality = PanopticQuality(truth.is_thing, window_sizes)
    parts = list(_split(truth.to_videos()))
    jobs = ([[_job(truth, found, each) for each in video] for video in part] for part in parts)
    work = functools.partial(_measure, truth.is_thing, quality.window_sizes)
    try:
        for part, statistics in zip(parts, _map(work, jobs, processes), strict=True):
            quality.statistics += statistics
            progress(sum(map(len, part)))
    except SegmentationError as error:  # of another process, or not: it says all
        raise SegmentationError(str(error)) from None
    return quality.compute()


class _Job(NamedTuple):
    """One frame."""

    name: str
    truth: Path
    truth_segments: list[LabelledSegment]
    found: Path
    found_segments: list[LabelledSegment]


def _job(truth: PanopticFiles, found: PanopticFiles, image: Any) -> _Job:
    return _Job(
        f"image {image} ({truth.name_of(image)})",
        truth.path_of(image),
        truth.segments_of(image),
        found.path_of(image),
        found.segments_of(image),
    )


def _split(videos: Iterable[list[Any]]) -> Iterator[list[list[Any]]]:
    """Whole videos, in parts of about as many images."""
    part: list[list[Any]] = []
    for video in videos:
        part.append(video)
        if sum(map(len, part)) >= _IMAGES_PER_PART:
            yield part
            part = []
    if part:
        yield part


def _map(function: Callable, jobs: Iterable, processes: int) -> Iterator[np.ndarray]:
    """Results in the order of the jobs."""
    if processes == 1:
        yield from map(function, jobs)
        return
    # Not by fork: the caller may have threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from pool.map(function, jobs)


def _measure(
    is_thing: dict[int, bool], window_sizes: Sequence[int], videos: Sequence[Sequence[_Job]]
) -> np.ndarray:
    """The statistics of some videos."""
    quality = PanopticQuality(is_thing, window_sizes)
    for video in videos:
        frames = (_count(frame) for frame in video)
        quality.update_overlaps(frames, [frame.name for frame in video])
    return quality.statistics


def _count(frame: _Job) -> Overlaps:
    return Overlaps.of_frame(
        read_png(frame.truth),
        frame.truth_segments,
        read_png(frame.found),
        frame.found_segments,
        frame.name,
    )
