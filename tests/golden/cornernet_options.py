"""What the golden cases of CornerNet and CenterNet (triplets) may say; see their VARIANTS.md."""

from __future__ import annotations

from typing import Any

from .cases import ANY

_INPUT: dict[str, Any] = {
    "color_order": ["bgr"],
    "input_range": [1.0],
    "mean": [[0.40789654, 0.44719302, 0.47026115]],
    "std": [[0.28863828, 0.27408164, 0.27809835]],
}
_FORWARD: dict[str, Any] = {
    "backbone": ["hourglass52", "hourglass104"],
    "num_stacks": [1, 2],
    "hg_depth": [5],
    "hg_channels": [[256, 256, 384, 384, 384, 512]],
    "hg_blocks": [[2, 2, 2, 2, 2, 4]],
    "num_classes": ANY,
    "head_channels": [256],
    "tag_dim": [1],
    **_INPUT,
}
_LOSS: dict[str, Any] = {
    "num_stacks": [1, 2],
    "num_classes": ANY,
    "feature_size": ANY,
    "objects_per_image": ANY,
    "max_objects": [128],
    "loss_weights": [{"pull": 0.1, "push": 0.1, "regr": 1.0, "focal": 1.0}],
}
_TARGETS: dict[str, Any] = {
    "num_classes": ANY,
    "input_size": ANY,
    "output_size": ANY,
    "gaussian_iou": [0.3, 0.7],
    "gaussian_sigma_divisor": [6.0],
    "max_objects": [128],
    "augmentation": [False],
    "radius_table_iou": [[0.3, 0.5, 0.7]],
    "image_step": ANY,
}
_DECODE: dict[str, Any] = {
    "num_classes": ANY,
    "scales": ANY,
    "flip": [True],
    "top_k": ANY,
    "nms_kernel": [3],
    "ae_threshold": [0.5],
    "num_dets": [1000],
    "nms": ["exp_soft_nms", "linear_soft_nms"],
    "nms_threshold": [0.5],
    "nms_sigma": [0.5],
    "nms_score_threshold": [0.001],
    "merge_bbox": [False, True],
    "weight_exp": [8, 10],
    "max_per_image": ANY,
    "image_size": ANY,
    "pad": [127],
}
KNOWN: dict[str, dict[str, dict[str, Any]]] = {
    "cornernet": {
        "forward": {**_FORWARD, "corner_pool": ["plain"], "center_pool": [False]},
        "loss": {**_LOSS, "center_branch": [False]},
        "targets": {**_TARGETS, "radius_formula": ["corrected"], "center_branch": [False]},
        "decode": {**_DECODE, "center_branch": [False]},
        "nms": {
            "sigma": [0.5],
            "iou_threshold": [0.5],
            "score_threshold": [0.001],
            "plus_one": [True],
            "runs": ANY,
        },
        "pool": {"runs": ANY, "tie_gradient": ["first_visited"]},
    },
    "centernet_triplets": {
        "forward": {**_FORWARD, "corner_pool": ["cascade"], "center_pool": [True]},
        "loss": {**_LOSS, "center_branch": [True]},
        "targets": {
            **_TARGETS,
            "radius_formula": ["original"],
            "center_branch": [True],
            "center_sigma_divisor": [5.0],
        },
        "decode": {
            **_DECODE,
            "center_branch": [True],
            "center_scale": [1.0],
            "center_area": [22500.0],
            "center_parts": [[3, 5]],
            "center_border": [5.0],
        },
    },
}
KNOWN_RUNS: dict[str, dict[str, Any]] = {
    "nms": {
        "prefix": ANY,
        "method": ["gaussian", "hard", "linear"],
        "merge": [False, True],
        "weight_exp": [None, 10],
    },
    "pool": {"prefix": ANY, "direction": ["top", "left", "right", "bottom"]},
}
