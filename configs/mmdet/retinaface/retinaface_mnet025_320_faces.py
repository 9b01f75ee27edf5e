# Drawn faces of the embedded data set with five points and a mesh of 49 vertices, from scratch,
# seen at 2.7 times their size (the smallest have 10 pixels): 6,000 iterations of 8 crops.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/from_scratch.py",
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
        size=320,
        scales=(0.6, 0.8, 1.0),
        photometric=False,
        random_interpolation=False,
        color_order="bgr",
    ),
    dict(type="metaheads.PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.FixedResize", size=(384, 512)),
    dict(type="metaheads.PackInputs"),
]
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        type="metaheads.CocoKeypoints",
        num_keypoints=5,
        ann_file="annotations/faces_train.json",
        data_prefix=dict(img="faces/train/"),
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
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
        anchor_sizes=((20, 36), (60, 104), (168, 264)),
        num_vertices=49,
        mesh_file="shapes/annotations/mesh.json",
        box_weight=3.0,
        keypoint_weight=2.0,
        keypoint_beta=0.1,
    )
)
max_iters = 6000
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
optim_wrapper = dict(optimizer=dict(lr=0.003))
default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP"))
