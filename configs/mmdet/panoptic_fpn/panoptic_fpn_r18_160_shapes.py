# The baseline: MMDetection's own Panoptic FPN on the data, regions and schedule of
# upsnet_r18_160_shapes; its usual heuristics merge things and stuff.
_base_ = ["../_base_/runtime.py", "../_base_/panoptic_r18.py", "../_base_/shapes_panoptic.py"]

model = dict(
    type="PanopticFPN",
    data_preprocessor=dict(pad_seg=True, seg_pad_value=255),
    semantic_head=dict(
        type="PanopticFPNHead",
        num_things_classes=7,
        num_stuff_classes=6,
        in_channels=64,
        inner_channels=64,
        start_level=0,
        end_level=4,
        norm_cfg=dict(type="GN", num_groups=32, requires_grad=True),
        loss_seg=dict(type="CrossEntropyLoss", ignore_index=255, loss_weight=0.5),
    ),
    panoptic_fusion_head=dict(
        type="HeuristicFusionHead", num_things_classes=7, num_stuff_classes=6
    ),
    test_cfg=dict(
        rcnn=dict(
            score_thr=0.6,
            nms=dict(type="nms", iou_threshold=0.5, class_agnostic=True),
            max_per_img=100,
            mask_thr_binary=0.5,
        ),
        panoptic=dict(mask_overlap=0.5, stuff_area_limit=128),
    ),
)
default_hooks = dict(checkpoint=dict(save_best="coco_panoptic/PQ", rule="greater"))
