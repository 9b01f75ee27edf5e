# COCO 2017's people with 17 joints; random views of 512 pixels.
data_root = "data/coco/"
ann_file = data_root + "annotations/person_keypoints_val2017.json"
pairs = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))
multiple = 32  # of the sides of test images; an hourglass needs 128
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="metaheads.LoadKeypoints", num_keypoints=17),
    dict(
        type="metaheads.WarpTransform",
        size=(512, 512),
        color_order="bgr",
        keypoint_flip_pairs=pairs,
    ),
    dict(type="metaheads.PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.TestView", kind="keep", multiple=multiple),
    dict(type="metaheads.PackInputs"),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="metaheads.CocoKeypoints",
        num_keypoints=17,
        metainfo=dict(classes=("person",)),
        data_root=data_root,
        ann_file="annotations/person_keypoints_train2017.json",
        data_prefix=dict(img="train2017/"),
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
        num_keypoints=17,
        metainfo=dict(classes=("person",)),
        data_root=data_root,
        ann_file="annotations/person_keypoints_val2017.json",
        data_prefix=dict(img="val2017/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="CocoMetric", ann_file=ann_file, metric=["bbox"]),
    dict(type="metaheads.KeypointMetric", ann_file=ann_file),
]
test_evaluator = val_evaluator
