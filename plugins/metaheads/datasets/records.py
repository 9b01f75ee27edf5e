"""Records of a COCO file: images with their ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metaheads.datasets.transforms import Record
from metaheads.media import read_image

if TYPE_CHECKING:
    from pycocotools.coco import COCO


def read_record(
    coco: COCO, image_id: int, image_folder: str | Path, *, use_masks: bool = True
) -> Record:
    """An image of a COCO file, RGB, with its objects; labels number the categories by ascending id.

    Raises:
        FileNotFoundError, ValueError: the image is not there or broken.
    """
    image = read_image(Path(image_folder) / coco.imgs[image_id]["file_name"])
    entries = coco.imgToAnns[image_id]
    labels = {category: label for label, category in enumerate(sorted(coco.cats))}
    boxes = np.array([each["bbox"] for each in entries], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = None
    if use_masks:
        masks = np.array([coco.annToMask(each) for each in entries], bool)
        masks = masks.reshape(-1, *image.shape[:2])
    return Record(
        image,
        boxes,
        np.array([labels[each["category_id"]] for each in entries], np.int64),
        np.array([each["iscrowd"] for each in entries], bool),
        masks,
    )


def class_names(coco: COCO) -> list[str]:
    """The category names by ascending id, as `read_record` numbers the labels."""
    return [coco.cats[category]["name"] for category in sorted(coco.cats)]
