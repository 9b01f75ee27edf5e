# The authors' hourglass, 50 epochs from ExtremeNet's weights (40.3 AP; 42.2 with the mirror).
_base_ = ["../_base_/runtime.py", "../_base_/coco_warp.py"]

model = dict(
    type="metaheads.CenterNetPoints",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[104.01362025, 114.03422265, 119.9165958],
        std=[73.6027665, 69.89082075, 70.9150767],
        bgr_to_rgb=False,
    ),
    backbone=dict(
        type="metaheads.Hourglass",
        num_stacks=2,
    ),
    core=dict(in_channels=[256, 256], strides=[4, 4], head_channels=256),
    test_cfg=dict(flip=True),
)
max_iters = 246450
train_cfg = dict(type="metaheads.TrainLoop", max_iters=max_iters, val_interval=24645)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
# Without decay of the weights AdamW is the authors' Adam.
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=0.00025, weight_decay=0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=501),
    dict(type="MultiStepLR", by_epoch=False, milestones=[197160], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=24)
train_dataloader = dict(batch_size=24)
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.TestView", kind="keep", multiple=128),
    dict(type="metaheads.PackInputs"),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
default_hooks = dict(
    checkpoint=dict(interval=10000, save_best="coco/bbox_mAP"), logger=dict(interval=50)
)
