"""Metrics that MMDetection does not have."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.evaluation import INSTANCE_OFFSET
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from metaheads.checks import check_points
from metaheads.evaluation import (
    LabelledSegment,
    MeanIoU,
    Overlaps,
    PanopticFiles,
    PanopticQuality,
    PointErrors,
    SegmentationError,
    SemanticFiles,
    WiderFace,
    WiderFaceTruth,
)
from metaheads.hosts.mmdet.registry import METRICS

# In the order of COCOeval's `stats` for keypoints.
NAMES = ("mAP", "mAP_50", "mAP_75", "mAP_m", "mAP_l", "AR", "AR_50", "AR_75", "AR_m", "AR_l")


@METRICS.register_module()
class KeypointMetric(BaseMetric):
    """COCO's AP of keypoints (object keypoint similarity), by pycocotools.

    Args:
        ann_file: COCO file with keypoints.
        sigmas: of the keypoints; by default COCO's 17.
        others: as in any metric of MMEngine.
    """

    default_prefix = "coco"

    def __init__(
        self,
        ann_file: str,
        sigmas: Sequence[float] | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file, self.sigmas = ann_file, sigmas

    def check_model(self, model: nn.Module) -> None:
        """Raises ValueError for a model that gives no keypoints."""
        check_points(model)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            found = sample["pred_instances"]
            self.results.append(
                {
                    "image_id": sample["img_id"],
                    "labels": found["labels"].cpu().numpy(),
                    "scores": found["scores"].cpu().numpy(),
                    "keypoints": found["keypoints"].cpu().numpy(),
                }
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        talk = io.StringIO()
        with contextlib.redirect_stdout(talk):
            truth = COCO(self.ann_file)
            categories = truth.getCatIds(catNms=list(self.dataset_meta["classes"]))
            entries = [
                {
                    "image_id": each["image_id"],
                    "category_id": categories[label],
                    "score": float(score),
                    "keypoints": points.astype(np.float64).ravel().tolist(),
                }
                for each in results
                for label, score, points in zip(
                    each["labels"], each["scores"], each["keypoints"], strict=True
                )
            ]
            if not entries:
                return {f"keypoints_{name}": 0.0 for name in NAMES}
            evaluation = COCOeval(truth, truth.loadRes(entries), "keypoints")
            if self.sigmas is not None:
                evaluation.params.kpt_oks_sigmas = np.array(self.sigmas)
            evaluation.params.imgIds = sorted(each["image_id"] for each in results)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        MMLogger.get_current_instance().info(f"keypoints\n{talk.getvalue()}")
        named = zip(NAMES, evaluation.stats, strict=True)
        return {f"keypoints_{name}": round(float(value), 3) for name, value in named}


@METRICS.register_module()
class NMEMetric(BaseMetric):
    """The normalised mean error of keypoints, in percent: NME, failures_10, matched.

    See `metaheads.evaluation.nme`. With a mesh also of its vertices: vertices_NME, ...

    Args:
        ann_file: COCO file with keypoints.
        mesh_file: JSON of `metaheads.mesh`.
        others: as in any metric of MMEngine.
    """

    default_prefix = "points"

    def __init__(
        self,
        ann_file: str,
        mesh_file: str = "",
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file, self.mesh_file = ann_file, mesh_file

    def check_model(self, model: nn.Module) -> None:
        """Raises ValueError for a model that does not give these points."""
        check_points(model, self.mesh_file)

    @functools.cached_property
    def _errors(self) -> PointErrors:
        return PointErrors(self.ann_file, (self.dataset_meta or {}).get("classes"), self.mesh_file)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            found = {name: value.cpu().numpy() for name, value in sample["pred_instances"].items()}
            fields = (found[name] for name in ("bboxes", "labels", "scores"))
            self.results.append(self._errors.measure(sample["img_id"], *fields, found))

    def compute_metrics(self, results: list) -> dict[str, float]:
        return self._errors.total(results)


@METRICS.register_module()
class WiderFaceMetric(BaseMetric):
    """WIDER FACE's average precision in percent: easy, medium, hard.

    Images are told by their folder and name. See `metaheads.evaluation.widerface`.

    Args:
        ground_truth: folder of the four .mat files.
        submission: folder where the official text files are written to.
        whole_pixels: as in `metaheads.evaluation.WiderFace`.
        others: as in any metric of MMEngine.
    """

    default_prefix = "widerface"

    def __init__(
        self,
        ground_truth: str,
        submission: str = "",
        whole_pixels: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self._total = WiderFace(WiderFaceTruth.from_folder(ground_truth), whole_pixels=whole_pixels)
        self.submission = submission

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            found = sample["pred_instances"]
            fields = (found[name].cpu().numpy() for name in ("bboxes", "scores"))
            self.results.append((sample["img_path"], *fields))

    def compute_metrics(self, results: list) -> dict[str, float]:
        self._total.reset()
        for result in results:
            self._total.update(*result)
        if self.submission:
            self._total.write_submission(self.submission)
        return self._total.compute().to_percent()


@METRICS.register_module()
class PanopticMetric(BaseMetric):
    """Panoptic quality without panopticapi, in percent, also of MMDetection's own models.

    A prediction is `pred_panoptic_seg.sem_seg`, (1, H, W) integers in MMDetection's format: label +
    1000 x number of the instance. The number of classes and, where no class has it, 255 are void.
    Labels are places in the `classes` of the data set, which are found in the file by their names;
    without them, places among the categories of the file.

    Args:
        ann_file: COCO panoptic JSON of the truth.
        seg_prefix: folder of its PNGs.
        others: as in any metric of MMEngine.
    """

    default_prefix = "coco_panoptic"

    def __init__(
        self,
        ann_file: str,
        seg_prefix: str,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file, self.seg_prefix = ann_file, seg_prefix

    @functools.cached_property
    def _truth(self) -> PanopticFiles:
        return PanopticFiles(self.ann_file, self.seg_prefix)

    @functools.cached_property
    def _quality(self) -> PanopticQuality:
        """Measures; it adds nothing up."""
        return PanopticQuality(self._truth.is_thing)

    @functools.cached_property
    def _categories(self) -> list[int]:
        """By label."""
        names = self._truth.names
        classes = (self.dataset_meta or {}).get("classes")
        if classes is None:
            return list(names)
        by_name = {name: category for category, name in names.items()}
        if len(by_name) < len(names):
            raise ValueError(f"{self.ann_file}: two categories have one name; rename one")
        if absent := [each for each in classes if each not in by_name]:
            raise ValueError(
                f"{self.ann_file} has no categories {absent[:5]} of the data's classes"
            )
        return [by_name[each] for each in classes]

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            name = f"image {sample['img_id']} ({self._truth.name_of(sample['img_id'])})"
            found = self._to_segments(sample["pred_panoptic_seg"]["sem_seg"], name)
            frame = Overlaps.of_frame(*self._truth.read(sample["img_id"]), *found, name)
            statistics = self._quality.measure([frame], [name])[0]
            used = np.flatnonzero(statistics.any(1))
            self.results.append((used, statistics[used]))

    def compute_metrics(self, results: list) -> dict[str, float]:
        total = PanopticQuality(self._truth.is_thing)
        for used, statistics in results:
            total.statistics[0, used] += statistics
        scores = total.compute()
        table = scores.to_table(self._truth.names)
        MMLogger.get_current_instance().info(f"panoptic quality, percent\n{table}")
        return scores.to_percent()

    def _to_segments(self, found: Any, name: str) -> tuple[np.ndarray, list[LabelledSegment]]:
        """(1, H, W) in MMDetection's format -> (H, W) int64 ids, 0 is void, and the segments."""
        values = found[0].cpu().numpy().astype(np.int64)
        count = len(self._categories)
        segments, void = [], []
        for value in np.unique(values).tolist():
            label = value % INSTANCE_OFFSET
            if label == count or (label == 255 and count < 255):
                void.append(value)
            elif label > count or value < 0:
                raise SegmentationError(f"{name}: value {value} of a model with {count} classes")
            else:  # 0 is a segment of theirs
                segments.append(LabelledSegment(value + 1, self._categories[label]))
        return np.where(np.isin(values, void), 0, values + 1), segments


