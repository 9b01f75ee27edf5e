# Pascal SBD in COCO format (the authors' files pascal_sbd_{train,val}.json) in $METAHEADS_DATA/sbd
# (default: data/sbd); 120,000 iterations.
_base_ = "yolact_r50_550_coco.py"

data_root = "{{$METAHEADS_DATA:data}}/sbd/"
classes = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file="pascal_sbd_train.json",
        data_prefix=dict(img="img/"),
        metainfo=dict(classes=classes),
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file="pascal_sbd_val.json",
        data_prefix=dict(img="img/"),
        metainfo=dict(classes=classes),
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "pascal_sbd_val.json")
test_evaluator = val_evaluator

max_iters = 120000
train_cfg = dict(max_iters=max_iters, val_interval=20000)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=501),
    dict(type="MultiStepLR", by_epoch=False, milestones=[60000, 100000], gamma=0.1),
]
model = dict(
    core=dict(
        num_classes=20,
        anchor_scales=((32,), (64,), (128,), (256,), (512,)),
        use_square_anchors=False,
    )
)
