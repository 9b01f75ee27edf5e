# The embedded data set with panoptic labels, 192 x 144 pixels, seven things and six kinds of stuff:
# $METAHEADS_DATA/shapes (default: data/shapes). 1,200 iterations of 4 images.
_base_ = ["./from_scratch.py"]

data_root = "{{$METAHEADS_DATA:data}}/shapes/"
size = (160, 192)
metainfo = dict(
    thing_classes=("figure", "ball", "ring", "star", "canoe", "crate", "tree"),
    stuff_classes=("sky", "grass", "water", "road", "wall", "sand"),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.LoadPanoptic"),
    dict(type="metaheads.TrainTransform", size=size, flip=0.5, color_order="bgr"),
    dict(type="metaheads.PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.FixedResize", size=size),
    dict(type="metaheads.PackInputs"),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="metaheads.CocoPanoptic",
        data_root=data_root,
        ann_file="annotations/panoptic_train.json",
        data_prefix=dict(img="train/", seg="annotations/panoptic_train/"),
        metainfo=metainfo,
        filter_cfg=dict(filter_empty_gt=False, min_size=0),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="metaheads.CocoPanoptic",
        data_root=data_root,
        ann_file="annotations/panoptic_val.json",
        data_prefix=dict(img="val/", seg="annotations/panoptic_val/"),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="metaheads.PanopticMetric",
    ann_file=data_root + "annotations/panoptic_val.json",
    seg_prefix=data_root + "annotations/panoptic_val",
)
test_evaluator = val_evaluator

max_iters = 1200
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
auto_scale_lr = dict(base_batch_size=4)
