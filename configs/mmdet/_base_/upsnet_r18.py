# A small UPSNet from scratch: ResNet-18-FPN with narrow regions.
_base_ = ["./panoptic_r18.py"]

model = dict(
    type="metaheads.UPSNet",
    core=dict(
        in_channels=[64, 64, 64, 64],
        strides=[4, 8, 16, 32],
        num_things=7,
        num_stuff=6,
        head_widths=(32, 32),
        semantic_weight=1.0,
        semantic_roi_weight=0.0,
        panoptic_weight=0.5,
    ),
)