@METRICS.register_module()
class SemanticMetric(BaseMetric):
    """Mean intersection over union of label maps, in percent: mIoU, pACC, mACC.

    A prediction is `pred_sem_seg.sem_seg`, (1, H, W) labels: places in the data set's
    `thing_classes`, then its `stuff_classes`; without them, those of the file. A class counts in
    the mean where truth or prediction have it.

    Args:
        ann_file: COCO panoptic JSON of the truth.
        seg_prefix: folder of its PNGs; void and crowds are ignored.
        others: as in any metric of MMEngine.
    """

    default_prefix = "sem_seg"

    def __init__(
        self,
        ann_file: str,
        seg_prefix: str,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file, self.seg_prefix = ann_file, seg_prefix

    @functools.cached_property
    def _truth(self) -> SemanticFiles:
        meta = self.dataset_meta or {}
        names = meta.get("thing_classes"), meta.get("stuff_classes")
        return SemanticFiles(self.ann_file, self.seg_prefix, *names)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        total = MeanIoU(len(self._truth.classes))
        for sample in data_samples:
            truth, name = self._truth.read(sample["img_id"])
            found = sample["pred_sem_seg"]["sem_seg"][0].cpu().numpy()
            pixels = total.measure(truth, found, name).ravel()
            used = np.flatnonzero(pixels)
            self.results.append((used, pixels[used]))

    def compute_metrics(self, results: list) -> dict[str, float]:
        total = MeanIoU(len(self._truth.classes))
        for used, pixels in results:
            total.confusion.flat[used] += pixels
        scores = total.compute()
        table = scores.to_table(self._truth.classes)
        MMLogger.get_current_instance().info(f"semantic segmentation, percent\n{table}")
        return scores.to_percent()
