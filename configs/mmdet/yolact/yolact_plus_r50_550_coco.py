# YOLACT++: deformable convolutions in all blocks of C3-C5, three scales per level, mask scoring.
_base_ = "yolact_r50_550_coco.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="metaheads.DeformableResNet",
        depth=50,
        dcn_blocks=(0, 4, 6, 3),
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    core=dict(
        anchor_scales=tuple(
            tuple(scale * 2 ** (step / 3) for step in range(3)) for scale in (24, 48, 96, 192, 384)
        ),
        use_square_anchors=False,
        use_mask_scoring=True,
    ),
)
