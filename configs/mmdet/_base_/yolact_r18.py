# A small YOLACT from scratch: ResNet-18 and a width of 128.
_base_ = ["./yolact_r50.py"]

model = dict(
    backbone=dict(
        depth=18,
        # As in Detectron2 and torchvision: short trainings from scratch need the residual branches.
        zero_init_residual=False,
        init_cfg=None,
    ),
    core=dict(
        in_channels=[128, 256, 512],
        use_square_anchors=False,
        fpn_channels=128,
    ),
)
