# The authors' dla_34, tested with the mirror.
model = dict(
    type="metaheads.CenterNetPoints",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[104.01362025, 114.03422265, 119.9165958],
        std=[73.6027665, 69.89082075, 70.9150767],
        bgr_to_rgb=False,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type="metaheads.DLA",
    ),
    core=dict(in_channels=[64], strides=[4], head_channels=256),
    test_cfg=dict(flip=True),
)
