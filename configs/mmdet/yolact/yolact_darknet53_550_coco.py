# Darknet-53: images are only divided by 255. Its ImageNet weights are the authors' darknet53.pth:
# give them, converted, as `model.backbone.init_cfg.checkpoint`; without them it trains from
# scratch.
_base_ = "yolact_r50_550_coco.py"

model = dict(
    data_preprocessor=dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0]),
    backbone=dict(_delete_=True, type="metaheads.Darknet53"),
    core=dict(in_channels=[256, 512, 1024]),
)
