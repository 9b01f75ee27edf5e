# Cityscapes, fine: leftImg8bit as it is unpacked, and in gtFine what cityscapesscripts'
# csCreatePanopticImgs writes there.
data_root = "{{$METAHEADS_DATA:data}}/cityscapes/"
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.LoadPanoptic"),
    dict(
        type="metaheads.TrainTransform",
        short_sides=(800, 832, 864, 896, 928, 960, 992, 1024),
        max_side=2048,
        color_order="bgr",
    ),
    dict(type="metaheads.PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.TestView", kind="short", size=(1024, 2048)),
    dict(type="metaheads.PackInputs"),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="metaheads.CocoPanoptic",
        data_root=data_root,
        ann_file="gtFine/cityscapes_panoptic_train.json",
        data_prefix=dict(img="leftImg8bit/train/", seg="gtFine/cityscapes_panoptic_train/"),
        filter_cfg=dict(filter_empty_gt=False, min_size=0),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="metaheads.CocoPanoptic",
        data_root=data_root,
        ann_file="gtFine/cityscapes_panoptic_val.json",
        data_prefix=dict(img="leftImg8bit/val/", seg="gtFine/cityscapes_panoptic_val/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="metaheads.PanopticMetric",
    ann_file=data_root + "gtFine/cityscapes_panoptic_val.json",
    seg_prefix=data_root + "gtFine/cityscapes_panoptic_val",
)
test_evaluator = val_evaluator
