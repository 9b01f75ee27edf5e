# The authors' UPSNet-50 of Cityscapes (59.3 PQ on val).
_base_ = [
    "../_base_/runtime.py",
    "../_base_/upsnet_r50.py",
    "../_base_/cityscapes_panoptic.py",
    "../_base_/schedule_upsnet.py",
]

model = dict(
    core=dict(
        num_things=8,
        num_stuff=11,
        head_widths=(128, 128),
        semantic_weight=1.0,
        semantic_roi_weight=0.0,
        panoptic_weight=0.5,
        stuff_area_limit=2048,
    ),
    roi_head=dict(bbox_head=dict(num_classes=8), mask_head=dict(num_classes=8)),
)
max_iters = 12000
train_cfg = dict(max_iters=max_iters, val_interval=3000)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=1501),
    dict(type="MultiStepLR", by_epoch=False, milestones=[9000], gamma=0.1),
]
default_hooks = dict(
    checkpoint=dict(interval=3000, save_best="coco_panoptic/PQ", rule="greater"),
    logger=dict(interval=50),
)
