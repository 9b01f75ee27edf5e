# The authors' CenterNet-52 (41.6 AP on test-dev at one scale, with the mirror).
_base_ = ["./centernet_triplets_hg104_511_coco.py"]

model = dict(backbone=dict(num_stacks=1), core=dict(in_channels=[256], strides=[4]))
