"""COCO panoptic data in Detectron2, without `panopticapi`."""

from __future__ import annotations

import functools
import os.path
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from numpy import ndarray
from torch import Tensor

from metaheads.datasets import panoptic
from metaheads.datasets.transforms import Record
from metaheads.datasets.views import VOID

PANOPTIC = "metaheads_panoptic"  # the evaluator_type of these data
LABEL_DIVISOR = 1000  # of Detectron2's Panoptic-DeepLab: id = label * divisor + number


def register_panoptic(name: str, image_root: str, panoptic_json: str, panoptic_root: str) -> None:
    """Registers images with a COCO panoptic JSON and its PNGs; the JSON is read with the data.

    Images lie in their folder or in its sub-folders.
    With the data the metadata get `thing_classes`, `stuff_classes` ("things", then the stuff), the
    ids of categories -> contiguous ones as Detectron2's "separated" data sets have them (things
    from 0; stuff from 1, as 0 is all things), and `panoptic_classes`, the names of our labels.
    """
    paths = {
        "image_root": image_root,
        "panoptic_json": panoptic_json,
        "panoptic_root": panoptic_root,
    }
    DatasetCatalog.register(name, functools.partial(_load, name, **paths))
    MetadataCatalog.get(name).set(
        registered_by_metaheads=True,
        evaluator_type=PANOPTIC,
        ignore_label=VOID,
        label_divisor=LABEL_DIVISOR,
        **paths,
    )


def _load(
    name: str, image_root: str, panoptic_json: str, panoptic_root: str
) -> list[dict[str, Any]]:
    """Detectron2's dicts; objects and map stay in the PNG until the mapper wants them."""
    space, entries = panoptic.read_file(panoptic_json, image_folder=image_root)
    things = {each: label for label, each in enumerate(space.thing_ids)}
    stuff = {each: number for number, each in enumerate(space.stuff_ids, start=1)}
    if 0 not in things and 0 not in stuff:
        stuff[0] = 0  # Detectron2's mark for all things
    MetadataCatalog.get(name).set(
        thing_classes=list(space.thing_classes),
        stuff_classes=["things", *space.stuff_classes],
        panoptic_classes=list(space.classes),
        thing_dataset_id_to_contiguous_id=things,
        stuff_dataset_id_to_contiguous_id=stuff,
    )
    return [
        {
            "file_name": os.path.join(image_root, entry.image["file_name"]),
            "image_id": entry.image["id"],
            "height": entry.image["height"],
            "width": entry.image["width"],
            "pan_seg_file_name": os.path.join(panoptic_root, entry.png),
            "segments_info": [_to_dict(each, len(things)) for each in entry.segments],
        }
        for entry in entries
    ]


def _to_dict(segment: panoptic.SegmentInfo, num_things: int) -> dict[str, Any]:
    """`category_id` is Detectron2's contiguous one, `label` ours."""
    label = segment.label
    return {
        "id": segment.id,
        "category_id": label if segment.is_thing else label - num_things + 1,
        "isthing": segment.is_thing,
        "iscrowd": int(segment.is_crowd),
        "label": label,
    }


def read_panoptic(
    image: ndarray, dataset_dict: dict[str, Any], *, use_masks: bool = True
) -> Record:
    """An image and what its PNG says of it -> a record with the semantic map."""
    segments = [
        panoptic.SegmentInfo(each["id"], each["label"], each["isthing"], bool(each["iscrowd"]))
        for each in dataset_dict["segments_info"]
    ]
    png = dataset_dict["pan_seg_file_name"]
    return panoptic.read_record(image, png, segments, use_masks=use_masks)


def separate_stuff(semantic: Tensor, segments: Sequence[dict[str, Any]]) -> Tensor:
    """Our labels, (h, w) int64 -> those of Detectron2's PanopticFPN: 0 things, 1.. stuff, 255."""
    table = torch.full((VOID + 1,), VOID)
    for each in segments:
        table[each["label"]] = 0 if each["isthing"] else each["category_id"]
    return table[semantic]
