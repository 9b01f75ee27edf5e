# The authors' human pose, hg_3x, 150 epochs (64.0 keypoint AP with the mirror).
_base_ = ["../_base_/runtime.py", "../_base_/coco_pose.py"]

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
    core=dict(
        in_channels=[256, 256], strides=[4, 4], num_classes=1, num_keypoints=17, head_channels=256
    ),
    test_cfg=dict(flip=True),
)
max_iters = 400800
train_cfg = dict(type="metaheads.TrainLoop", max_iters=max_iters, val_interval=26720)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
# Without decay of the weights AdamW is the authors' Adam.
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=0.00025, weight_decay=0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=501),
    dict(type="MultiStepLR", by_epoch=False, milestones=[347360], gamma=0.1),
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
    checkpoint=dict(interval=10000, save_best="coco/keypoints_mAP"), logger=dict(interval=50)
)
