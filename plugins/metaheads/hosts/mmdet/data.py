"""Our host-free transforms in MMDetection's pipelines."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import PackDetInputs
from mmdet.structures.bbox import HorizontalBoxes, get_box_tensor
from mmdet.structures.mask import BitmapMasks

from metaheads.datasets import faces, transforms, warps
from metaheads.hosts.mmdet.registry import DATASETS, TRANSFORMS
from metaheads.mesh import MeshTopology
from metaheads.options import check_options

META_KEYS = (
    *("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    *("to_original", "view_scale"),
)


@TRANSFORMS.register_module()
class FixedResize(BaseTransform):
    """Stretches the image to a fixed size (height, width) with our own resize kernel.

    For tests: annotations stay in the original image. The image becomes float32 and is not rounded.

    Args:
        size: (height, width).
        scale: of this size, for multi-scale testing.
    """

    def __init__(self, size: tuple[int, int], scale: float = 1.0) -> None:
        self.size, self._scale = transforms.scale_size((size[0], size[1]), scale), scale

    def transform(self, results: dict) -> dict:
        height, width = results["img"].shape[:2]
        results["img"] = transforms.resize_image(results["img"], self.size)
        results["img_shape"], results["view_scale"] = self.size, self._scale
        results["scale_factor"] = (self.size[1] / width, self.size[0] / height)
        return results


@TRANSFORMS.register_module()
class TestView(BaseTransform):
    """The host-free view of an image in tests.

    Stands before metaheads.PackInputs, which tells the model how the view lies in the image.

    Args:
        scale: of the image, for multi-scale testing.
        others: as in `metaheads.datasets.warps.TestView`.
    """

    def __init__(self, scale: float = 1.0, **options) -> None:
        self._view = warps.TestView(**check_options(warps.TestView, options))
        self.size, self._scale = self._view.size, scale

    def transform(self, results: dict) -> dict:
        results["img"], geometry = self._view(results["img"], self._scale)
        results["img_shape"], results["view_scale"] = geometry.input_size, self._scale
        results["to_original"] = geometry.to_original
        return results


@DATASETS.register_module()
class CocoKeypoints(CocoDataset):
    """MMDetection's CocoDataset, whose instances keep their `keypoints`, (K, 3), and their
    `vertices`, as they stand in the file, where they have any.

    Objects of any size are there, as in Detectron2; MMDetection's own leaves those out whose width
    or height is below one pixel.

    Args:
        num_keypoints: K.
        others: as in CocoDataset.

    Raises:
        ValueError: an object has another number of keypoints.
    """

    def __init__(self, *args: Any, num_keypoints: int, **kwargs: Any) -> None:
        self.num_keypoints = num_keypoints
        super().__init__(*args, **kwargs)

    def parse_data_info(self, raw_data_info: dict) -> dict:
        parsed = super().parse_data_info({**raw_data_info, "raw_ann_info": []})
        parsed["instances"] = [
            self._instance(annotation)
            for annotation in raw_data_info["raw_ann_info"]
            if annotation["category_id"] in self.cat_ids and not annotation.get("ignore")
        ]
        return parsed

    def _instance(self, annotation: dict) -> dict:
        x, y, width, height = annotation["bbox"]
        instance = {
            "bbox": [x, y, x + width, y + height],
            "bbox_label": self.cat2label[annotation["category_id"]],
            "ignore_flag": int(bool(annotation.get("iscrowd"))),
            "keypoints": self._keypoints(annotation),
        }
        if annotation.get("segmentation"):
            instance["mask"] = annotation["segmentation"]
        if "vertices" in annotation:
            instance["vertices"] = annotation["vertices"]
        return instance

    def _keypoints(self, annotation: dict) -> np.ndarray:
        given = np.array(annotation.get("keypoints") or [], np.float32).reshape(-1, 3)
        if len(given) not in (0, self.num_keypoints):
            raise ValueError(
                f"{self.ann_file}: annotation {annotation.get('id')} has {len(given)} keypoints, "
                f"the config says num_keypoints={self.num_keypoints}"
            )
        return given if len(given) else np.zeros((self.num_keypoints, 3), np.float32)


@TRANSFORMS.register_module()
class LoadKeypoints(BaseTransform):
    """`gt_keypoints` (N, K, 3) of a `CocoKeypoints`; stands behind LoadAnnotations."""

    def __init__(self, num_keypoints: int) -> None:
        self.num_keypoints = num_keypoints

    def transform(self, results: dict) -> dict:
        found = [each["keypoints"] for each in results["instances"]]
        results["gt_keypoints"] = np.array(found, np.float32).reshape(-1, self.num_keypoints, 3)
        return results


@TRANSFORMS.register_module()
class LoadVertices(BaseTransform):
    """`gt_vertices` (N, V, D) of a `CocoKeypoints`, NaN without; stands behind LoadAnnotations.

    Args:
        mesh_file: JSON of `metaheads.mesh`.
    """

    def __init__(self, mesh_file: str) -> None:
        self._mesh = MeshTopology.from_json(mesh_file)

    def transform(self, results: dict) -> dict:
        found = [each.get("vertices") for each in results["instances"]]
        where = f"{results.get('img_path', 'an image')}: "
        results["gt_vertices"] = self._mesh.read_vertices(found, where)
        results["vertex_flip"] = self._mesh.flip
        return results


@TRANSFORMS.register_module()
class PackInputs(PackDetInputs):
    """MMDetection's, with the geometry of `TestView`, keypoints and the vertices of meshes.

    What `LoadPanoptic` calls gt_seg_map becomes `gt_sem_seg`, with sem_seg (1, H, W).

    Raises:
        ValueError: a transform of MMDetection's own has moved the boxes, but not their points.
    """

    mapping_table: ClassVar = {
        **PackDetInputs.mapping_table,
        "gt_keypoints": "keypoints",
        "gt_vertices": "vertices",
    }

    def __init__(self, meta_keys: tuple[str, ...] = META_KEYS) -> None:
        super().__init__(meta_keys=meta_keys)

    def transform(self, results: dict) -> dict:
        points = [name for name in ("gt_keypoints", "gt_vertices") if name in results]
        if points and results.get("homography_matrix") is not None:
            raise ValueError(
                f"{results.get('img_path', 'an image')}: MMDetection's own transforms (RandomFlip, "
                f"Resize, RandomCrop, ...) move boxes, but leave {' and '.join(points)} where they "
                "were: use metaheads.TrainTransform, FaceTransform, WarpTransform or CropTransform"
            )
        return super().transform(results)


class _RecordTransform(BaseTransform):
    """A host-free training transform in a pipeline.

    Stands after LoadImageFromFile and LoadAnnotations (or LoadPanoptic) and before PackInputs.
    """

    transform_class: type

    def __init__(self, **options) -> None:
        checked = check_options(self.transform_class, options)
        self._transform = self.transform_class(**checked)

    def transform(self, results: dict) -> dict:
        record = self._transform(to_record(results))
        size = record.image.shape[:2]
        results["img"] = record.image
        results["img_shape"] = size
        results["gt_bboxes"] = HorizontalBoxes(record.boxes.astype(np.float32).reshape(-1, 4))
        results["gt_bboxes_labels"] = record.labels
        results["gt_ignore_flags"] = record.is_crowd
        results.pop("gt_masks", None)
        if record.keypoints is not None:
            results["gt_keypoints"] = record.keypoints
        if record.vertices is not None:
            results["gt_vertices"] = record.vertices
        if record.masks is not None:
            results["gt_masks"] = BitmapMasks(record.masks.astype(np.uint8), *size)
        results.pop("gt_seg_map", None)
        if record.semantic is not None:
            results["gt_seg_map"] = record.semantic
        return results


@TRANSFORMS.register_module()
class TrainTransform(_RecordTransform):
    """Options as in `metaheads.datasets.transforms.TrainTransform`."""

    transform_class = transforms.TrainTransform


@TRANSFORMS.register_module()
class WarpTransform(_RecordTransform):
    """Options as in `metaheads.datasets.warps.WarpTransform`."""

    transform_class = warps.WarpTransform


@TRANSFORMS.register_module()
class CropTransform(_RecordTransform):
    """Options as in `metaheads.datasets.warps.CropTransform`."""

    transform_class = warps.CropTransform


@TRANSFORMS.register_module()
class FaceTransform(_RecordTransform):
    """Options as in `metaheads.datasets.faces.FaceTransform`."""

    transform_class = faces.FaceTransform


def to_record(results: dict) -> transforms.Record:
    """MMDetection's results dict, with image and annotations loaded, as a host-free record."""
    masks, semantic = results.get("gt_masks"), results.get("gt_seg_map")
    boxes = get_box_tensor(results["gt_bboxes"]).numpy().reshape(-1, 4)
    return transforms.Record(
        image=results["img"],
        boxes=boxes.astype(np.float32),
        labels=np.asarray(results["gt_bboxes_labels"], np.int64),
        is_crowd=np.asarray(results["gt_ignore_flags"], bool),
        masks=None if masks is None else masks.to_ndarray().astype(bool),
        keypoints=results.get("gt_keypoints"),
        vertices=results.get("gt_vertices"),
        vertex_flip=results.get("vertex_flip"),
        semantic=None if semantic is None else np.asarray(semantic, np.uint8),
    )
