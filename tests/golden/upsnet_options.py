"""What the golden test knows of UPSNet's options."""

from __future__ import annotations

from .cases import ANY

_CLASSES = {
    "dataset": ["cityscapes", "coco"],
    "num_things": [8, 80],
    "num_stuff": [11, 53],
}
KNOWN: dict[str, dict] = {
    "semantic_head": {
        **_CLASSES,
        "deform_layers": [2, 3],
        "layer_channels": [[128, 128], [256, 128, 128]],
        "in_channels": [256],
        "norm": ["none"],
        "conv_bias": [True],
        "upsample": [4],
        "roi_branch": [False, True],
        "roi_resolution": [28],
        "roi_sampling_ratio": [2],
    },
    "panoptic_loss": {
        **_CLASSES,
        "unknown_channel": [True],
        "box_keep_fraction": [0.7],
        "box_scale": [0.25],
        "mask_size": [28],
        "ignore_label": [255],
        "normalize_by": ["all_pixels"],
        "semantic_roi_loss": [False, True],
        "loss_weights": [
            {"panoptic": 0.1, "semantic": 0.2, "semantic_roi": 0.2},
            {"panoptic": 0.5, "semantic": 1.0, "semantic_roi": 0.0},
        ],
    },
    "inference": {
        **_CLASSES,
        "score_threshold": [0.6],
        "nms_threshold": [0.5],
        "class_agnostic_nms": [True],
        "max_detections": [100],
        "bbox_weights": [[10.0, 10.0, 5.0, 5.0]],
        "mask_size": [28],
        "prune_overlap": [0.3],
        "unknown_label": [255],
        "stuff_majority": [0.5],
        "stuff_area_limit": ANY,
    },
    "forward": {
        **_CLASSES,
        "backbone": ["resnet50"],
        "backbone_deform_stages": [[], ["res3", "res4", "res5"]],
        "deform_layers": [2, 3],
        "semantic_norm": ["none"],
        "fpn_gap": [False, True],
        "num_anchors": [3],
        "roi_resolution": [7],
        "mask_roi_resolution": [14],
        "roi_sampling_ratio": [2],
        "fc_dim": [1024],
        "color_order": ["bgr"],
        "input_range": [255.0],
        "mean": [[102.9801, 115.9465, 122.7717]],
        "input_scale": [0.01],
    },
}
