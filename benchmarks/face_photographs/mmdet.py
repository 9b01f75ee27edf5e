# RetinaFace with MobileNetV1 x0.25, to be overfitted to a few photographs with faces of five
# points. The data set lies in $METAHEADS_DATA/faces: faces_5pt.json (COCO keypoints) beside its
# images.
_base_ = [
    "../../configs/mmdet/_base_/runtime.py",
    "../../configs/mmdet/_base_/from_scratch_shapes.py",
    "../../configs/mmdet/_base_/shapes.py",
    "../../configs/mmdet/_base_/retinaface_mnet025.py",
]

data_root = "{{$METAHEADS_DATA:data}}/faces/"
size = 320
photographs = dict(
    type="metaheads.CocoKeypoints",
    num_keypoints=5,
    data_root=data_root,
    ann_file="faces_5pt.json",
    data_prefix=dict(img=""),
    metainfo=dict(classes=("face",)),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="metaheads.LoadKeypoints", num_keypoints=5),
    dict(type="metaheads.FaceTransform", size=size, scales=(0.8, 1.0), color_order="bgr"),
    dict(type="metaheads.PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.FixedResize", size=(size, size)),
    dict(type="metaheads.PackInputs"),
]
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline, **photographs))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, **photographs))
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="CocoMetric", ann_file=data_root + "faces_5pt.json", metric=["bbox"]),
    dict(type="metaheads.NMEMetric", ann_file=data_root + "faces_5pt.json"),
]
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
optim_wrapper = dict(optimizer=dict(lr=0.003))
default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP"))
