"""Metrics that MMDetection does not have."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

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
