"""The check of a COCO instances file and its images."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from metaheads.datasets.check.entries import (
    REQUIRED,
    find_class_differences,
    find_duplicate_ids,
    find_malformed_boxes,
    find_malformed_keypoints,
    find_malformed_vertices,
    find_missing_crowd_flags,
    find_missing_fields,
    find_unknown_ids,
)
from metaheads.datasets.check.images import evenly_spaced, find_broken_images, find_missing_images
from metaheads.datasets.check.masks import find_malformed_masks
from metaheads.datasets.check.messages import DatasetError, refuse
from metaheads.datasets.check.notices import (
    notice_empty_images,
    notice_odd_boxes,
    notice_odd_categories,
    notice_shared_files,
    notice_short_polygons,
    notice_unused_vertices,
    notice_useless_boxes,
)
from metaheads.datasets.check.report import CheckReport
from metaheads.mesh import MeshTopology


def check_coco(
    annotation_file: str | os.PathLike,
    image_folder: str | os.PathLike,
    *,
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    use_masks: bool = True,
    num_keypoints: int = 0,
    mesh_file: str | os.PathLike = "",
    verify_images: int = 2000,
    is_strict: bool = False,
    progress: Callable[[], Any] = lambda: None,
) -> CheckReport:
    """Checks a COCO instances file and its images in a second or two.

    Args:
        class_names: of the config, in the order of the labels; None if it takes them from the file.
        num_classes: of the config's model.
        use_masks: every annotation needs a segmentation.
        num_keypoints: an object has so many keypoints, or none; 0: keypoints are not used.
        mesh_file: JSON of `metaheads.mesh`, whose vertices an object has, or none; "": vertices are
            not used.
        verify_images: so many images, evenly spaced, are decoded.
        is_strict: what trains nothing, such as boxes without area, is a fault as well.
        progress: called for every decoded image.

    Raises:
        DatasetError: something would stop training, or train another thing than meant.
    """
    file, folder = Path(annotation_file), Path(image_folder)
    data = read_coco(file)
    mesh = _read_mesh(mesh_file) if mesh_file else None
    if not folder.is_dir():
        raise DatasetError(f"image folder {folder}: no such folder; correct the path in the config")
    refuse(file, find_duplicate_ids(data), find_unknown_ids(data))
    used = {annotation["category_id"] for annotation in data["annotations"]}
    categories = data["categories"]
    chosen = evenly_spaced(data["images"], verify_images)
    missing = [*find_missing_images(data["images"], folder)]
    # Before the masks, which are of the size that the file gives an image.
    images = [] if missing else [*find_broken_images(chosen, folder, progress)]
    boxes = [*find_malformed_boxes(data["annotations"])]
    faults = [
        *find_missing_crowd_flags(data["annotations"]),
        *find_class_differences(categories, used, class_names, num_classes),
        *boxes,
        *(find_malformed_keypoints(data["annotations"], num_keypoints) if num_keypoints else ()),
        *(find_malformed_vertices(data["annotations"], mesh) if mesh else ()),
        *missing,
        *images,
        *(find_malformed_masks(data) if use_masks and not images else ()),
    ]
    odd = [] if boxes else [*notice_useless_boxes(data), *notice_shared_files(data["images"])]
    if is_strict:
        faults += [f"{each}; correct or remove them" for each in odd]
    refuse(file, faults)
    warnings = [
        *notice_odd_categories(categories, used, class_names),
        *odd,
        *notice_odd_boxes(data),
        *(notice_short_polygons(data["annotations"]) if use_masks else ()),
        *(() if mesh else notice_unused_vertices(data["annotations"])),
        *notice_empty_images(data),
    ]
    counts = Counter(annotation["category_id"] for annotation in data["annotations"])
    return CheckReport(
        annotation_file=file,
        num_images=len(data["images"]),
        num_objects=len(data["annotations"]),
        num_crowds=sum(bool(each.get("iscrowd", 0)) for each in data["annotations"]),
        num_verified=len(chosen),
        class_counts={
            each["name"]: counts[each["id"]]
            for each in sorted(categories, key=lambda each: (str(type(each["id"])), each["id"]))
        },
        warnings=warnings,
    )


def read_coco(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Reads the file; afterwards every entry has the fields that both hosts read.

    Raises:
        DatasetError: no such file, no JSON, or no COCO instances.
    """
    if not file.is_file():
        raise DatasetError(f"annotation file {file}: no such file; correct the path in the config")
    try:
        data = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"{file}: broken JSON at line {error.lineno}, column {error.colno}: {error.msg}; "
            f"was it cut off while being copied or downloaded?"
        ) from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file}: no text, hence no JSON: {error}") from None
    absent = [key for key in REQUIRED if not isinstance(data, dict) or key not in data]
    if absent:
        raise DatasetError(f"{file}: no key {', '.join(absent)}; is it a COCO instances file?")
    refuse(file, find_missing_fields(data))
    if not data["images"]:
        raise DatasetError(f'{file}: "images" is empty')
    return data


def _read_mesh(file: str | os.PathLike) -> MeshTopology:
    try:
        return MeshTopology.from_json(Path(file))
    except (FileNotFoundError, ValueError) as error:
        raise DatasetError(str(error)) from None
