# The authors' resdcn_101 on Pascal VOC at 512 pixels (78.7 mAP with the mirror).
_base_ = ["./centernet_points_resdcn18_512_voc.py"]

model = dict(
    backbone=dict(depth=101, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101"))
)
