# 312 iterations of 8 images, from scratch.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/centernet_triplets_small.py",
    "../_base_/from_scratch.py",
    "../_base_/bccd.py",
]

model = dict(core=dict(num_classes=3))
max_iters = 312
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=31),
    dict(
        type="CosineAnnealingLR",
        by_epoch=False,
        begin=30,
        end=max_iters,
        T_max=max_iters - 30,
        eta_min=1e-5,
    ),
]
default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP"))
