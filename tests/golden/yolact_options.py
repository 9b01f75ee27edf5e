"""Every option value that a golden case of YOLACT may carry (VARIANTS.md beside the cases)."""

from __future__ import annotations

from typing import Any

from .cases import ANY

FLAG = [False, True]
IMAGENET_MEANS = [[0.0, 0.0, 0.0], [123.68, 116.78, 103.94]]
IMAGENET_STDS = [[58.4, 57.12, 57.38], [255.0, 255.0, 255.0]]
NORMALISATION = {
    "color_order": ["rgb"],
    "input_range": [255.0],
    "mean": IMAGENET_MEANS,
    "std": IMAGENET_STDS,
}
ANCHORS = {
    "max_size": ANY,
    "plus": FLAG,
    "pred_scales": ANY,
    "aspect_ratios": [[1.0, 0.5, 2.0]],
    "square_anchors": FLAG,
}
MATCHING = {
    "variances": [[0.1, 0.2]],
    "positive_iou": [0.5],
    "negative_iou": [0.4],
    "crowd_iou": [0.7],
}
KNOWN: dict[str, dict[str, Any]] = {
    "forward": {
        "config": [
            "yolact_base_config",
            "yolact_resnet50_config",
            "yolact_darknet53_config",
            "yolact_plus_base_config",
            "yolact_plus_resnet50_config",
            "yolact_resnet50_pascal_config",
        ],
        "backbone": ["resnet50", "darknet53", "resnet101"],
        "num_classes": [21, 81],
        "num_prototypes": [32],
        "fpn_channels": [256],
        "dcn_blocks": [[0, 0, 0, 0], [0, 4, 6, 3], [0, 4, 23, 3]],
        "dcn_interval": [1, 3],
        "maskiou": FLAG,
        **ANCHORS,
        **NORMALISATION,
    },
    "loss": {
        "config": [
            "yolact_resnet50_config",
            "yolact_plus_base_config",
            "yolact_plus_resnet50_config",
            "yolact_resnet50_pascal_config",
        ],
        "num_classes": [6, 17, 21],
        "input_size": ANY,
        "num_images": ANY,
        "num_prototypes": [32],
        "neg_pos_ratio": [3],
        "masks_to_train": [100],
        "discard_mask_area": [-1, 25],
        "maskiou": FLAG,
        "loss_weights": [
            {"bbox": 1.5, "conf": 1.0, "mask": 6.125, "semantic": 1.0, "maskiou": 25.0}
        ],
        **ANCHORS,
        **MATCHING,
    },
    "postprocess": {
        "config": ["yolact_base_config", "yolact_resnet50_config", "yolact_plus_resnet50_config"],
        "num_classes": [7, 81],
        "max_size": ANY,
        "max_detections": [100],
        "confidence_threshold": [0.05],
        "nms_threshold": [0.5],
        "top_k": [200],
        "variances": [[0.1, 0.2]],
        "plus": FLAG,
        "maskiou": FLAG,
        "rescore_mask": FLAG,
        "rescore_bbox": [False],
        "runs": ANY,
    },
    "preprocess": {
        "config": ["yolact_resnet50_config", "yolact_darknet53_config"],
        "backbone": ["resnet50", "darknet53"],
        "max_size": ANY,
        "keep_ratio": [False],
        "runs": ANY,
        **NORMALISATION,
    },
    "targets": {
        "config": ["yolact_im700_config", "yolact_resnet50_config", "yolact_plus_base_config"],
        "input_size": ANY,
        "prior_step": ANY,
        **ANCHORS,
        **MATCHING,
    },
}
KNOWN_RUNS: dict[str, dict[str, Any]] = {
    "postprocess": {
        "prefix": ANY,
        "nms": ["traditional", "fast"],
        "cross_class": FLAG,
        "score_threshold": [0.0, 0.15],
        "crop_masks": FLAG,
        "outputs": ANY,
    },
    "preprocess": {"output": ["cv2", "fast"], "resize": ["cv2_linear", "torch_bilinear"]},
}
