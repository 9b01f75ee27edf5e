# YOLACT with ResNet-50 at 550 pixels; the other published variants change this one.
model = dict(
    type="metaheads.Yolact",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.68, 116.78, 103.94],
        std=[58.40, 57.12, 57.38],
        bgr_to_rgb=True,
        pad_mask=True,
    ),
    backbone=dict(
        type="ResNet",
        depth=50,
        out_indices=(1, 2, 3),
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=dict(type="BN"),
        style="pytorch",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    core=dict(in_channels=[512, 1024, 2048], strides=[8, 16, 32], num_classes=80, max_size=550),
)
