# A small FCN on the embedded panoptic data, from scratch: 600 iterations of 4 images. FCN-8s with
# one skip connection more (C2), as the images are small.
_base_ = ["../_base_/runtime.py", "../_base_/semantic_r18.py", "../_base_/shapes_semantic.py"]

model = dict(
    core=dict(in_channels=[64, 128, 256, 512], strides=[4, 8, 16, 32], head="fcn"),
)
default_hooks = dict(checkpoint=dict(save_best="sem_seg/mIoU", rule="greater"))
