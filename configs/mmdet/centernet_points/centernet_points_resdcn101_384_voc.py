# The authors' resdcn_101 on Pascal VOC at 384 pixels (77.1 mAP with the mirror).
_base_ = ["./centernet_points_resdcn18_384_voc.py"]

model = dict(
    backbone=dict(depth=101, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101"))
)
