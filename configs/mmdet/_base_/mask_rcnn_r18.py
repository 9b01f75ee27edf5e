# MMDetection's own Mask R-CNN, small: ResNet-18-FPN with a width of 128, from scratch, native image
# size. Full-size configs: MMDetection's own, configs/mask_rcnn/mask-rcnn_r50_fpn_2x_coco.py and
# others.
_base_ = ["mmdet::_base_/models/mask-rcnn_r50_fpn.py"]

native_train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
native_test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale_factor=1.0),
    dict(type="PackDetInputs"),
]
model = dict(
    data_preprocessor=dict(mean=[123.68, 116.78, 103.94], std=[58.40, 57.12, 57.38]),
    backbone=dict(
        depth=18, frozen_stages=-1, norm_eval=False, zero_init_residual=False, init_cfg=None
    ),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=128),
    rpn_head=dict(in_channels=128, feat_channels=128, anchor_generator=dict(scales=[4])),
    # Fewer and narrower regions than at full size, equal in Detectron2: a CPU is to train it.
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128, fc_out_channels=512),
        mask_roi_extractor=dict(out_channels=128),
        mask_head=dict(in_channels=128, conv_out_channels=128),
    ),
    train_cfg=dict(rcnn=dict(sampler=dict(num=128))),
)
