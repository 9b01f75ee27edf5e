"""Metrics that no host has; nothing in here needs a host."""

from metaheads.evaluation.coco_panoptic import PanopticFiles, evaluate_panoptic_files
from metaheads.evaluation.mean_iou import MeanIoU, SemanticFiles, SemanticScores
from metaheads.evaluation.nme import LabelledPoints, NormalisedMeanError, PointErrors, PointScores
from metaheads.evaluation.panoptic_quality import (
    LabelledSegment,
    Overlaps,
    PanopticQuality,
    PanopticScores,
    Score,
    SegmentationError,
    WindowScores,
)
from metaheads.evaluation.widerface import (
    WiderFace,
    WiderFaceScores,
    WiderFaceTruth,
    evaluate_submission,
)

__all__ = [
    "LabelledPoints",
    "LabelledSegment",
    "MeanIoU",
    "NormalisedMeanError",
    "Overlaps",
    "PanopticFiles",
    "PanopticQuality",
    "PanopticScores",
    "PointErrors",
    "PointScores",
    "Score",
    "SegmentationError",
    "SemanticFiles",
    "SemanticScores",
    "WiderFace",
    "WiderFaceScores",
    "WiderFaceTruth",
    "WindowScores",
    "evaluate_panoptic_files",
    "evaluate_submission",
]
