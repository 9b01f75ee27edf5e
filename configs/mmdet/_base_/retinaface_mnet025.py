# RetinaFace with MobileNetV1 x0.25: BGR without a deviation, as biubug6's.
model = dict(
    type="metaheads.RetinaFace",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[104.0, 117.0, 123.0],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
    ),
    backbone=dict(type="metaheads.MobileNetV1"),
    core=dict(in_channels=[64, 128, 256], strides=[8, 16, 32]),
)
