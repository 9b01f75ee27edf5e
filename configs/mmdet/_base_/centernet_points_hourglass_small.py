# A small CenterNet (objects as points) from scratch: a small hourglass.
model = dict(
    type="metaheads.CenterNetPoints",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.68, 116.78, 103.94],
        std=[58.40, 57.12, 57.38],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type="metaheads.Hourglass",
        num_stacks=1,
        channels=(64, 64, 96, 128),
        blocks=(1, 1, 1, 2),
        stem_channels=32,
        feature_channels=64,
    ),
    core=dict(in_channels=[64], strides=[4], num_classes=80),
)
