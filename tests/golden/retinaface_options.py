"""What the golden cases of RetinaFace may say; see VARIANTS.md of the cases."""

from __future__ import annotations

from typing import Any

from . import widerface
from .cases import ANY

_PRIORS: dict[str, Any] = {
    "min_sizes": [[[16, 32], [64, 128], [256, 512]]],
    "steps": [[8, 16, 32]],
}
_CODE: dict[str, Any] = {"variances": [[0.1, 0.2]], "num_landmarks": [5]}
_MATCHING: dict[str, Any] = {
    "positive_iou": [0.35],
    "best_prior_min_iou": [0.2],
    "num_images": ANY,
    **_CODE,
}

KNOWN: dict[str, dict[str, Any]] = {
    "codec": _CODE,
    "forward": {
        "network": ["resnet50", "mobilenet0.25"],
        "activation": ["leaky_relu_0.1", "relu"],
        "in_channels": [[64, 128, 256], [512, 1024, 2048]],
        "out_channels": [64, 256],
        "num_anchors": [2],
        "num_landmarks": [5],
        "color_order": ["bgr"],
        "input_range": [255.0],
        "mean": [[104.0, 117.0, 123.0]],
        "std": [[1.0, 1.0, 1.0]],
        "batch_size": ANY,
        **_PRIORS,
    },
    "loss": {
        "num_classes": [2],
        "neg_pos_ratio": [7],
        "smooth_l1_beta": [1.0],
        "loss_weights": [{"loc": 2.0, "cls": 1.0, "landm": 1.0}],
        **_MATCHING,
    },
    "mesh_chebconv": {
        "num_vertices": ANY,
        "in_channels": [3, 6],
        "out_channels": [5, 8],
        "order": [3, 6],
        "laplacian": ["combinatorial"],
    },
    "postprocess": {
        "confidence_threshold": [0.02],
        "top_k": [5000],
        "nms_threshold": [0.4],
        "nms_plus_one": [True],
        "keep_top_k": [750],
        "resize": [0.5, 1.0],
        "image_size": ANY,
        "clip_priors": [False],
        **_PRIORS,
        **_CODE,
    },
    "priors": {"clip_priors": [False], "runs": ANY, **_PRIORS},
    "targets": _MATCHING,
    **widerface.KNOWN,
}
RUN: dict[str, Any] = {"output": ANY, "image_size": ANY}
