# biubug6's Resnet50, 100 epochs of 24 crops of 840 pixels (95.5 / 94.0 / 84.4 easy, medium, hard
# AP at the images' own size; TestView short (1600, 2150): 94.8 / 93.8 / 89.6).
_base_ = ["./retinaface_mnet025_640_widerface.py"]

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="metaheads.LoadKeypoints", num_keypoints=5),
    dict(type="metaheads.FaceTransform", size=840, color_order="bgr"),
    dict(type="metaheads.PackInputs"),
]
train_dataloader = dict(batch_size=24, dataset=dict(pipeline=train_pipeline))
model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNet",
        depth=50,
        out_indices=(1, 2, 3),
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=dict(type="BN"),
        style="pytorch",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    core=dict(in_channels=[512, 1024, 2048], pyramid_channels=256, leaky_slope=0.0),
)
max_iters = 53700
train_cfg = dict(max_iters=max_iters, val_interval=10740)
param_scheduler = [
    dict(type="MultiStepLR", by_epoch=False, milestones=[37590, 48330], gamma=0.1),
]
auto_scale_lr = dict(base_batch_size=24)
default_hooks = dict(checkpoint=dict(interval=5370))
