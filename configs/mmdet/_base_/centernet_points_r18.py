# A small CenterNet (objects as points) from scratch: ResNet-18, deconvolutions to stride 4.
model = dict(
    type="metaheads.CenterNetPoints",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.68, 116.78, 103.94],
        std=[58.40, 57.12, 57.38],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type="metaheads.DeconvResNet",
        depth=18,
        deconv_channels=(256, 128, 64),
        convolution="plain",
    ),
    core=dict(in_channels=[64], strides=[4], num_classes=80),
)
