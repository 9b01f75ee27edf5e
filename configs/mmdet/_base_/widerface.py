# WIDER FACE with five points, as `metaheads convert-dataset` writes it from the authors' label
# files: $METAHEADS_DATA/widerface (default: data/widerface), one class. The four .mat files of
# WIDER FACE's evaluation lie in its `ground_truth` (docs/FACES.md).
data_root = "{{$METAHEADS_DATA:data}}/widerface/"
ann_file = data_root + "annotations/widerface_val.json"
size = 640
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="metaheads.LoadKeypoints", num_keypoints=5),
    dict(type="metaheads.FaceTransform", size=size, color_order="bgr"),
    dict(type="metaheads.PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.TestView", kind="original"),
    dict(type="metaheads.PackInputs"),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="metaheads.CocoKeypoints",
        num_keypoints=5,
        metainfo=dict(classes=("face",)),
        data_root=data_root,
        ann_file="annotations/widerface_train.json",
        data_prefix=dict(img="WIDER_train/images/"),
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
        type="metaheads.CocoKeypoints",
        num_keypoints=5,
        metainfo=dict(classes=("face",)),
        data_root=data_root,
        ann_file="annotations/widerface_val.json",
        data_prefix=dict(img="WIDER_val/images/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="CocoMetric", ann_file=ann_file, metric=["bbox"]),
    dict(type="metaheads.WiderFaceMetric", ground_truth=data_root + "ground_truth"),
]
test_evaluator = val_evaluator
