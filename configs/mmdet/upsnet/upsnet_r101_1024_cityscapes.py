# The authors' UPSNet-101 of Cityscapes, from a model of COCO (load_from; 61.8 PQ on val at several
# sizes). 3,000 iterations without warm-up.
_base_ = ["./upsnet_r50_1024_cityscapes.py"]

model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://detectron2/resnet101_caffe"),
    )
)
max_iters = 3000
train_cfg = dict(max_iters=max_iters, val_interval=1000)
param_scheduler = [dict(type="MultiStepLR", by_epoch=False, milestones=[2000], gamma=0.1)]
default_hooks = dict(checkpoint=dict(interval=1000))
