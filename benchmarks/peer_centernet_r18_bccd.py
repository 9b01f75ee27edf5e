# MMDetection's own CenterNet on blood cells, at the schedule of centernet_points_r18_256x320_bccd:
# the peer, not ours.
_base_ = [
    "mmdet::_base_/default_runtime.py",
    "../configs/mmdet/_base_/from_scratch_bccd.py",
    "../configs/mmdet/_base_/bccd.py",
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(by_epoch=False, interval=312))
log_processor = dict(by_epoch=False, window_size=20)
custom_imports = dict(imports=["metaheads.registry"], allow_failed_imports=False)
model = dict(
    type="CenterNet",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.68, 116.78, 103.94],
        std=[58.40, 57.12, 57.38],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type="ResNet",
        depth=18,
        norm_eval=False,
        norm_cfg=dict(type="BN"),
        zero_init_residual=False,  # as ours
    ),
    neck=dict(
        type="CTResNetNeck",
        in_channels=512,
        num_deconv_filters=(256, 128, 64),
        num_deconv_kernels=(4, 4, 4),
        use_dcn=False,
    ),
    bbox_head=dict(
        type="CenterNetHead",
        num_classes=3,
        in_channels=64,
        feat_channels=64,
        loss_center_heatmap=dict(type="GaussianFocalLoss", loss_weight=1.0),
        loss_wh=dict(type="L1Loss", loss_weight=0.1),
        loss_offset=dict(type="L1Loss", loss_weight=1.0),
    ),
    train_cfg=None,
    test_cfg=dict(topk=100, local_maximum_kernel=3, max_per_img=100),
)
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="metaheads.FixedResize", size=(256, 320)),
    # Its head asks for the border that this leaves around a picture.
    dict(
        type="RandomCenterCropPad",
        ratios=None,
        border=None,
        mean=[0, 0, 0],
        std=[1, 1, 1],
        to_rgb=True,
        test_mode=True,
        test_pad_mode=["logical_or", 31],
        test_pad_add_pix=1,
    ),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "border"),
    ),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
