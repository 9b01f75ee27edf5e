# The authors' CenterNet-104 (44.9 AP on test-dev at one scale, with the mirror).
_base_ = ["../_base_/runtime.py", "../_base_/coco_crop.py"]

model = dict(
    type="metaheads.CenterNetTriplets",
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
    core=dict(in_channels=[256, 256], strides=[4, 4]),
    test_cfg=dict(flip=True),
)
max_iters = 480000
train_cfg = dict(type="metaheads.TrainLoop", max_iters=max_iters, val_interval=24000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
# Without decay of the weights AdamW is the authors' Adam.
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=0.00025, weight_decay=0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=501),
    dict(type="MultiStepLR", by_epoch=False, milestones=[450000], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=48)
train_dataloader = dict(batch_size=48)
default_hooks = dict(
    checkpoint=dict(interval=10000, save_best="coco/bbox_mAP"), logger=dict(interval=50)
)
