"""Writes the embedded data set to a folder.

    train/000001.png ...                  val/000001.png ...
    clips/clip_0001/0001.png ...          flow/clip_0001/0001.npz ...
    annotations/instances_train.json      COCO instances; iscrowd = 1 for crowds
    annotations/keypoints_train.json      COCO keypoints: the figures only
    annotations/panoptic_train.json       COCO panoptic, with panoptic_train/000001.png ...
    faces/train/000001.png ...
    annotations/faces_train.json          COCO keypoints of drawn faces, and the vertices of a mesh
    annotations/mesh.json                 its topology, as `metaheads.mesh` reads it
    annotations/clips.json                panoptic per frame, with panoptic_clips/clip_0001/0001.png
    shapes.json                           what made the folder; written last
(and the same annotations for val).

Instances have one polygon where one gives their very mask, else an RLE: Detectron2 reads such files
with INPUT.MASK_FORMAT "bitmask" only. Masks hold visible pixels. Category ids have gaps, and some
images have no annotation.

Of the faces some have neither points nor mesh, and some are ignored (iscrowd = 1). `vertices` are
x, y in pixels and z, likewise, from the middle of the head towards the viewer.

`val` differs from `train` in its random numbers, in the textures and hues of stuff, and in the
number of objects and of clutter: see VAL_OPTIONS.

clips.json has `videos`, `images` (with video_id, frame_id from 0, and flow_file, null for a clip's
last frame), `annotations` (COCO panoptic; an object keeps its segment id through the clip) and
`categories`. A flow file holds `flow`, (H, W, 2) float32 in pixels (x, y) from this frame to the
next, and `valid`, (H, W) bool: False where the surface is hidden or out of sight in the next frame.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from metaheads.datasets.shapes import annotations, categories
from metaheads.datasets.shapes.clips import draw_clip
from metaheads.datasets.shapes.face_mesh import to_json as mesh_topology
from metaheads.datasets.shapes.faces import draw_face_scene
from metaheads.datasets.shapes.options import (
    CLIP_OPTIONS,
    TRAIN_FACE_OPTIONS,
    TRAIN_OPTIONS,
    VAL_FACE_OPTIONS,
    VAL_OPTIONS,
    FaceOptions,
    SceneOptions,
)
from metaheads.datasets.shapes.scenes import Scene, draw_scene

VERSION = 2  # of the generator: raise it when the same arguments give other files
_MARKER = "shapes.json"
# What can be drawn without the others, and the options of each.
PARTS = {"scenes": ("train", "val"), "faces": ("faces_train", "faces_val"), "clips": ("clips",)}


def make_shapes(
    folder: str | os.PathLike,
    *,
    num_train: int = 600,
    num_val: int = 120,
    num_clips: int = 8,
    num_faces: tuple[int, int] = (700, 150),
    size: tuple[int, int] = (144, 192),
    seed: int = 0,
    train_options: SceneOptions = TRAIN_OPTIONS,
    val_options: SceneOptions = VAL_OPTIONS,
    clip_options: SceneOptions = CLIP_OPTIONS,
    face_options: tuple[FaceOptions, FaceOptions] = (TRAIN_FACE_OPTIONS, VAL_FACE_OPTIONS),
    only: Iterable[str] = PARTS,
    force: bool = False,
    progress: Callable[[], object] | None = None,
) -> None:
    """Writes the data set; a folder that already holds it is left as it is.

    Equal arguments give equal bytes (with the same versions of numpy and OpenCV), and a scene does
    not depend on how many there are. The folder appears, or changes, only when it is complete.

    Args:
        folder: to be made; its parents are made as well.
        num_faces: scenes of faces for training and validation.
        size: (height, width) of all pictures, in pixels, at least 32 each.
        face_options: of the scenes of faces for training and validation.
        only: of PARTS; they are added to what a folder has of the others, with the same size and
            seed.
        force: replaces a data set made with other arguments, all parts of it.
        progress: called after each scene, of faces too, and each clip.

    Raises:
        ValueError: an argument is out of range; the folder holds a data set made with other
            arguments and `force` is off; or it holds anything else.
    """
    folder, parts = Path(folder), tuple(only)
    counts = {"num_train": num_train, "num_val": num_val, "num_clips": num_clips, "seed": seed}
    counts |= {"num_faces_train": num_faces[0], "num_faces_val": num_faces[1]}
    _check_arguments(counts, size, parts)
    options = {"train": train_options, "val": val_options, "clips": clip_options}
    options |= {"faces_train": face_options[0], "faces_val": face_options[1]}
    marker, present = _describe(counts, size, options, parts), _read_marker(folder)
    if not force:
        if _merge(present, marker) == present:
            return
        if present and _merge(marker, present) == _merge(present, marker):
            parts = tuple(each for each in parts if not _has_part(present, each))
            _write_all(folder, _merge(present, marker), options, parts, progress, is_added=True)
            return
    _check_replaceable(folder, force)
    _write_all(folder, marker, options, parts, progress, is_replaced=force)


def _describe(
    counts: dict[str, int], size: tuple[int, int], options: dict, parts: Iterable[str]
) -> dict:
    """The content of the marker, as it will be read back: tuples become lists."""
    names = [name for part in parts for name in PARTS[part]]
    arguments = {f"num_{name}": counts[f"num_{name}"] for name in names}
    marker = {
        "generator": "metaheads.datasets.shapes",
        "version": VERSION,
        "arguments": {**arguments, "seed": counts["seed"], "size": size},
        "options": {name: asdict(options[name]) for name in names},
    }
    return json.loads(json.dumps(marker))


def _read_marker(folder: Path) -> dict:
    """{} if there is none."""
    path = folder / _MARKER
    return json.loads(path.read_text()) if path.is_file() else {}


def _merge(marker: dict, other: dict) -> dict:
    """What both say; of what they say differently, what the second does."""
    nested = {
        key: {**marker.get(key, {}), **other.get(key, {})} for key in ("arguments", "options")
    }
    return {**marker, **other, **nested}


def _has_part(marker: dict, part: str) -> bool:
    return PARTS[part][0] in marker["options"]


def _write_all(
    folder: Path,
    marker: dict,
    options: dict[str, Any],
    parts: Iterable[str],
    progress: Callable[[], object] | None,
    *,
    is_added: bool = False,
    is_replaced: bool = False,
) -> None:
    """Writes beside the folder, then moves the finished data set to its place.

    Args:
        parts: to be drawn.
        is_added: to what the folder holds.
        is_replaced: what it holds goes.
    """
    arguments, report = marker["arguments"], progress or (lambda: None)
    size, seed = tuple(arguments["size"]), arguments["seed"]
    writers = {"scenes": _write_split, "faces": _write_faces, "clips": _write_clips}
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        if is_added:
            shutil.copytree(folder, partial, dirs_exist_ok=True)
        for part in parts:
            for name in PARTS[part]:
                count = arguments[f"num_{name}"]
                split = name.removeprefix("faces_")
                writers[part](partial, split, count, options[name], size, seed, report)
        _write_json(partial / _MARKER, marker)
        partial.chmod(0o755)
        _replace(folder, partial, marker, is_added or is_replaced)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_arguments(counts: dict[str, int], size: tuple[int, int], parts: Iterable[str]) -> None:
    if unknown := [each for each in parts if each not in PARTS]:
        raise ValueError(f"only: there is no {unknown[0]!r}, the parts are {', '.join(PARTS)}")
    for name, value in counts.items():
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} must be a whole number from 0, got {value!r}")
    if len(size) != 2 or min(size) < 32:
        raise ValueError(f"size must be (height, width), at least 32 pixels each, got {size!r}")


def _check_replaceable(folder: Path, force: bool) -> None:
    """Raises ValueError unless the folder is free, or is ours and may be replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / _MARKER).is_file():
        raise ValueError(
            f"{folder} exists and was not made by make_shapes (it has no {_MARKER}); "
            "name another folder, or move this one away"
        )
    if not force:
        raise ValueError(
            f"{folder} holds a data set made with other arguments or another version (see "
            f"{_MARKER} in it); name another folder, or replace it with force=True (--force)"
        )


