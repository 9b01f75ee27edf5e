# The authors' yolact_plus_base: every third block of C3-C5 is deformable.
_base_ = "yolact_plus_r50_550_coco.py"

model = dict(
    backbone=dict(
        depth=101,
        dcn_blocks=(0, 4, 23, 3),
        dcn_interval=3,
        init_cfg=dict(checkpoint="torchvision://resnet101"),
    )
)
