# A small UPSNet, to be overfitted to a few COCO photographs with panoptic labels. The data set lies
# in $METAHEADS_DATA/coco_panoptic: train2017/, annotations/panoptic_train2017.json and
# annotations/panoptic_train2017/.
_base_ = [
    "../../configs/mmdet/_base_/runtime.py",
    "../../configs/mmdet/_base_/upsnet_r18.py",
    "../../configs/mmdet/_base_/shapes_panoptic.py",
]

size = (256, 320)
data_root = "{{$METAHEADS_DATA:data}}/coco_panoptic/"
ann_file = "annotations/panoptic_train2017.json"
metainfo = dict(_delete_=True)  # all classes of the file
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
photographs = dict(
    data_root=data_root,
    ann_file=ann_file,
    data_prefix=dict(img="train2017/", seg="annotations/panoptic_train2017/"),
    metainfo=metainfo,
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, **photographs))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, **photographs))
test_dataloader = val_dataloader
val_evaluator = dict(
    ann_file=data_root + ann_file, seg_prefix=data_root + "annotations/panoptic_train2017"
)
test_evaluator = val_evaluator
model = dict(
    neck=dict(out_channels=128),
    rpn_head=dict(in_channels=128, feat_channels=128, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128, num_classes=80),
        mask_roi_extractor=dict(out_channels=128),
        mask_head=dict(in_channels=128, num_classes=80),
    ),
    core=dict(
        in_channels=[128] * 4,
        num_things=80,
        num_stuff=53,
        head_widths=(64, 64),
        stuff_area_limit=1024,
    ),
)
max_iters = 480
train_cfg = dict(max_iters=max_iters, val_interval=240)
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
default_hooks = dict(checkpoint=dict(save_best="coco_panoptic/PQ", rule="greater"))