def _replace(folder: Path, partial: Path, marker: dict, is_replaced: bool) -> None:
    """Moves the finished data set to its place; an older one, which is ours, is deleted."""
    if (folder / _MARKER).is_file() and is_replaced:
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
        folder.rename(old / folder.name)
        partial.rename(folder)
        shutil.rmtree(old)
        return
    try:
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except OSError:
        if _read_marker(folder) != marker:  # else another process was faster with the same
            raise


def _write_split(
    folder: Path,
    split: str,
    count: int,
    options: SceneOptions,
    size: tuple[int, int],
    seed: int,
    report: Callable[[], object],
) -> None:
    images: list[dict] = []
    instances: list[dict] = []
    panoptic: list[dict] = []
    pictures, labels = folder / split, folder / "annotations" / f"panoptic_{split}"
    for path in (pictures, labels):
        path.mkdir(parents=True)
    for index in range(count):
        scene = draw_scene(options, size, seed=seed, split=split, index=index)
        image_id, name = index + 1, f"{index + 1:06d}.png"
        _write_png(pictures / name, scene.picture)
        images.append({"id": image_id, "file_name": name, "height": size[0], "width": size[1]})
        for annotation in annotations.to_instance_annotations(scene, image_id):
            instances.append({"id": len(instances) + 1, **annotation})
        panoptic.append({"image_id": image_id, **_write_panoptic(labels, name, scene)})
        report()
    _write_annotations(folder, f"panoptic_{split}", images, panoptic)
    _write_annotations(folder, f"instances_{split}", images, _without_keypoints(instances))
    figures = [item for item in instances if "keypoints" in item]
    figures = [{**item, "id": index + 1} for index, item in enumerate(figures)]
    for item in figures:  # crowds of figures: as in COCO, no point is labelled
        item["keypoints"] = item["keypoints"] or [0] * (3 * len(categories.FIGURE_KEYPOINTS))
    _write_annotations(folder, f"keypoints_{split}", images, figures)


