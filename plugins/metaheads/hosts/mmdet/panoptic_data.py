"""COCO panoptic data in MMDetection, without `panopticapi`."""

from __future__ import annotations

import os.path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.base_det_dataset import BaseDetDataset
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from metaheads.datasets import panoptic
from metaheads.datasets.views import VOID
from metaheads.hosts.mmdet.registry import DATASETS, TRANSFORMS


@DATASETS.register_module()
class CocoPanoptic(BaseDetDataset):
    """Images with a COCO panoptic JSON and its PNGs.

    Args:
        data_prefix: `img`, the folder of the images or of their sub-folders, and `seg`, that of the
            PNGs.
        metainfo: `thing_classes` and `stuff_classes` in the order of the labels; without them all
            of the file's. `classes` is always both.
        filter_cfg: `filter_empty_gt` drops images without things, `min_size` smaller ones; not in
            tests.
        others: as in any of MMDetection's data sets.

    Raises:
        ValueError: a file that is no COCO panoptic, or a class that it lacks.
    """

    def load_data_list(self) -> list[dict[str, Any]]:
        given = self._metainfo.get("thing_classes"), self._metainfo.get("stuff_classes")
        folder = self.data_prefix["img"]
        space, entries = panoptic.read_file(self.ann_file, *given, image_folder=folder)
        self._metainfo.update(
            thing_classes=space.thing_classes,
            stuff_classes=space.stuff_classes,
            classes=space.classes,
        )
        return [self._to_dict(entry) for entry in entries]

    def _to_dict(self, entry: panoptic.Entry) -> dict[str, Any]:
        """`segments_info` has MMDetection's keys and `is_crowd`."""
        return {
            "img_path": os.path.join(self.data_prefix["img"], entry.image["file_name"]),
            "img_id": entry.image["id"],
            "height": entry.image["height"],
            "width": entry.image["width"],
            "seg_map_path": os.path.join(self.data_prefix["seg"], entry.png),
            "segments_info": [
                {
                    "id": each.id,
                    "category": each.label,
                    "is_thing": each.is_thing,
                    "is_crowd": each.is_crowd,
                }
                for each in entry.segments
            ],
        }

    def filter_data(self) -> list[dict[str, Any]]:
        if self.test_mode or not self.filter_cfg:
            return self.data_list
        min_size = self.filter_cfg.get("min_size", 0)
        needs_things = self.filter_cfg.get("filter_empty_gt", False)
        return [
            each
            for each in self.data_list
            if min(each["height"], each["width"]) >= min_size
            and (_things(each) or not needs_things)
        ]

    def get_cat_ids(self, idx: int) -> list[int]:
        """The labels of an image's things, for MMDetection's ClassBalancedDataset."""
        return _things(self.get_data_info(idx))


def _things(info: dict[str, Any]) -> list[int]:
    return [
        each["category"]
        for each in info["segments_info"]
        if each["is_thing"] and not each["is_crowd"] and each["category"] != VOID
    ]


@TRANSFORMS.register_module()
class LoadPanoptic(BaseTransform):
    """Objects and semantic map of a `CocoPanoptic`; stands behind LoadImageFromFile.

    Gives `gt_bboxes` (around the pixels), `gt_bboxes_labels`, `gt_ignore_flags` (crowds of things),
    `gt_masks`, and as `gt_seg_map` the (H, W) uint8 panoptic labels: things 0..T-1, then stuff, 255
    for void and crowds. That is what MMDetection's PanopticFPN and our models are trained on.

    Args:
        with_mask: `gt_masks` are wanted.
    """

    def __init__(self, with_mask: bool = True) -> None:
        self.with_mask = with_mask

    def transform(self, results: dict) -> dict:
        segments = [
            panoptic.SegmentInfo(each["id"], each["category"], each["is_thing"], each["is_crowd"])
            for each in results["segments_info"]
        ]
        record = panoptic.read_record(
            results["img"], results["seg_map_path"], segments, use_masks=self.with_mask
        )
        results["gt_bboxes"] = HorizontalBoxes(record.boxes)
        results["gt_bboxes_labels"] = record.labels
        results["gt_ignore_flags"] = record.is_crowd
        if record.masks is not None:
            masks = record.masks.astype(np.uint8)
            results["gt_masks"] = BitmapMasks(masks, *record.image.shape[:2])
        results["gt_seg_map"], results["ignore_index"] = record.semantic, VOID
        return results
