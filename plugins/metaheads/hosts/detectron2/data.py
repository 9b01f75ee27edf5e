"""Our data mapper: crowds and objects without area, which Detectron2's drops, reach the model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, Keypoints
from numpy import ndarray
from pycocotools import mask as rle

from metaheads.datasets.transforms import Record
from metaheads.hosts.detectron2.config import TRANSFORMS, options_of
from metaheads.hosts.detectron2.datasets import mesh_file, num_keypoints
from metaheads.hosts.detectron2.panoptic_data import read_panoptic, separate_stuff
from metaheads.mesh import MeshTopology

_MIDDLE = 0.5  # what Detectron2 adds to a file's keypoints, and takes off for the evaluation


class MetaheadsMapper:
    """Data set dict -> model input, by the host-free training transform.

    Unlike Detectron2's mapper it keeps crowds (as `gt_is_crowd`) and objects of any size, and never
    leaves `gt_masks` out. At test time images come as they are: the model resizes them.

    Args:
        is_train: augment, and add "instances".
        image_format: channel order of the images, "RGB" or "BGR".
        transform: of the training images.
        use_masks: objects bring their masks; without one an object counts as a crowd.
        num_keypoints: objects bring so many keypoints; 0 for none.
        mesh: objects bring its vertices, NaN where they have none.
        separate_stuff: panoptic data come as Detectron2's PanopticFPN wants them: "sem_seg" (0 is
            all things, then stuff), no crowds.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        image_format: str,
        transform: Callable[[Record], Record] | None,
        use_masks: bool = True,
        num_keypoints: int = 0,
        mesh: MeshTopology | None = None,
        separate_stuff: bool = False,
    ) -> None:
        self.is_train = is_train
        self.image_format = image_format
        self.transform = transform
        self.use_masks, self.num_keypoints, self.mesh = use_masks, num_keypoints, mesh
        self.separate_stuff = separate_stuff

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        color_order = cfg.INPUT.FORMAT.lower()
        builder = TRANSFORMS[cfg.INPUT.MAPPER or "metaheads"]
        options, file = options_of(cfg, builder), mesh_file(cfg)
        return {
            "is_train": is_train,
            "image_format": cfg.INPUT.FORMAT,
            "transform": builder(**options, color_order=color_order) if is_train else None,
            "use_masks": cfg.MODEL.MASK_ON,
            "num_keypoints": num_keypoints(cfg),
            "mesh": MeshTopology.from_json(file) if is_train and file else None,
            "separate_stuff": cfg.INPUT.SEPARATE_STUFF,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Detectron2's data set dict -> "image" (3, h, w) in 0..255, "instances" and what it had.

        Of panoptic data also "semantic", (h, w) int64: things 0..T-1, then stuff, 255 where nothing
        is known.

        Raises:
            ValueError: the image or its PNG cannot be read or do not fit; names the file.
        """
        inputs = {name: value for name, value in dataset_dict.items() if name != "annotations"}
        image = read_image(inputs["file_name"], self.image_format)
        detection_utils.check_image_size(inputs, image)
        if self.transform is not None:
            record = self.transform(self._read_objects(image, dataset_dict))
            if record.semantic is not None:
                inputs["semantic"] = torch.from_numpy(record.semantic.astype(np.int64))
                if self.separate_stuff:
                    segments = dataset_dict["segments_info"]
                    inputs["sem_seg"] = separate_stuff(inputs["semantic"], segments)
                    record = record.select(~record.is_crowd)
            image = record.image
            inputs["instances"], inputs["is_sized"] = record_to_instances(record), True
        inputs["image"] = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return inputs

    def _read_objects(self, image: ndarray, dataset_dict: dict[str, Any]) -> Record:
        if "segments_info" in dataset_dict:
            return read_panoptic(image, dataset_dict, use_masks=self.use_masks)
        annotations = copy.deepcopy(dataset_dict.get("annotations", []))
        options = {"use_masks": self.use_masks, "num_keypoints": self.num_keypoints}
        record = to_record(image, annotations, **options)
        if self.mesh is not None:
            given = [each.get("vertices") for each in annotations]
            record.vertices = self.mesh.read_vertices(given, f"{dataset_dict['file_name']}: ")
            record.vertex_flip = self.mesh.flip
        return record


def read_image(file_name: str, image_format: str) -> ndarray:
    """(H, W, 3) uint8 in this channel order, turned as its EXIF data say.

    Raises:
        FileNotFoundError, ValueError: missing or broken; names the file.
    """
    try:
        return detection_utils.read_image(file_name, image_format)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"image {file_name} of the data set is missing") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"image {file_name} is broken, replace or remove it: {error}") from error


def to_record(
    image: ndarray,
    annotations: list[dict[str, Any]],
    *,
    use_masks: bool = True,
    num_keypoints: int = 0,
) -> Record:
    """An image and its annotations in Detectron2's format -> a record.

    With `use_masks`, an object without any mask cannot train one: it counts as a crowd. Detectron2
    moves keypoints to the middle of their pixels; here they are as in the file.

    Raises:
        ValueError: an object has another number of keypoints.
    """
    height, width = image.shape[:2]
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    crowds = np.array([bool(each.get("iscrowd", 0)) for each in annotations], bool)
    masks = None
    if use_masks:
        found = [_decode_mask(each.get("segmentation"), height, width) for each in annotations]
        crowds |= np.array([mask is None for mask in found], bool)
        masks = np.zeros((len(found), height, width), bool)
        for target, mask in zip(masks, found, strict=True):
            if mask is not None:
                target[:] = mask
    return Record(
        image=image,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array([each["category_id"] for each in annotations], np.int64),
        is_crowd=crowds,
        masks=masks,
        keypoints=_keypoints(annotations, num_keypoints) if num_keypoints else None,
    )


def record_to_instances(record: Record) -> Instances:
    """A record -> Detectron2's ground truth, with `gt_is_crowd`."""
    instances = Instances(tuple(record.image.shape[:2]))
    instances.gt_boxes = Boxes(torch.from_numpy(np.ascontiguousarray(record.boxes)))
    instances.gt_classes = torch.from_numpy(np.ascontiguousarray(record.labels))
    instances.gt_is_crowd = torch.from_numpy(np.ascontiguousarray(record.is_crowd))
    if record.keypoints is not None:
        instances.gt_keypoints = Keypoints(torch.from_numpy(record.keypoints))
    if record.vertices is not None:
        instances.gt_vertices = torch.from_numpy(np.ascontiguousarray(record.vertices))
    if record.masks is not None:
        instances.gt_masks = BitMasks(torch.from_numpy(np.ascontiguousarray(record.masks)))
    return instances


def _keypoints(annotations: list[dict[str, Any]], count: int) -> ndarray:
    """(N, count, 3) float32; zeros where an object has none."""
    found = np.zeros((len(annotations), count, 3), np.float32)
    for target, annotation in zip(found, annotations, strict=True):
        given = np.array(annotation.get("keypoints") or [], np.float32).reshape(-1, 3)
        if len(given) not in (0, count):
            raise ValueError(
                f"an object has {len(given)} keypoints, the config says {count} "
                "(MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS)"
            )
        if len(given):
            target[:] = given
            target[:, :2] -= np.where(given[:, 2:] > 0, _MIDDLE, given[:, :2])
    return found


def _decode_mask(segmentation: Any, height: int, width: int) -> ndarray | None:
    """(height, width) bool of polygons or an RLE; None without a segmentation."""
    if not segmentation:
        return None
    if isinstance(segmentation, list):
        segmentation = rle.merge(rle.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = rle.frPyObjects(segmentation, height, width)
    return rle.decode(segmentation).astype(bool)
