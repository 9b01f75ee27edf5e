# CornerNet with one hourglass (37.8 AP as published, at one scale with the mirror).
_base_ = ["./cornernet_hg104_511_coco.py"]

model = dict(backbone=dict(num_stacks=1), core=dict(in_channels=[256], strides=[4]))
