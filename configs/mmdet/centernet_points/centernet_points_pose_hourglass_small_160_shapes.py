# Figures with their nine joints, of the embedded data set at 160 x 192 pixels.
_base_ = ["./centernet_points_hourglass_small_160_shapes.py"]

size = (160, 192)
num_keypoints = 9
pairs = ((3, 4), (5, 6), (7, 8))
metainfo = dict(classes=("figure",))
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="metaheads.LoadKeypoints", num_keypoints=num_keypoints),
    dict(
        type="metaheads.TrainTransform",
        size=size,
        flip=0.5,
        color_order="bgr",
        keypoint_flip_pairs=pairs,
    ),
    dict(type="metaheads.PackInputs"),
]
model = dict(core=dict(num_classes=1, num_keypoints=num_keypoints, keypoint_pairs=pairs))
train_dataloader = dict(
    dataset=dict(
        type="metaheads.CocoKeypoints",
        num_keypoints=num_keypoints,
        ann_file="annotations/keypoints_train.json",
        metainfo=metainfo,
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type="metaheads.CocoKeypoints",
        num_keypoints=num_keypoints,
        ann_file="annotations/keypoints_val.json",
        metainfo=metainfo,
    )
)
test_dataloader = val_dataloader
ann_file = "{{$METAHEADS_DATA:data}}/shapes/annotations/keypoints_val.json"
val_evaluator = [
    dict(type="CocoMetric", ann_file=ann_file, metric=["bbox"]),
    dict(
        type="metaheads.KeypointMetric",
        ann_file=ann_file,
        sigmas=(0.05, 0.06, 0.08, 0.07, 0.07, 0.06, 0.06, 0.07, 0.07),
    ),
]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best="coco/keypoints_mAP"))
