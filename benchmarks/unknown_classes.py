# Two things of the embedded data, rings and canoes, are left out of the training: their pixels
# train nothing. What the model makes of them in tests is counted by benchmarks/unknown_share.py.
_base_ = ["../configs/mmdet/upsnet/upsnet_r18_160_shapes.py"]

metainfo = dict(
    thing_classes=("figure", "ball", "star", "crate", "tree"),
    stuff_classes=("sky", "grass", "water", "road", "wall", "sand"),
)
train_dataloader = dict(dataset=dict(metainfo=metainfo))
val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = val_dataloader
model = dict(
    core=dict(num_things=5, semantic_weight=1.0, panoptic_weight=0.5),
    roi_head=dict(bbox_head=dict(num_classes=5), mask_head=dict(num_classes=5)),
)
max_iters = 700
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
