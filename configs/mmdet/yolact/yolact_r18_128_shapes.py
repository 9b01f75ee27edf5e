# The model of `make demo`. The pyramid begins at stride 4: dense anchors and prototypes of half the
# input's resolution learn faster from scratch than the usual ones.
_base_ = ["../_base_/runtime.py", "../_base_/from_scratch.py", "../_base_/shapes.py"]

model = dict(
    type="metaheads.Yolact",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.68, 116.78, 103.94],
        std=[58.40, 57.12, 57.38],
        bgr_to_rgb=True,
        pad_mask=True,
    ),
    backbone=dict(
        type="ResNet",
        depth=18,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=dict(type="BN"),
        style="pytorch",
    ),
    core=dict(
        in_channels=[64, 128, 256, 512],
        strides=[4, 8, 16, 32],
        num_classes=7,
        max_size=128,
        anchor_scales=((16, 22), (32, 45), (64, 90), (110, 128)),
        num_extra_levels=0,
        use_square_anchors=False,
        fpn_channels=64,
    ),
)

max_iters = 1000
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
