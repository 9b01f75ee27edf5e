"""What `metaheads demo` writes besides pictures: results.json; panoptic.json and its PNGs; faces.

The files grow entry by entry and are whole at any end, an error's as well; until then those of an
earlier run stay.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from metaheads.alignment import ARCFACE_POINTS, align_face
from metaheads.datasets.panoptic import describe_segments, to_colors
from metaheads.media import Frame, Source, write_image
from metaheads.structures import Detections, PanopticSegmentation

PNGS = "panoptic"  # the folder of the panoptic PNGs
ALIGNED = "aligned"  # the folder of the aligned faces


class ResultsFile:
    """A JSON list.

    Args:
        path: the file; None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: TextIO | None = None

    def __enter__(self) -> ResultsFile:
        if self._path:
            self._file = open(_unfinished(self._path), "w", encoding="utf-8")
            self._list = _List(self._file)
        return self

    def add(self, entries: Iterator[dict[str, Any]]) -> None:
        if self._file:
            for entry in entries:
                self._list.add(entry)

    def __exit__(self, *_: Any) -> None:
        if self._file:
            self._list.end()
            self._file.write("\n")
            self._file.close()
            assert self._path is not None
            _unfinished(self._path).replace(self._path)


class PanopticResults:
    """COCO's panoptic format: `panoptic.json`, and in the folder `panoptic` a PNG per picture.

    A picture `street.jpg` has `street.png`, the frames of a video `clip.mp4` have
    `clip/000000.png`, ...; these also video_id and frame_id. Category ids are labels, 0 in a PNG
    is void, unknown objects included.

    Args:
        folder: of both; None writes nothing.
        class_names: of things, then of stuff.
        num_things: how many of them are things; None of other models.
    """

    def __init__(
        self, folder: Path | None, class_names: Sequence[str], num_things: int | None
    ) -> None:
        self._folder = folder
        self._categories = [
            {"id": label, "name": name, "isthing": int(label < (num_things or 0))}
            for label, name in enumerate(class_names)
        ]
        self._file: TextIO | None = None
        self._count = 0

    @property
    def _path(self) -> Path:
        assert self._folder is not None
        return self._folder / "panoptic.json"

    def __enter__(self) -> PanopticResults:
        if self._folder:
            (self._folder / PNGS).mkdir(exist_ok=True)
            # The images come behind the annotations, however many there are.
            self._images_file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
            self._images = _List(self._images_file)
            self._file = open(_unfinished(self._path), "w", encoding="utf-8")
            self._file.write(f'{{"categories": {json.dumps(self._categories)},\n"annotations": ')
            self._annotations = _List(self._file)
        return self

    def add(
        self, found: PanopticSegmentation, name: str, source: Source, number: int, frame: Frame
    ) -> None:
        """Writes the PNG of a frame, then its entries.

        Args:
            name: of the source's files, without a suffix.
            number: of the source, from 1.

        Raises:
            ValueError: the PNG cannot be written.
        """
        if not self._file or not self._folder:
            return
        ids = found.ids.numpy()
        png = f"{name}/{frame.index:06d}.png" if source.rate else f"{name}.png"
        path = self._folder / PNGS / png
        path.parent.mkdir(exist_ok=True)
        write_image(path, to_colors(ids))
        self._count += 1
        image: dict[str, Any] = {"id": self._count, "file_name": source.name}
        image |= {"height": ids.shape[0], "width": ids.shape[1]}
        if source.rate:
            image |= {"video_id": number, "frame_id": frame.index}
        self._images.add(image)
        segments = describe_segments(ids, found.segments)
        self._annotations.add(
            {"image_id": self._count, "file_name": png, "segments_info": segments}
        )

    def __exit__(self, *_: Any) -> None:
        if self._file:
            self._annotations.end()
            self._file.write(',\n"images": ')
            self._images.end()
            self._images_file.seek(0)
            shutil.copyfileobj(self._images_file, self._file)
            self._file.write("}\n")
            self._file.close()
            self._images_file.close()
            _unfinished(self._path).replace(self._path)


class AlignedFaces:
    """Each detection upright by its five keypoints, a PNG of 112 x 112 pixels in `aligned`.

    `street.jpg` has `street_000.png`, ...; a frame of `clip.mp4` `clip_000012_000.png`, ... What an
    earlier run found in a frame goes, as its picture does; what it found in others stays.

    Args:
        folder: in which `aligned` is made; None writes nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder and folder / ALIGNED
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)

    def add(
        self, found: Detections | PanopticSegmentation, name: str, source: Source, frame: Frame
    ) -> None:
        """Writes the faces of a frame.

        Raises:
            ValueError: the model does not give five keypoints.
        """
        if not self._folder:
            return
        keypoints = getattr(found, "keypoints", None)
        if keypoints is None or keypoints.shape[1] != len(ARCFACE_POINTS):
            given = "none" if keypoints is None else keypoints.shape[1]
            raise ValueError(
                f"--align needs a model of five keypoints (eyes, nose, corners of the mouth), such "
                f"as RetinaFace; this one gives {given}: leave it out"
            )
        assert frame.image is not None
        stem = f"{name}_{frame.index:06d}" if source.rate else name
        paths = (self._folder / f"{stem}_{index:03d}.png" for index in itertools.count())
        for points, path in zip(keypoints[..., :2].numpy(), paths, strict=False):
            write_image(path, align_face(frame.image, points))
        for path in itertools.takewhile(Path.exists, paths):
            path.unlink()


class _List:
    """Writes a JSON list entry by entry; an interruption leaves none half written."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._file.write("[")
        self._separator = "\n"

    def add(self, entry: dict[str, Any]) -> None:
        self._file.write(self._separator + json.dumps(entry))
        self._separator = ",\n"

    def end(self) -> None:
        self._file.write("\n]")


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def to_coco(
    found: Detections, image_id: int, file_name: str, frame: Frame, class_names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Finished detections as entries of a COCO results file; category_id is the 0-based label."""
    from pycocotools import mask as rle

    for index in range(len(found)):
        x1, y1, x2, y2 = found.boxes[index].tolist()
        label = int(found.labels[index])
        entry: dict[str, Any] = {
            "image_id": image_id,
            "file_name": file_name,
            "frame": frame.index,
            "category_id": label,
            "category_name": class_names[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(found.scores[index]),
        }
        if found.keypoints is not None:
            entry["keypoints"] = found.keypoints[index].flatten().tolist()
        if found.vertices is not None:
            entry["vertices"] = found.vertices[index].flatten().tolist()
        if found.masks is not None:
            encoded = rle.encode(np.asfortranarray(found.masks[index].numpy().astype(np.uint8)))
            entry["segmentation"] = {**encoded, "counts": encoded["counts"].decode()}
        yield entry
