# The authors' resdcn_101, 140 epochs (34.6 AP without, 36.2 with the mirror).
_base_ = ["./centernet_points_resdcn18_512_coco.py"]

model = dict(
    backbone=dict(depth=101, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101"))
)
max_iters = 172480
train_cfg = dict(max_iters=max_iters, val_interval=12320)
optim_wrapper = dict(optimizer=dict(lr=0.000375))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=501),
    dict(type="MultiStepLR", by_epoch=False, milestones=[110880, 147840], gamma=0.1),
]
auto_scale_lr = dict(base_batch_size=96)
train_dataloader = dict(batch_size=96)
