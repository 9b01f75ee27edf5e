# The paper's own layout: P2 to P6 of ResNet-152, three anchors of each cell, one head for all
# levels, deformable pyramid and context, a cascade; 80 epochs of 32 crops (96.9 / 96.2 / 91.8
# easy, medium, hard AP with mirrors, several sizes and voting: --flip --scales). The authors'
# backbone was trained on ImageNet-11k.
_base_ = ["./retinaface_mnet025_640_widerface.py"]

test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.TestView", kind="short", size=(1600, 2150)),
    dict(type="metaheads.PackInputs"),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNet",
        depth=152,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=dict(type="BN"),
        style="pytorch",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet152"),
    ),
    core=dict(
        in_channels=[256, 512, 1024, 2048],
        strides=[4, 8, 16, 32],
        pyramid_channels=256,
        extra_levels=1,
        leaky_slope=0.0,
        is_deformable=True,
        has_shared_heads=True,
        anchor_sizes=(
            (16.0, 20.16, 25.4),
            (32.0, 40.32, 50.8),
            (64.0, 80.63, 101.59),
            (128.0, 161.26, 203.19),
            (256.0, 322.54, 406.37),
        ),
        positive_iou=(0.7, 0.5),
        negative_iou=(0.3, 0.4),
        negatives_per_positive=3,
        box_weight=0.25,
        keypoint_weight=0.1,
    ),
)
max_iters = 32240
train_cfg = dict(max_iters=max_iters, val_interval=8060)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=2016),
    dict(type="MultiStepLR", by_epoch=False, milestones=[22165, 27404], gamma=0.1),
]
