# The authors' dla_1x, 140 epochs (36.3 AP without, 38.2 with the mirror).
_base_ = [
    "../_base_/runtime.py",
    "../_base_/centernet_points_dla34.py",
    "../_base_/coco_warp.py",
]

max_iters = 129360
train_cfg = dict(type="metaheads.TrainLoop", max_iters=max_iters, val_interval=9240)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
# Without decay of the weights AdamW is the authors' Adam.
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=0.0005, weight_decay=0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=501),
    dict(type="MultiStepLR", by_epoch=False, milestones=[83160, 110880], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=128)
train_dataloader = dict(batch_size=128)
default_hooks = dict(
    checkpoint=dict(interval=10000, save_best="coco/bbox_mAP"), logger=dict(interval=50)
)
