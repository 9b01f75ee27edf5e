# shapes_panoptic.py, where semantic labels alone are wanted: no masks of objects, mIoU. 600
# iterations of 4 images.
_base_ = ["./shapes_panoptic.py"]

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.LoadPanoptic", with_mask=False),
    dict(type="metaheads.TrainTransform", size={{_base_.size}}, flip=0.5, color_order="bgr"),
    dict(type="metaheads.PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = dict(type="metaheads.SemanticMetric")
test_evaluator = val_evaluator

max_iters = 600
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
