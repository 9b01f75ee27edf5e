"""Our host-free transforms in MMDetection's pipelines."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import HorizontalBoxes, get_box_tensor
from mmdet.structures.mask import BitmapMasks

from metaheads.datasets import transforms
from metaheads.hosts.mmdet.registry import TRANSFORMS
from metaheads.options import check_options


@TRANSFORMS.register_module()
class FixedResize(BaseTransform):
    """Stretches the image to a fixed size (height, width) with our own resize kernel.

    For tests: annotations stay in the original image. The image becomes float32 and is not rounded.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = tuple(size)

    def transform(self, results: dict) -> dict:
        height, width = results["img"].shape[:2]
        results["img"] = transforms.resize_image(results["img"], self.size)
        results["img_shape"] = self.size
        results["scale_factor"] = (self.size[1] / width, self.size[0] / height)
        return results


@TRANSFORMS.register_module()
class TrainTransform(BaseTransform):
    """The host-free training transform; options as in
    `metaheads.datasets.transforms.TrainTransform`.

    Stands after LoadImageFromFile and LoadAnnotations and before PackDetInputs.
    """

    def __init__(self, **options) -> None:
        checked = check_options(transforms.TrainTransform, options)
        self._transform = transforms.TrainTransform(**checked)

    def transform(self, results: dict) -> dict:
        record = self._transform(to_record(results))
        size = record.image.shape[:2]
        results["img"] = record.image
        results["img_shape"] = size
        results["gt_bboxes"] = HorizontalBoxes(record.boxes.astype(np.float32).reshape(-1, 4))
        results["gt_bboxes_labels"] = record.labels
        results["gt_ignore_flags"] = record.is_crowd
        if record.masks is not None:
            results["gt_masks"] = BitmapMasks(record.masks.astype(np.uint8), *size)
        return results


def to_record(results: dict) -> transforms.Record:
    """MMDetection's results dict, with image and annotations loaded, as a host-free record."""
    masks = results.get("gt_masks")
    boxes = get_box_tensor(results["gt_bboxes"]).numpy().reshape(-1, 4)
    return transforms.Record(
        image=results["img"],
        boxes=boxes.astype(np.float32),
        labels=np.asarray(results["gt_bboxes_labels"], np.int64),
        is_crowd=np.asarray(results["gt_ignore_flags"], bool),
        masks=None if masks is None else masks.to_ndarray().astype(bool),
        keypoints=None,
    )
