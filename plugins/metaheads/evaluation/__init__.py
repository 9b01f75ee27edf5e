"""Metrics that no host has; nothing in here needs a host."""

from metaheads.evaluation.coco_panoptic import PanopticFiles, evaluate_panoptic_files
from metaheads.evaluation.mean_iou import MeanIoU, SemanticFiles, SemanticScores
from metaheads.evaluation.panoptic_quality import (
    LabelledSegment,
    Overlaps,
    PanopticQuality,
    PanopticScores,
    Score,
    SegmentationError,
    WindowScores,
)

__all__ = [
    "LabelledSegment",
    "MeanIoU",
    "Overlaps",
    "PanopticFiles",
    "PanopticQuality",
    "PanopticScores",
    "Score",
    "SegmentationError",
    "SemanticFiles",
    "SemanticScores",
    "WindowScores",
    "evaluate_panoptic_files",
]
