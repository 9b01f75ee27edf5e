# "mobilenet0.25" of Face-Detector-1MB-with-landmark: ReLU and smaller anchors, 250 epochs of 32
# crops of 300 pixels (87.3 / 83.6 / 63.8 easy, medium, hard AP where the longer side is 640).
_base_ = ["./retinaface_mnet025_640_widerface.py"]

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="metaheads.LoadKeypoints", num_keypoints=5),
    dict(
        type="metaheads.FaceTransform",
        size=300,
        scale_range=(0.3, 1.0),
        min_face=5.0,
        color_order="bgr",
    ),
    dict(type="metaheads.PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.TestView", kind="short", size=(640, 640)),
    dict(type="metaheads.PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
model = dict(
    backbone=dict(leaky_slope=0.0),
    core=dict(leaky_slope=0.0, anchor_sizes=((10, 20), (32, 64), (128, 256))),
)
