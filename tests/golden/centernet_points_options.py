"""What the golden cases of CenterNet (objects as points) may say; see VARIANTS.md of the cases."""

from __future__ import annotations

from typing import Any

from .cases import ANY

_INPUT: dict[str, Any] = {
    "color_order": ["bgr"],
    "input_range": [1.0],
    "mean": [[0.40789654, 0.44719302, 0.47026115]],
    "std": [[0.28863828, 0.27408164, 0.27809835]],
}
_POSE = {"hm": 1, "wh": 2, "hps": 34, "reg": 2, "hm_hp": 17, "hp_offset": 2}
_TASK = ["multi_pose", "ctdet"]
_BACKBONES = ["resnet18", "resnet50", "resnetdcn18", "hourglass104", "resnetdcn101", "dla34"]

KNOWN: dict[str, dict[str, Any]] = {
    "forward": {
        "task": _TASK,
        "backbone": _BACKBONES,
        "heads": [{"hm": 20, "wh": 2, "reg": 2}, {"hm": 80, "wh": 2, "reg": 2}, _POSE],
        "head_conv": [64, 256],
        "num_stacks": [1, 2],
        "down_ratio": [4],
        "deconv_channels": [[256, 128, 64], [256, 256, 256], []],
        **_INPUT,
    },
    "loss": {
        "task": _TASK,
        "num_stacks": [1, 2],
        "heads": [
            {"hm": 3, "wh": 2, "reg": 2},
            {"hm": 3, "wh": 6, "reg": 2},
            {"hm": 5, "wh": 2, "reg": 2},
            _POSE,
        ],
        "num_classes": [1, 3, 5],
        "feature_size": ANY,
        "cat_spec_wh": [False, True],
        "objects_per_image": ANY,
        "max_objects": ANY,
        "num_joints": [0, 17],
        "reg_loss": ["l1"],
        "loss_weights": [
            {"hm": 1.0, "wh": 0.1, "off": 1.0},
            {"hm": 1.0, "wh": 0.1, "off": 1.0, "hps": 1.0, "hm_hp": 1.0, "hp_offset": 1.0},
        ],
    },
    "targets": {
        "task": _TASK,
        "split": ["val", "train"],
        "input_size": ANY,
        "keep_res": [False, True],
        "pad": [31],
        "num_classes": ANY,
        "down_ratio": [4],
        "max_objects": ANY,
        "num_joints": [0, 17],
        "random_seed": ANY,
        "crop_scales": [[], [0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3]],
        "crop_border": [0, 128],
        "input_step": ANY,
        "flip_prob": [0.0, 0.5, 1.0],
        "color_aug": [False],
        "rotate": [0.0],
        "gaussian_iou": [0.7],
        "radius_formula": ["original"],
        "gaussian_sigma_divisor": [6.0],
        **_INPUT,
    },
    "decode": {
        "task": _TASK,
        "num_classes": ANY,
        "scales": ANY,
        "flip": [False, True],
        "top_k": ANY,
        "fix_res": [False, True],
        "input_size": ANY,
        "input_step": ANY,
        "cat_spec_wh": [False, True],
        "pad": [31, 127],
        "down_ratio": [4],
        "nms": [False, True],
        "nms_threshold": [0.5],
        "nms_sigma": [0.5],
        "nms_method": ["gaussian"],
        "max_per_image": ANY,
        "num_joints": [0, 17],
        "image_seed": ANY,
        "image_size": ANY,
        **_INPUT,
    },
}
