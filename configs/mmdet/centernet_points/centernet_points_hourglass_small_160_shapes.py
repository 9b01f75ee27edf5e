# The embedded data set at 160 x 192 pixels, boxes only.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/centernet_points_hourglass_small.py",
    "../_base_/from_scratch_shapes.py",
    "../_base_/shapes.py",
]

size = (160, 192)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="metaheads.TrainTransform", size=size, flip=0.5, color_order="bgr"),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.FixedResize", size=size),
    dict(type="PackDetInputs"),
]
model = dict(core=dict(num_classes=7))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=["bbox"])
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP"))
