"""Faults of ids, classes and boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from metaheads.datasets.check.messages import are_numbers, nearest_hint
from metaheads.mesh import MeshTopology
from metaheads.messages import list_some

_ID, _NUMBER = (int, str), (int, float)
REQUIRED: dict[str, dict[str, Any]] = {
    "images": {"id": _ID, "file_name": str, "height": _NUMBER, "width": _NUMBER},
    "annotations": {"id": _ID, "image_id": _ID, "category_id": _ID, "bbox": list, "area": _NUMBER},
    "categories": {"id": _ID, "name": str},
}


def find_missing_fields(data: dict[str, Any]) -> Iterator[str]:
    for key, kinds in REQUIRED.items():
        if not isinstance(data[key], list):
            yield f'"{key}" is no list'
            continue
        for name, kind in kinds.items():
            lacking = [
                f"entry {index}"
                for index, entry in enumerate(data[key])
                if not isinstance(entry, dict) or not isinstance(entry.get(name), kind)
            ]
            if lacking:
                spelled = " or ".join(k.__name__ for k in (kind if type(kind) is tuple else [kind]))
                named = list_some(lacking)
                yield f'{named} of "{key}" (from 0) without "{name}" ({spelled}); add it'


def find_duplicate_ids(data: dict[str, Any]) -> Iterator[str]:
    for key in REQUIRED:
        counts = Counter(entry["id"] for entry in data[key])
        twice = [str(each) for each, count in counts.items() if count > 1]
        if twice:
            yield f'ids used more than once in "{key}": {list_some(twice)}; number them anew'


def find_unknown_ids(data: dict[str, Any]) -> Iterator[str]:
    for key, name in (("images", "image_id"), ("categories", "category_id")):
        known = {entry["id"] for entry in data[key]}
        unknown = [
            f"{annotation['id']} ({name} {annotation[name]!r})"
            for annotation in data["annotations"]
            if annotation[name] not in known
        ]
        if unknown:
            yield (
                f'annotations whose {name} is not in "{key}": {list_some(unknown)}; '
                f"add the missing {key} or remove the annotations (1 and '1' differ)"
            )


def find_class_differences(
    categories: list[dict[str, Any]],
    used: set[int],
    class_names: Sequence[str] | None,
    num_classes: int | None,
) -> Iterator[str]:
    """Differences between the file's categories and the config; unused categories may be absent."""
    in_file = [each["name"] for each in categories]
    if class_names is not None:
        unknown = [name for name in class_names if name not in in_file]
        if unknown:
            named = [f"{name!r}{nearest_hint(name, in_file)}" for name in unknown]
            yield (
                f"classes of the config that are no category: {list_some(named)}; write them as in "
                f"the file: {list_some(in_file)}"
            )
        without = [
            c["name"] for c in categories if c["id"] in used and c["name"] not in class_names
        ]
        if without:
            named = [f"{name!r}{nearest_hint(name, class_names)}" for name in without]
            yield (
                f"categories with objects that are no class of the config: {list_some(named)}; add "
                f"them to the class names of the config, or remove their objects"
            )
        order = [name for name in in_file if name in class_names]
        if not unknown and not without and order != list(class_names):
            yield (
                "the config names the classes in another order than the file, so that labels and "
                f"names would be mixed up: write {tuple(order)}"
            )
    expected = len(in_file if class_names is None else class_names)
    if num_classes is not None and num_classes != expected:
        source = '"categories" of the file' if class_names is None else "the class names"
        yield (
            f"the model has num_classes={num_classes}, but {source} are {expected}: set "
            f"{expected} (MMDetection: num_classes, Detectron2: MODEL.<NAME>.NUM_CLASSES)"
        )


def find_missing_crowd_flags(annotations: list[dict[str, Any]]) -> Iterator[str]:
    """pycocotools reads `iscrowd` of every object, but only when the evaluation begins."""
    without = [str(each["id"]) for each in annotations if each.get("iscrowd") not in (0, 1)]
    if without:
        yield f'annotations without "iscrowd": {list_some(without)}; add "iscrowd": 0 (or 1)'


def find_malformed_keypoints(annotations: list[dict[str, Any]], count: int) -> Iterator[str]:
    """An object has `count` keypoints (x, y, visibility each), or none."""
    broken = []
    for annotation in annotations:
        keypoints = annotation.get("keypoints") or []
        if not are_numbers(keypoints) or len(keypoints) not in (0, 3 * count):
            broken.append(f"{annotation['id']} ({len(keypoints) / 3:g} keypoints)")
    if broken:
        yield (
            f"annotations without exactly {count} keypoints, the config's number: "
            f"{list_some(broken)}; correct them, or the number of keypoints in the config"
        )


def find_malformed_vertices(annotations: list[dict[str, Any]], mesh: MeshTopology) -> Iterator[str]:
    """An object has all coordinates of the mesh's vertices, or none."""
    expected = mesh.num_vertices * mesh.dimensions
    broken = []
    for annotation in annotations:
        vertices = annotation.get("vertices")
        if vertices is None:
            continue
        if not are_numbers(vertices):
            broken.append(f"{annotation['id']} (no list of finite numbers)")
        elif len(vertices) != expected:
            broken.append(f"{annotation['id']} ({len(vertices)} numbers)")
    if broken:
        yield (
            f"annotations without exactly {expected} finite numbers in vertices, "
            f"{mesh.num_vertices} vertices in {mesh.dimensions} dimensions as the mesh file says: "
            f"{list_some(broken)}; correct them, or the mesh file in the config"
        )


def find_malformed_boxes(annotations: list[dict[str, Any]]) -> Iterator[str]:
    broken = [
        f"{annotation['id']} ({annotation['bbox']!r})"
        for annotation in annotations
        if not are_numbers(annotation["bbox"]) or len(annotation["bbox"]) != 4
    ]
    if broken:
        yield (
            f"annotations whose bbox is not four finite numbers (x, y, width, height): "
            f"{list_some(broken)}; correct or remove them"
        )
