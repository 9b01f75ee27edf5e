# UPSNet's semantic head alone on the embedded panoptic data, from scratch: 600 iterations of 4
# images.
_base_ = ["../_base_/runtime.py", "../_base_/semantic_r18.py", "../_base_/shapes_semantic.py"]

model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    neck=dict(
        type="FPN",
        in_channels=[64, 128, 256, 512],
        out_channels=64,
        num_outs=5,
        init_cfg=dict(type="Caffe2Xavier", layer="Conv2d"),  # as Detectron2's
    ),
    core=dict(
        in_channels=[64, 64, 64, 64],
        strides=[4, 8, 16, 32],
        head="deformable",
        head_widths=(32, 32),
    ),
)
default_hooks = dict(checkpoint=dict(save_best="sem_seg/mIoU", rule="greater"))
