# The authors' dla_34 on Pascal VOC at 512 pixels (80.7 mAP with the mirror).
_base_ = [
    "../_base_/runtime.py",
    "../_base_/centernet_points_dla34.py",
    "../_base_/voc0712_warp_512.py",
]

# The authors' normalisation here: ImageNet's of RGB, on BGR.
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    core=dict(num_classes=20),
)
default_hooks = dict(
    checkpoint=dict(interval=2585, save_best="pascal_voc/mAP"), logger=dict(interval=50)
)
