"""Scenes as COCO annotations: instances, keypoints, panoptic segments."""

from __future__ import annotations

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from metaheads.datasets.shapes.categories import FACE, STUFF, THINGS
from metaheads.datasets.shapes.faces import DrawnFace
from metaheads.datasets.shapes.scenes import Instance, Scene

_SEGMENTS_PER_CATEGORY = 4096  # so that ids pass 65535 and need all three bytes of a PNG


def to_instance_annotations(scene: Scene, image_id: int) -> list[dict]:
    """COCO annotations, without `id`, of all instances; figures' ones with keypoints."""
    annotations = []
    for instance in scene.instances:
        annotation = {
            "image_id": image_id,
            "category_id": instance.category,
            "iscrowd": int(instance.is_crowd),
            "area": int(instance.mask.sum()),
            "bbox": to_bbox(instance.mask),
            "segmentation": to_segmentation(instance),
        }
        if instance.category == THINGS["figure"]:
            points = instance.keypoints
            annotation["keypoints"] = [] if points is None else points.ravel().tolist()
            annotation["num_keypoints"] = 0 if points is None else int((points[:, 2] > 0).sum())
        annotations.append(annotation)
    return annotations


def to_face_annotations(faces: list[DrawnFace], image_id: int) -> list[dict]:
    """COCO annotations, without `id`; `vertices` are V * D numbers, of faces with a mesh only."""
    annotations = []
    for face in faces:
        points = face.keypoints
        annotation = {
            "image_id": image_id,
            "category_id": FACE,
            "iscrowd": int(face.is_ignored),
            "area": round(face.box[2] * face.box[3], 2),
            "bbox": np.round(face.box, 2).tolist(),
            "segmentation": [],
            "keypoints": [0] * 15 if points is None else np.round(points, 2).ravel().tolist(),
            "num_keypoints": 0 if points is None else len(points),
        }
        if face.vertices is not None:
            annotation["vertices"] = np.round(face.vertices, 2).ravel().tolist()
        annotations.append(annotation)
    return annotations


def to_segmentation(instance: Instance) -> list | dict:
    """Polygons where they give back the very mask; else, and for crowds, a compressed RLE."""
    rle = encode(instance.mask)
    if not instance.is_crowd:
        polygon = _trace(instance.mask)
        if polygon is not None:
            size = instance.mask.shape
            drawn = coco_mask.decode(coco_mask.frPyObjects([polygon], *size))[..., 0]
            if np.array_equal(drawn, instance.mask):
                return [polygon]
    return rle


def to_bbox(mask: np.ndarray) -> list[int]:
    """(H, W) bool, not empty -> x, y, width, height."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def to_panoptic(scene: Scene) -> tuple[np.ndarray, list[dict]]:
    """The segments of a scene.

    Returns:
        (H, W) int32 segment ids, 0 is void; and COCO `segments_info`. An object that keeps its
        number, and each stuff class, has the same id in all scenes.
    """
    ids = np.zeros(scene.stuff.shape, np.int32)
    segments = []
    for instance in scene.instances:
        number = instance.category * _SEGMENTS_PER_CATEGORY + instance.number
        ids[instance.mask] = number
        segments.append(_segment(number, instance.category, instance.mask, instance.is_crowd))
    for category in STUFF.values():
        mask = scene.stuff == category
        if mask.any():
            number = category * _SEGMENTS_PER_CATEGORY
            ids[mask] = number
            segments.append(_segment(number, category, mask, is_crowd=False))
    return ids, segments


def to_colors(ids: np.ndarray) -> np.ndarray:
    """(H, W) segment ids -> (H, W, 3) uint8 RGB; id = R + 256 G + 65536 B."""
    return np.stack((ids % 256, ids // 256 % 256, ids // 65536), axis=-1).astype(np.uint8)


def encode(mask: np.ndarray) -> dict:
    """(H, W) bool -> compressed RLE with text counts."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")}


def _segment(number: int, category: int, mask: np.ndarray, is_crowd: bool) -> dict:
    return {
        "id": number,
        "category_id": category,
        "area": int(mask.sum()),
        "bbox": to_bbox(mask),
        "iscrowd": int(is_crowd),
    }


def _trace(mask: np.ndarray) -> list[int] | None:
    """The outline along pixel borders, as x, y, x, y, ...; None for holes and several parts."""
    num_labels, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    if num_labels != 2:
        return None
    # Twice as large, the contour through pixel centers tells left borders from right ones.
    doubled = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if len(contours) != 1:
        return None
    points = (contours[0][:, 0] + 1) // 2  # (M, 2)
    points = points[(points != np.roll(points, 1, axis=0)).any(1)]
    step_in, step_out = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    corners = points[step_in[:, 0] * step_out[:, 1] != step_in[:, 1] * step_out[:, 0]]
    return corners.ravel().tolist()
