"""Detectron2's COCO evaluator for models that score masks apart from boxes."""

from __future__ import annotations

import copy
from typing import Any

from detectron2.evaluation import COCOEvaluator


class InstanceEvaluator(COCOEvaluator):
    """COCO AP of boxes and masks; masks rank by `mask_scores` where there are any (YOLACT++)."""

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        before = len(self._predictions)
        super().process(inputs, outputs)
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
