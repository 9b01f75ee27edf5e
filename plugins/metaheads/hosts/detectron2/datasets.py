"""COCO-format data sets that a config names, in Detectron2's catalogs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances


def data_path(path: str) -> str:
    """An absolute path as it is, another one below $METAHEADS_DATA, or below `data` without it."""
    return str(Path(os.environ.get("METAHEADS_DATA", "data")) / path)


def register_datasets(cfg: CfgNode) -> None:
    """Registers the (name, json, image folder) entries of DATASETS.REGISTER; reads no file.

    Registering the same again does nothing; a name of ours that now has other paths or keypoints is
    replaced. Keypoints are called by their numbers; INPUT.TRANSFORM.KEYPOINT_FLIP_PAIRS are those
    that Detectron2's own mirror swaps, too.

    Raises:
        ValueError: an entry is not (name, json, image folder), or its name is that of other data.
    """
    keypoints = _keypoint_metadata(cfg)
    for entry in cfg.DATASETS.REGISTER:
        if len(entry) != 3 or not all(isinstance(each, str) for each in entry):
            raise ValueError(
                f"DATASETS.REGISTER holds (name, json, image folder) entries of text, got {entry!r}"
            )
        name, json_file, image_root = entry[0], data_path(entry[1]), data_path(entry[2])
        if name in DatasetCatalog.list():
            known = MetadataCatalog.get(name)
            wanted = {"json_file": json_file, "image_root": image_root, **keypoints}
            if all(known.get(key) == value for key, value in wanted.items()):
                continue
            if not known.get("registered_by_metaheads", False):
                raise ValueError(
                    f"DATASETS.REGISTER: {name!r} is already the name of another data set "
                    f"({known.get('json_file', 'not in COCO format')}): choose a name of your own"
                )
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        metadata = {"registered_by_metaheads": True, **keypoints}
        register_coco_instances(name, metadata, json_file, image_root)


def _keypoint_metadata(cfg: CfgNode) -> dict[str, Any]:
    """What Detectron2's own mapper wants to know of keypoints."""
    names = [str(number) for number in range(num_keypoints(cfg))]
    pairs = cfg.INPUT.TRANSFORM.KEYPOINT_FLIP_PAIRS
    flip_map = [(str(first), str(second)) for first, second in pairs]
    return {"keypoint_names": names, "keypoint_flip_map": flip_map} if names else {}


def class_names(cfg: CfgNode) -> list[str]:
    """The names of the classes 0..C-1 of a config's data.

    They come from the catalog or from the annotation file; without either the classes are called by
    their numbers.
    """
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        if name not in DatasetCatalog.list():
            continue
        metadata = MetadataCatalog.get(name)
        if metadata.get("thing_classes"):
            return list(metadata.thing_classes)
        json_file = metadata.get("json_file")
        if json_file and os.path.isfile(json_file):
            with open(json_file) as file:
                categories = json.load(file)["categories"]
            return [each["name"] for each in sorted(categories, key=lambda each: each["id"])]
    return [str(number) for number in range(num_classes(cfg))]


def num_keypoints(cfg: CfgNode) -> int:
    """How many keypoints the objects of a config's data have; 0 if it uses none."""
    return cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS if cfg.MODEL.KEYPOINT_ON else 0


def num_classes(cfg: CfgNode) -> int:
    """How many classes the model of a config tells apart."""
    node = cfg.MODEL.get(cfg.MODEL.META_ARCHITECTURE.upper())
    if node is None or "NUM_CLASSES" not in node:
        return cfg.MODEL.ROI_HEADS.NUM_CLASSES
    return node.NUM_CLASSES
