# The authors' base configuration.
_base_ = "yolact_r50_550_coco.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint="torchvision://resnet101")))
