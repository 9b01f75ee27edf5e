# A small YOLACT with a pyramid from stride 4, to be overfitted to a few COCO photographs. The data
# set lies in $METAHEADS_DATA/coco_instances: annotations/instances_train2017.json, train2017/.
_base_ = [
    "../../configs/mmdet/_base_/yolact_r18.py",
    "../../configs/mmdet/_base_/runtime.py",
    "../../configs/mmdet/_base_/from_scratch.py",
    "../../configs/mmdet/_base_/coco.py",
]

size = (320, 320)
data_root = "{{$METAHEADS_DATA:data}}/coco_instances/"
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="metaheads.TrainTransform", size=size, flip=0.5, color_order="bgr"),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.FixedResize", size=size),
    dict(type="PackDetInputs"),
]
photographs = dict(
    data_root=data_root,
    ann_file="annotations/instances_train2017.json",
    data_prefix=dict(img="train2017/"),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(pipeline=train_pipeline, **photographs),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(pipeline=test_pipeline, **photographs),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + photographs["ann_file"])
test_evaluator = val_evaluator

model = dict(
    backbone=dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(0, 1, 2)),
    core=dict(
        in_channels=[64, 128, 256],
        strides=[4, 8, 16],
        num_classes=80,
        max_size=320,
        anchor_scales=((12, 20), (32, 52), (84, 136), (200, 280)),
        num_extra_levels=1,
        fpn_channels=64,
    ),
)

max_iters = 900
train_cfg = dict(max_iters=max_iters, val_interval=300)
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
