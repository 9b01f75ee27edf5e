# The authors' resdcn_18, tested with the mirror.
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
        type="metaheads.DeconvResNet",
        depth=18,
        deconv_channels=(256, 128, 64),
        convolution="deformable",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet18"),
    ),
    core=dict(in_channels=[64], strides=[4]),
    test_cfg=dict(flip=True),
)
