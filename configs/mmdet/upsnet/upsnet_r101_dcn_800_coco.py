# The authors' UPSNet-101-DCN of COCO (46.6 PQ on test-dev).
_base_ = ["./upsnet_r50_800_coco.py"]

model = dict(
    backbone=dict(
        depth=101,
        dcn=dict(type="DCN", deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://detectron2/resnet101_caffe"),
    )
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.LoadPanoptic"),
    dict(
        type="metaheads.TrainTransform",
        short_sides=(640, 672, 704, 736, 768, 800, 832),
        max_side=1333,
        color_order="bgr",
    ),
    dict(type="metaheads.PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
max_iters = 270000
train_cfg = dict(max_iters=max_iters, val_interval=10000)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=1501),
    dict(type="MultiStepLR", by_epoch=False, milestones=[210000, 250000], gamma=0.1),
]
