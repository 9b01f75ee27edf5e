"""COCO's panoptic format: a JSON with the segments, a PNG per image with their ids as colours.

id = R + 256 G + 65536 B, 0 is void. Labels number the things 0..T-1, then the stuff T..T+S-1, each
in the order of the file's categories or of given class names; 255 (`VOID`) is where nothing is
known: void, crowds, and categories that the class names leave out. Kirillov et al., "Panoptic
Segmentation" (arXiv 1801.00868), section 3; format: cocodataset.org/#format-data.

Letters: N things, M segments, H, W pixels of the image.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray
from PIL import Image

from metaheads.datasets.image_files import locate_images
from metaheads.datasets.transforms import Record
from metaheads.datasets.views import VOID
from metaheads.messages import list_some
from metaheads.structures import Segment

_MODES = ("RGB", "RGBA", "P")  # of PNGs whose colours can be ids


@dataclass(frozen=True)
class LabelSpace:
    """How labels and the categories of a file belong together.

    Attributes:
        thing_classes, stuff_classes: names by ascending label.
        thing_ids, stuff_ids: ids of their categories, in the same order.
    """

    thing_classes: tuple[str, ...]
    stuff_classes: tuple[str, ...]
    thing_ids: tuple[int, ...]
    stuff_ids: tuple[int, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of all labels."""
        return self.thing_classes + self.stuff_classes

    @property
    def labels(self) -> dict[int, int]:
        """Category id -> label; without categories that the class names leave out."""
        return {each: label for label, each in enumerate(self.thing_ids + self.stuff_ids)}


class SegmentInfo(NamedTuple):
    """What the JSON says of a segment; `label` is VOID where the class names leave it out."""

    id: int
    label: int
    is_thing: bool
    is_crowd: bool


class Entry(NamedTuple):
    """An image of the JSON with its segments; `png` is the name of the PNG."""

    image: dict[str, Any]
    png: str
    segments: tuple[SegmentInfo, ...]


class PanopticFile(NamedTuple):
    """A JSON whose segments are labelled; images without annotation are left out."""

    space: LabelSpace
    entries: list[Entry]


def read_file(
    file: str | Path,
    thing_classes: Sequence[str] | None = None,
    stuff_classes: Sequence[str] | None = None,
    *,
    image_folder: str | Path | None = None,
) -> PanopticFile:
    """Reads a JSON; the PNGs are not opened.

    Args:
        thing_classes, stuff_classes: names in the order of the labels; None for all of the file's.
        image_folder: images are looked for here and in its sub-folders (`locate_images`); without
            it their names are the file's.

    Raises:
        ValueError: no COCO panoptic file, a class, an image or a category that it lacks, or an
            image that may be several files.
    """
    data = read_json(file)
    space = find_labels(data["categories"], thing_classes, stuff_classes, file)
    is_thing = {each["id"]: bool(each["isthing"]) for each in data["categories"]}
    labels = dict.fromkeys(is_thing, VOID) | space.labels
    located = (
        data["images"] if image_folder is None else locate_images(data["images"], image_folder)
    )
    images = {each["id"]: each for each in located}
    entries = []
    for annotation in data["annotations"]:
        name = annotation["file_name"]
        if annotation["image_id"] not in images:
            raise ValueError(
                f"{file}: {name} belongs to image {annotation['image_id']!r}, which is not in "
                "images; add it"
            )
        for each in annotation["segments_info"]:
            if each["category_id"] not in labels:
                raise ValueError(
                    f"{file}: segment {each['id']} of {name} has category "
                    f"{each['category_id']!r}, which is not in categories; add it"
                )
        segments = tuple(
            SegmentInfo(
                each["id"],
                labels[each["category_id"]],
                is_thing[each["category_id"]],
                bool(each.get("iscrowd", 0)),
            )
            for each in annotation["segments_info"]
        )
        entries.append(Entry(images[annotation["image_id"]], name, segments))
    return PanopticFile(space, entries)


