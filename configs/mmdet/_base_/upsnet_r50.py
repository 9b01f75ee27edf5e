# UPSNet-50 as its authors built it: ResNet in caffe's style with fixed batch norms, RoIAlign
# without the half-pixel shift, boxes that hold both corners' pixels. Regions as in
# MMDetection's Mask R-CNN.
_base_ = ["mmdet::_base_/models/mask-rcnn_r50_fpn.py"]

roi_align = dict(type="RoIAlign", output_size=7, sampling_ratio=2, aligned=False)
model = dict(
    type="metaheads.UPSNet",
    data_preprocessor=dict(
        mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], bgr_to_rgb=False
    ),
    backbone=dict(
        norm_cfg=dict(type="BN", requires_grad=False),
        style="caffe",
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://detectron2/resnet50_caffe"),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=roi_align),
        mask_roi_extractor=dict(roi_layer=dict(roi_align, output_size=14)),
    ),
    core=dict(in_channels=[256, 256, 256, 256], strides=[4, 8, 16, 32], inclusive_boxes=True),
)
