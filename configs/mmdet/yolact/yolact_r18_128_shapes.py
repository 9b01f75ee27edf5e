# The model of `make demo`. The pyramid begins at stride 4: dense anchors and prototypes of half the
# input's resolution learn faster from scratch than the usual ones. It ends at stride 32 without the
# fourth stage of the ResNet, a quarter of the time that changes nothing here.
_base_ = [
    "../_base_/yolact_r18.py",
    "../_base_/runtime.py",
    "../_base_/from_scratch_shapes.py",
    "../_base_/shapes.py",
]

model = dict(
    backbone=dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(0, 1, 2)),
    core=dict(
        in_channels=[64, 128, 256],
        strides=[4, 8, 16],
        num_classes=7,
        max_size=128,
        anchor_scales=((16, 22), (32, 45), (64, 90), (110, 128)),
        num_extra_levels=1,
        fpn_channels=64,
    ),
)
