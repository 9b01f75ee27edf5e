# For small objects: the pyramid begins at stride 4, so that anchors stand every 4 pixels from 8
# pixels on and prototypes have half the input's resolution; a width of 64 pays for it. More
# positives train the masks.
_base_ = "yolact_r18_256_nuclei.py"

model = dict(
    backbone=dict(out_indices=(0, 1, 2, 3)),
    core=dict(
        in_channels=[64, 128, 256, 512],
        strides=[4, 8, 16, 32],
        num_extra_levels=0,
        anchor_scales=((8, 12), (16, 24), (32, 48), (64, 96)),
        fpn_channels=64,
        max_mask_positives=300,
    ),
)
