"""COCO AP of models that score masks apart from boxes, panoptic quality, and mean IoU."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from metaheads.evaluation import (
    LabelledSegment,
    MeanIoU,
    NormalisedMeanError,
    PanopticFiles,
    PanopticQuality,
    PointErrors,
    SegmentationError,
    SemanticFiles,
    WiderFace,
    WiderFaceTruth,
)

MIDDLE = np.array([0.5, 0.5, 0])  # what Detectron2 adds to keypoints


class InstanceEvaluator(COCOEvaluator):
    """COCO AP of boxes and masks; masks rank by `mask_scores` where there are any (YOLACT++)."""

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        before = len(self._predictions)
        super().process(inputs, [_with_own_keypoints(each) for each in outputs])
        for prediction, output in zip(self._predictions[before:], outputs, strict=True):
            instances = output["instances"]
            if instances.has("mask_scores"):
                scores = instances.mask_scores.tolist()
                for result, score in zip(prediction["instances"], scores, strict=True):
                    result["mask_score"] = score

    def _eval_predictions(self, predictions: list[dict[str, Any]], img_ids: Any = None) -> None:
        results = [result for each in predictions for result in each["instances"]]
        if not any("mask_score" in result for result in results):
            return super()._eval_predictions(predictions, img_ids)
        by_mask = copy.deepcopy(predictions)
        for each in by_mask:
            for result in each["instances"]:
                result["score"] = result["mask_score"]
        tasks = self._tasks
        # The boxes last, because the file of results keeps the scores of the last task.
        for self._tasks, scored in ((("segm",), by_mask), (("bbox",), predictions)):
            super()._eval_predictions(scored, img_ids)
        self._tasks = tasks


def _with_own_keypoints(output: dict[str, Any]) -> dict[str, Any]:
    """Detectron2 moves keypoints in place (on the CPU): other evaluators must not see that."""
    instances = output["instances"]
    if not instances.has("pred_keypoints"):
        return output
    own = Instances(instances.image_size, **instances.get_fields())
    own.pred_keypoints = instances.pred_keypoints.clone()
    return {**output, "instances": own}


class NMEEvaluator(DatasetEvaluator):
    """The normalised mean error of keypoints, in percent: NME, failures_10, matched.

    See `metaheads.evaluation.nme`. With a mesh also of its vertices: vertices_NME, ...

    Args:
        dataset_name: its metadata have json_file.
        mesh_file: JSON of `metaheads.mesh`.
    """

    def __init__(self, dataset_name: str, mesh_file: str = "") -> None:
        json_file = PathManager.get_local_path(MetadataCatalog.get(dataset_name).json_file)
        self._errors = PointErrors(json_file, mesh_file=mesh_file)
        self.reset()

    def reset(self) -> None:
        self._found: list[dict[str, NormalisedMeanError]] = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        for given, output in zip(inputs, outputs, strict=True):
            found = output["instances"].to("cpu").get_fields()
            points = {
                name: found[f"pred_{name}"].numpy()
                for name in ("keypoints", "vertices")
                if f"pred_{name}" in found
            }
            if "keypoints" in points:
                points["keypoints"] = points["keypoints"] - MIDDLE
            boxes, labels = found["pred_boxes"].tensor.numpy(), found["pred_classes"].numpy()
            scores = found["scores"].numpy()
            image = self._errors.measure(given["image_id"], boxes, labels, scores, points)
            self._found.append(image)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        gathered = _gather(self._found)
        return None if gathered is None else {"points": self._errors.total(gathered)}


class WiderFaceEvaluator(DatasetEvaluator):
    """WIDER FACE's average precision in percent: easy, medium, hard.

    Images are told by their folder and name. See `metaheads.evaluation.widerface`.

    Args:
        ground_truth: folder of the four .mat files.
        submission: folder where the official text files are written to.
        whole_pixels: as in `metaheads.evaluation.WiderFace`.
    """

    def __init__(self, ground_truth: str, submission: str = "", whole_pixels: bool = False) -> None:
        truth = WiderFaceTruth.from_folder(ground_truth)
        self._total = WiderFace(truth, whole_pixels=whole_pixels)
        self.submission = submission
        self.reset()

    def reset(self) -> None:
        self._found: list[tuple[str, np.ndarray, np.ndarray]] = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        for given, output in zip(inputs, outputs, strict=True):
            found = output["instances"].to("cpu")
            boxes, scores = found.pred_boxes.tensor.numpy(), found.scores.numpy()
            self._found.append((given["file_name"], boxes, scores))

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        gathered = _gather(self._found)
        if gathered is None:
            return None
        self._total.reset()
        for each in gathered:
            self._total.update(*each)
        if self.submission:
            self._total.write_submission(self.submission)
        return {"widerface": self._total.compute().to_percent()}


class PanopticQualityEvaluator(DatasetEvaluator):
    """Panoptic quality without panopticapi, in percent, also of Detectron2's own models.

    A prediction is `panoptic_seg`: (H, W) ids and their segments_info (id, isthing, category_id);
    an id without a segment is void. Where segments_info is None, ids are category x label_divisor +
    number, and -1 is void.

    Args:
        dataset_name: its metadata have panoptic_json, panoptic_root,
            thing_dataset_id_to_contiguous_id and stuff_dataset_id_to_contiguous_id.
    """

    def __init__(self, dataset_name: str) -> None:
        self._metadata = MetadataCatalog.get(dataset_name)
        self._truth = PanopticFiles(
            PathManager.get_local_path(self._metadata.panoptic_json),
            PathManager.get_local_path(self._metadata.panoptic_root),
        )
        # The categories of the file, by `isthing` and contiguous number.
        self._categories = {
            True: {v: k for k, v in self._metadata.thing_dataset_id_to_contiguous_id.items()},
            False: {v: k for k, v in self._metadata.stuff_dataset_id_to_contiguous_id.items()},
        }
        self._quality = PanopticQuality(self._truth.is_thing)

    def reset(self) -> None:
        self._quality.reset()

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        for given, output in zip(inputs, outputs, strict=True):
            image_id = given["image_id"]
            name = f"image {image_id} ({self._truth.name_of(image_id)})"
            truth, truth_segments = self._truth.read(image_id)
            ids, infos = output["panoptic_seg"]
            ids = ids.cpu().numpy().astype(np.int64)
            if infos is None:
                ids, infos = self._split(ids)
            segments = [self._to_segment(info, name) for info in infos]
            ids = np.where(np.isin(ids, [each.id for each in segments]), ids, 0)
            self._quality.update([truth], [truth_segments], [ids], [segments], [name])

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        comm.synchronize()
        gathered: Sequence[np.ndarray] = comm.gather(self._quality.statistics)
        if not comm.is_main_process():
            return None
        total = PanopticQuality(self._truth.is_thing)
        total.statistics = np.sum(gathered, axis=0)
        scores = total.compute()
        table = scores.to_table(self._truth.names)
        logging.getLogger(__name__).info(f"panoptic quality, percent\n{table}")
        return {"panoptic_seg": scores.to_percent()}

    def _split(self, ids: np.ndarray) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Ids that say their category -> ids from 1, and segments_info."""
        infos = []
        for number in np.unique(ids[ids >= 0]).tolist():
            label = number // self._metadata.label_divisor
            is_thing = label in self._categories[True]
            infos.append({"id": number + 1, "category_id": label, "isthing": is_thing})
        return np.maximum(ids + 1, 0), infos

    def _to_segment(self, info: dict[str, Any], name: str) -> LabelledSegment:
        """Without `isthing` the category is already that of the file, as in Detectron2's own."""
        label, is_thing = info["category_id"], info.get("isthing")
        if is_thing is None:
            return LabelledSegment(info["id"], label)
        categories = self._categories[bool(is_thing)]
        if label not in categories:
            kind = "thing" if is_thing else "stuff"
            raise SegmentationError(f"{name}: {kind} category {label} is not in the metadata")
        return LabelledSegment(info["id"], categories[label])


