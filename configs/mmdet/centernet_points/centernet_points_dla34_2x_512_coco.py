# The authors' dla_2x, 230 epochs (37.4 AP without, 39.2 with the mirror).
_base_ = ["./centernet_points_dla34_512_coco.py"]

max_iters = 212520
train_cfg = dict(max_iters=max_iters, val_interval=9240)
optim_wrapper = dict(optimizer=dict(lr=0.0005))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=501),
    dict(type="MultiStepLR", by_epoch=False, milestones=[166320, 194040], gamma=0.1),
]
auto_scale_lr = dict(base_batch_size=128)
train_dataloader = dict(batch_size=128)