def read_json(file: str | Path) -> dict[str, Any]:
    """The content, whose entries have the fields that are read here.

    Raises:
        ValueError: no file, no JSON, or no COCO panoptic annotations.
    """
    try:
        data = json.loads(Path(file).read_bytes())
        _ = [(each["id"], each["name"], each["isthing"]) for each in data["categories"]]
        _ = [(each["id"], each["file_name"]) for each in data["images"]]
        _ = [(each["height"], each["width"]) for each in data["images"]]
        for each in data["annotations"]:
            _ = each["file_name"], each["image_id"]
            _ = [(segment["id"] + 0, segment["category_id"]) for segment in each["segments_info"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{file}: no COCO panoptic file ({type(error).__name__}: {error}); it has "
            "images with id, file_name, height, width; categories with id, name, isthing; "
            "annotations with file_name, image_id and segments_info with id (a number) and "
            "category_id"
        ) from None
    return data


def find_labels(
    categories: Sequence[dict[str, Any]],
    thing_classes: Sequence[str] | None = None,
    stuff_classes: Sequence[str] | None = None,
    file: str | Path = "the file",
) -> LabelSpace:
    """The labels of a file's categories.

    Raises:
        ValueError: a class name that the file lacks, one twice, or more labels than a byte holds.
    """
    things = _choose([c for c in categories if c["isthing"]], thing_classes, "thing_classes", file)
    stuff = _choose(
        [c for c in categories if not c["isthing"]], stuff_classes, "stuff_classes", file
    )
    if len(things) + len(stuff) > VOID:
        raise ValueError(
            f"{file}: {len(things) + len(stuff)} categories, at most {VOID} can be told apart; "
            "choose by thing_classes and stuff_classes"
        )
    return LabelSpace(tuple(things), tuple(stuff), tuple(things.values()), tuple(stuff.values()))


def _choose(
    categories: list[dict[str, Any]], names: Sequence[str] | None, what: str, file: str | Path
) -> dict[str, int]:
    """Name -> category id, in the order of the labels."""
    found = [each["name"] for each in categories]
    chosen = found if names is None else list(names)
    twice = [name for name, count in Counter([*found]).items() if count > 1]
    twice = twice or [name for name, count in Counter(chosen).items() if count > 1]
    if twice:
        raise ValueError(f"{what} of {file}: {list_some(twice)} more than once; rename them")
    ids = {each["name"]: each["id"] for each in categories}
    for name in chosen:
        if name not in ids:
            nearest = difflib.get_close_matches(name, found, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"it has {list_some(found)}"
            raise ValueError(f"{what}: {file} has no {name!r}; {hint}")
    return {name: ids[name] for name in chosen}


def read_ids(png: str | Path) -> ndarray:
    """The ids of a PNG, (H, W) int32.

    Raises:
        ValueError: no such file, broken, or a PNG without colours.
    """
    try:
        with Image.open(png) as image:
            mode = image.mode
            colors = np.asarray(image.convert("RGB")) if mode in _MODES else None
    except FileNotFoundError:
        raise ValueError(f"{png}: no such PNG; correct the folder of the PNGs or add it") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{png}: broken, replace it ({error})") from None
    if colors is None:
        raise ValueError(
            f"{png}: of kind {mode!r}, but ids are colours, id = R + 256 G + 65536 B; save it as "
            "RGB"
        )
    red, green, blue = (colors[..., channel].astype(np.int32) for channel in range(3))
    return red | green << 8 | blue << 16


def to_colors(ids: ndarray) -> ndarray:
    """(H, W) ids -> (H, W, 3) uint8, RGB; the reverse of `read_ids`."""
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8)


def describe_segments(ids: ndarray, segments: Sequence[Segment]) -> list[dict[str, Any]]:
    """What a JSON says of the segments of a prediction; category_id is the label.

    Args:
        ids: (H, W).
        segments: those in `ids`, which have no others but 0.
    """
    order = sorted(segments)
    known = np.array([0, *(each.id for each in order)])
    index = known.searchsorted(ids)
    areas = np.bincount(index.ravel(), minlength=len(known))[1:].tolist()
    boxes = _find_boxes(index, len(order)).tolist()
    return [
        {
            "id": each.id,
            "category_id": each.label,
            "area": area,
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": 0,
            **({} if each.score is None else {"score": each.score}),
        }
        for each, area, (left, top, right, bottom) in zip(order, areas, boxes, strict=True)
    ]


def read_record(
    image: ndarray, png: str | Path, segments: Sequence[SegmentInfo], *, use_masks: bool = True
) -> Record:
    """An image with what its PNG says: objects from the pixels of things, and the semantic map.

    A crowd of things is an object with `is_crowd`; its pixels, as those of a crowd of stuff, are
    VOID in the map, because nobody knows where in it the objects end.

    Args:
        image: (H, W, 3).

    Raises:
        ValueError: a PNG that is missing, broken, of another size, or that does not fit the
            segments; names file, ids and remedy.
    """
    ids = read_ids(png)
    if ids.shape != image.shape[:2]:
        raise ValueError(
            f"{png}: {ids.shape[0]} x {ids.shape[1]} pixels (height x width), its image has "
            f"{image.shape[0]} x {image.shape[1]}; save it in the size of the image"
        )
    order = sorted(range(len(segments)), key=lambda place: segments[place].id)
    found = [segments[place] for place in order]
    index = _find_segments(ids, [each.id for each in found], png)
    boxes = _find_boxes(index, len(found))
    # Objects in the order of the JSON.
    things = [n for n in np.argsort(order) if found[n].is_thing and found[n].label != VOID]
    return Record(
        image=image,
        boxes=boxes[things].astype(np.float32),
        labels=np.array([found[n].label for n in things], np.int64),
        is_crowd=np.array([found[n].is_crowd for n in things], bool),
        masks=_cut_masks(index, things, boxes) if use_masks else None,
        semantic=_to_labels(index, found),
    )


def read_semantic(png: str | Path, segments: Sequence[SegmentInfo]) -> ndarray:
    """The semantic map of a PNG alone, (H, W) uint8, as `read_record` gives it.

    Raises:
        ValueError: a PNG that is missing, broken, or that does not fit the segments.
    """
    found = sorted(segments, key=lambda each: each.id)
    return _to_labels(_find_segments(read_ids(png), [each.id for each in found], png), found)


def _to_labels(index: ndarray, found: Sequence[SegmentInfo]) -> ndarray:
    """What `_find_segments` gives -> labels, of crowds VOID."""
    labels = [VOID if each.is_crowd else each.label for each in found]
    return np.array([VOID, *labels], np.uint8)[index]


def _find_segments(ids: ndarray, known: list[int], png: str | Path) -> ndarray:
    """(H, W): 0 void, n + 1 the n-th of the `known` ids, which ascend.

    Raises:
        ValueError: an id twice, ids without a segment or segments without a pixel.
    """
    numbers = np.array([0, *known], np.int64)
    if (repeated := numbers[1:][np.diff(numbers) <= 0]).size:
        raise ValueError(
            f"{png}: {_spell(repeated)} are ids of two segments of the JSON, or 0, which is void; "
            "number them anew"
        )
    index = numbers.searchsorted(ids)
    index[index == len(numbers)] = 0
    strangers = ids[numbers[index] != ids]
    if strangers.size:
        raise ValueError(
            f"{png}: ids without a segment in the JSON: {_spell(np.unique(strangers))}; add the "
            "segments, or make their pixels void (0)"
        )
    is_empty = np.bincount(index.ravel(), minlength=len(numbers))[1:] == 0
    if is_empty.any():
        raise ValueError(
            f"{png}: segments of the JSON without a pixel: {_spell(numbers[1:][is_empty])}; "
            "remove them from segments_info"
        )
    return index


def _find_boxes(index: ndarray, count: int) -> ndarray:
    """(M, 4) int64 xyxy around the pixels of each segment, the last ones included."""
    height, width = index.shape
    sides = []
    for length, places in ((width, np.arange(width)), (height, np.arange(height)[:, None])):
        occupied = np.zeros((count + 1, length), bool)
        occupied[index, places] = True
        occupied = occupied[1:]
        sides.append((occupied.argmax(1), length - occupied[:, ::-1].argmax(1)))
    (left, right), (top, bottom) = sides
    return np.stack((left, top, right, bottom), 1)


def _cut_masks(index: ndarray, things: list[int], boxes: ndarray) -> ndarray:
    """(N, H, W) bool; the cost follows the boxes' area, not the image's."""
    masks = np.zeros((len(things), *index.shape), bool)
    for mask, number in zip(masks, things, strict=True):
        left, top, right, bottom = boxes[number]
        part = index[top:bottom, left:right]
        np.equal(part, number + 1, out=mask[top:bottom, left:right])
    return masks


def _spell(ids: ndarray) -> str:
    return list_some([str(each) for each in ids.tolist()])