class SemanticEvaluator(DatasetEvaluator):
    """Mean intersection over union of label maps, in percent: mIoU, pACC, mACC.

    A prediction is `sem_seg`, (C, H, W) scores of the panoptic labels; a class counts in the mean
    where truth or prediction have it.

    Args:
        dataset_name: its metadata have panoptic_json and panoptic_root.
    """

    def __init__(self, dataset_name: str) -> None:
        metadata = MetadataCatalog.get(dataset_name)
        self._truth = SemanticFiles(
            PathManager.get_local_path(metadata.panoptic_json),
            PathManager.get_local_path(metadata.panoptic_root),
        )
        self._total = MeanIoU(len(self._truth.classes))

    def reset(self) -> None:
        self._total.reset()

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        for given, output in zip(inputs, outputs, strict=True):
            truth, name = self._truth.read(given["image_id"])
            self._total.update(truth, output["sem_seg"].argmax(0).cpu().numpy(), name)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        comm.synchronize()
        gathered: Sequence[np.ndarray] = comm.gather(self._total.confusion)
        if not comm.is_main_process():
            return None
        total = MeanIoU(self._total.num_classes)
        total.confusion = np.sum(gathered, axis=0)
        scores = total.compute()
        table = scores.to_table(self._truth.classes)
        logging.getLogger(__name__).info(f"semantic segmentation, percent\n{table}")
        return {"sem_seg": scores.to_percent()}


def _gather(found: list) -> list | None:
    """What all processes found, in the first one; None in the others."""
    comm.synchronize()
    gathered = comm.gather(found)
    return [each for part in gathered for each in part] if comm.is_main_process() else None
