# Pascal VOC 2007 and 2012, trainval, tested on 2007, in MMDetection's usual place; random views of
# 512 pixels. 70 epochs of 32 images, as the authors train all their models on it.
data_root = "data/VOCdevkit/"
size = (512, 512)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="metaheads.WarpTransform", size=size, color_order="bgr"),
    dict(type="metaheads.PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    # MMDetection's metric asks for the boxes where it evaluates: they stay in the original image.
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="metaheads.TestView", kind="fit", size=size),
    dict(type="metaheads.PackInputs"),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="ConcatDataset",
        ignore_keys=["dataset_type"],
        datasets=[
            dict(
                type="VOCDataset",
                data_root=data_root,
                ann_file=f"{year}/ImageSets/Main/trainval.txt",
                data_prefix=dict(sub_data_root=f"{year}/"),
                filter_cfg=dict(filter_empty_gt=False, min_size=0),
                pipeline=train_pipeline,
            )
            for year in ("VOC2007", "VOC2012")
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="VOCDataset",
        data_root=data_root,
        ann_file="VOC2007/ImageSets/Main/test.txt",
        data_prefix=dict(sub_data_root="VOC2007/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="VOCMetric", metric="mAP", eval_mode="11points")
test_evaluator = val_evaluator

max_iters = 36190
train_cfg = dict(type="metaheads.TrainLoop", max_iters=max_iters, val_interval=2585)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
# Without decay of the weights AdamW is the authors' Adam.
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=0.000125, weight_decay=0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=501),
    dict(type="MultiStepLR", by_epoch=False, milestones=[23265, 31020], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=32)
