"""COCO and COCO panoptic data sets that a config names, in Detectron2's catalogs."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from metaheads.configs import data_path
from metaheads.datasets.panoptic import find_labels, read_json
from metaheads.hosts.detectron2.panoptic_data import register_panoptic


def register_datasets(cfg: CfgNode) -> None:
    """Registers the entries of DATASETS.REGISTER and DATASETS.REGISTER_PANOPTIC; reads no file.

    Registering the same again does nothing; a name of ours that now has other paths or keypoints is
    replaced. Keypoints are called by their numbers; INPUT.TRANSFORM.KEYPOINT_FLIP_PAIRS are those
    that Detectron2's own mirror swaps, too. Classes come to the metadata with the data.

    Raises:
        ValueError: an entry is not (name, json, image folder), of panoptic data (name, image
            folder, json, PNG folder), or its name is that of other data.
    """
    keypoints = _keypoint_metadata(cfg)
    for entry in cfg.DATASETS.REGISTER:
        name, json_file, image_root = _read_entry(entry, "REGISTER", "json", "image folder")
        wanted = {"json_file": json_file, "image_root": image_root, **keypoints}
        if _make_room(name, wanted, "REGISTER"):
            _register_coco(name, json_file, image_root, keypoints)
    for entry in cfg.DATASETS.get("REGISTER_PANOPTIC", ()):
        name, *paths = _read_entry(
            entry, "REGISTER_PANOPTIC", "image folder", "panoptic json", "PNG folder"
        )
        wanted = dict(zip(("image_root", "panoptic_json", "panoptic_root"), paths, strict=True))
        if _make_room(name, wanted, "REGISTER_PANOPTIC"):
            register_panoptic(name, **wanted)


def _read_entry(entry: Sequence[str], key: str, *parts: str) -> list[str]:
    """The name and the paths of an entry."""
    is_text = not isinstance(entry, str) and all(isinstance(each, str) for each in entry)
    if not is_text or len(entry) != 1 + len(parts):
        raise ValueError(
            f"DATASETS.{key} holds ({', '.join(('name', *parts))}) entries of text, got {entry!r}"
        )
    return [entry[0], *map(data_path, entry[1:])]


def _make_room(name: str, wanted: dict[str, Any], key: str) -> bool:
    """Whether a name is free; one of ours with other metadata is taken away.

    Raises:
        ValueError: it is the name of a data set that is not ours.
    """
    if name not in DatasetCatalog.list():
        return True
    known = MetadataCatalog.get(name)
    if all(known.get(each) == value for each, value in wanted.items()):
        return False
    if not known.get("registered_by_metaheads", False):
        raise ValueError(
            f"DATASETS.{key}: {name!r} is already the name of another data set "
            f"({known.get('json_file', 'not in COCO format')}): choose a name of your own"
        )
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    return True


def _register_coco(name: str, json_file: str, image_root: str, metadata: dict[str, Any]) -> None:
    """As Detectron2's `register_coco_instances`, but objects keep their `vertices`, too."""
    load = functools.partial(load_coco_json, json_file, image_root, name, ["vertices"])
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        registered_by_metaheads=True,
        **metadata,
    )


def _keypoint_metadata(cfg: CfgNode) -> dict[str, Any]:
    """What Detectron2's own mapper wants to know of keypoints."""
    names = [str(number) for number in range(num_keypoints(cfg))]
    pairs = cfg.INPUT.TRANSFORM.KEYPOINT_FLIP_PAIRS
    flip_map = [(str(first), str(second)) for first, second in pairs]
    return {"keypoint_names": names, "keypoint_flip_map": flip_map} if names else {}


def class_names(cfg: CfgNode) -> list[str]:
    """The names of the classes 0..C-1 of a config's data; of panoptic data those of the things.

    They come from the catalog or from the annotation file; without either the classes are called by
    their numbers.
    """
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        if name not in DatasetCatalog.list():
            continue
        metadata = MetadataCatalog.get(name)
        if metadata.get("thing_classes"):
            return list(metadata.thing_classes)
        panoptic_json = metadata.get("panoptic_json")
        if panoptic_json and os.path.isfile(panoptic_json):
            categories = read_json(panoptic_json)["categories"]
            return list(find_labels(categories, file=panoptic_json).thing_classes)
        json_file = metadata.get("json_file")
        if json_file and os.path.isfile(json_file):
            with open(json_file) as file:
                categories = json.load(file)["categories"]
            return [each["name"] for each in sorted(categories, key=lambda each: each["id"])]
    return [str(number) for number in range(num_classes(cfg))]


def panoptic_class_names(cfg: CfgNode) -> list[str]:
    """The names of the things, then of the stuff, of a panoptic or semantic config's data.

    They come from the file or from the catalog; without either the classes are called by their
    numbers.
    """
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        if name not in DatasetCatalog.list():
            continue
        metadata = MetadataCatalog.get(name)
        panoptic_json = metadata.get("panoptic_json")
        if metadata.get("stuff_classes") and metadata.get("thing_classes"):
            return [*metadata.thing_classes, *metadata.stuff_classes[1:]]  # the first: all things
        if panoptic_json and os.path.isfile(panoptic_json):
            return list(find_labels(read_json(panoptic_json)["categories"]).classes)
    node = cfg.MODEL.get(cfg.MODEL.META_ARCHITECTURE.upper(), {})
    num_stuff = node.get("NUM_STUFF", cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES - 1)
    count = node.get("NUM_CLASSES", cfg.MODEL.ROI_HEADS.NUM_CLASSES + num_stuff)
    return [str(number) for number in range(count)]


def num_keypoints(cfg: CfgNode) -> int:
    """How many keypoints the objects of a config's data have; 0 if it uses none."""
    return cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS if cfg.MODEL.KEYPOINT_ON else 0


def mesh_file(cfg: CfgNode) -> str:
    """The mesh whose vertices the objects of a config's data have; "" if it uses none."""
    return data_path(cfg.INPUT.MESH_FILE) if cfg.INPUT.MESH_FILE else ""


def num_classes(cfg: CfgNode) -> int:
    """How many classes the model of a config tells apart."""
    node = cfg.MODEL.get(cfg.MODEL.META_ARCHITECTURE.upper())
    if node is None or "NUM_CLASSES" not in node:
        return cfg.MODEL.ROI_HEADS.NUM_CLASSES
    return node.NUM_CLASSES
