# MMDetection's own YOLACT on nuclei, at the schedule of yolact_r18_256_nuclei: the peer, not ours.
_base_ = [
    "mmdet::_base_/default_runtime.py",
    "../configs/mmdet/_base_/from_scratch.py",
    "../configs/mmdet/_base_/nuclei.py",
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(by_epoch=False, interval=300))
log_processor = dict(by_epoch=False, window_size=20)
custom_imports = dict(imports=["metaheads.registry"], allow_failed_imports=False)
size = 256
levels = (32, 16, 8, 4, 2)
model = dict(
    type="YOLACT",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.68, 116.78, 103.94],
        std=[58.40, 57.12, 57.38],
        bgr_to_rgb=True,
        pad_mask=True,
    ),
    backbone=dict(
        type="ResNet",
        depth=18,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_eval=False,
        zero_init_residual=False,  # as ours
    ),
    neck=dict(
        type="FPN",
        in_channels=[64, 128, 256, 512],
        out_channels=128,
        start_level=1,
        add_extra_convs="on_input",
        num_outs=5,
        upsample_cfg=dict(mode="bilinear"),
    ),
    bbox_head=dict(
        type="YOLACTHead",
        num_classes=1,
        in_channels=128,
        feat_channels=128,
        anchor_generator=dict(
            type="AnchorGenerator",
            octave_base_scale=2,
            scales_per_octave=1,
            base_sizes=[8, 16, 32, 64, 128],
            ratios=[0.5, 1.0, 2.0],
            strides=[size / x for x in levels],
            centers=[(size * 0.5 / x, size * 0.5 / x) for x in levels],
        ),
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoder", target_means=[0, 0, 0, 0], target_stds=[0.1, 0.1, 0.2, 0.2]
        ),
        loss_cls=dict(
            type="CrossEntropyLoss", use_sigmoid=False, reduction="none", loss_weight=1.0
        ),
        loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.5),
        num_head_convs=1,
        num_protos=32,
        use_ohem=True,
    ),
    mask_head=dict(
        type="YOLACTProtonet",
        in_channels=128,
        proto_channels=(128, 128, 128, None, 128, 32),
        num_protos=32,
        num_classes=1,
        max_masks_to_train=100,
        loss_mask_weight=6.125,
        with_seg_branch=True,
        loss_segm=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
    train_cfg=dict(
        assigner=dict(
            type="MaxIoUAssigner",
            pos_iou_thr=0.5,
            neg_iou_thr=0.4,
            min_pos_iou=0.0,
            ignore_iof_thr=-1,
            gt_max_assign_all=False,
        ),
        sampler=dict(type="PseudoSampler"),
        allowed_border=-1,
        pos_weight=-1,
        neg_pos_ratio=3,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        mask_thr=0.5,
        iou_thr=0.5,
        top_k=200,
        max_per_img=100,
        mask_thr_binary=0.5,
    ),
)