def _write_faces(
    folder: Path,
    split: str,
    count: int,
    options: FaceOptions,
    size: tuple[int, int],
    seed: int,
    report: Callable[[], object],
) -> None:
    images: list[dict] = []
    found: list[dict] = []
    pictures = folder / "faces" / split
    pictures.mkdir(parents=True)
    for index in range(count):
        picture, faces = draw_face_scene(options, size, seed=seed, split=split, index=index)
        image_id, name = index + 1, f"{index + 1:06d}.png"
        _write_png(pictures / name, picture)
        images.append({"id": image_id, "file_name": name, "height": size[0], "width": size[1]})
        for annotation in annotations.to_face_annotations(faces, image_id):
            found.append({"id": len(found) + 1, **annotation})
        report()
    _write_annotations(folder, f"faces_{split}", images, found)
    _write_json(folder / "annotations" / "mesh.json", mesh_topology())


def _write_clips(
    folder: Path,
    _: str,
    count: int,
    options: SceneOptions,
    size: tuple[int, int],
    seed: int,
    report: Callable[[], object],
) -> None:
    videos: list[dict] = []
    images: list[dict] = []
    panoptic: list[dict] = []
    labels = folder / "annotations" / "panoptic_clips"
    shape = {"height": size[0], "width": size[1]}
    for index in range(count):
        clip = draw_clip(options, size, seed=seed, index=index)
        video = f"clip_{index + 1:04d}"
        for path in (folder / "clips", folder / "flow", labels):
            (path / video).mkdir(parents=True)
        videos.append({"id": index + 1, "name": video, "length": len(clip.frames), **shape})
        for time, scene in enumerate(clip.frames):
            stem = f"{video}/{time + 1:04d}"
            has_flow = time < len(clip.flows)
            image = {"id": len(images) + 1, "file_name": f"{stem}.png", **shape}
            image |= {"video_id": index + 1, "frame_id": time}
            image["flow_file"] = f"{stem}.npz" if has_flow else None
            images.append(image)
            _write_png(folder / "clips" / f"{stem}.png", scene.picture)
            record = _write_panoptic(labels, f"{stem}.png", scene)
            panoptic.append({"image_id": image["id"], "video_id": index + 1, **record})
            if has_flow:
                path = folder / "flow" / f"{stem}.npz"
                np.savez_compressed(path, flow=clip.flows[time], valid=clip.valid[time])
        report()
    _write_annotations(folder, "clips", images, panoptic, videos=videos)


def _write_panoptic(folder: Path, name: str, scene: Scene) -> dict:
    ids, segments = annotations.to_panoptic(scene)
    _write_png(folder / name, annotations.to_colors(ids))
    return {"file_name": name, "segments_info": segments}


def _without_keypoints(instances: list[dict]) -> list[dict]:
    left_out = ("keypoints", "num_keypoints")
    return [
        {key: value for key, value in item.items() if key not in left_out} for item in instances
    ]


def _write_annotations(
    folder: Path, name: str, images: list[dict], records: list[dict], **more: list[dict]
) -> None:
    kinds = {
        "instances": categories.thing_categories,
        "keypoints": categories.keypoint_categories,
        "faces": categories.face_categories,
    }
    to_categories = kinds.get(name.split("_")[0], categories.panoptic_categories)
    content = {
        "info": {"description": "Metaheads shapes: drawn scenes", "version": str(VERSION)},
        "licenses": [],
        **more,
        "images": images,
        "annotations": records,
        "categories": to_categories(),
    }
    (folder / "annotations").mkdir(exist_ok=True)
    _write_json(folder / "annotations" / f"{name}.json", content)


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")))


def _write_png(path: Path, picture: np.ndarray) -> None:
    """Writes (H, W, 3) uint8 RGB."""
    if not cv2.imwrite(os.fspath(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise OSError(f"could not write {path}")
