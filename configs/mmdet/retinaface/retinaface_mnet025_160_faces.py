# Drawn faces of the embedded data set with five points and a mesh of 49 vertices, from scratch:
# 2,000 iterations of 4 crops.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/from_scratch_shapes.py",
    "../_base_/shapes.py",
    "../_base_/retinaface_mnet025.py",
]

data = "{{$METAHEADS_DATA:data}}"
metainfo = dict(classes=("face",))
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="metaheads.LoadKeypoints", num_keypoints=5),
    dict(type="metaheads.LoadVertices", mesh_file=data + "/shapes/annotations/mesh.json"),
    dict(
        type="metaheads.FaceTransform",
        size=160,
        scales=(0.6, 0.8, 1.0),
        color_order="bgr",
    ),
    dict(type="metaheads.PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.FixedResize", size=(160, 208)),
    dict(type="metaheads.PackInputs"),
]
train_dataloader = dict(
    dataset=dict(
        type="metaheads.CocoKeypoints",
        num_keypoints=5,
        ann_file="annotations/faces_train.json",
        data_prefix=dict(img="faces/train/"),
        metainfo=metainfo,
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type="metaheads.CocoKeypoints",
        num_keypoints=5,
        ann_file="annotations/faces_val.json",
        data_prefix=dict(img="faces/val/"),
        metainfo=metainfo,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
ann_file = data + "/shapes/annotations/faces_val.json"
val_evaluator = [
    dict(type="CocoMetric", ann_file=ann_file, metric=["bbox"]),
    dict(
        type="metaheads.NMEMetric",
        ann_file=ann_file,
        mesh_file=data + "/shapes/annotations/mesh.json",
    ),
]
test_evaluator = val_evaluator
model = dict(
    core=dict(
        anchor_sizes=((12, 20), (32, 52), (84, 132)),
        num_vertices=49,
        mesh_file="shapes/annotations/mesh.json",
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.003))
default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP"))
