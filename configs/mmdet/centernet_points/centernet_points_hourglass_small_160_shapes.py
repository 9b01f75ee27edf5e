_base_ = [
    "../_base_/runtime.py",
    "../_base_/centernet_points_hourglass_small.py",
    "../_base_/from_scratch_shapes.py",
    "../_base_/shapes_boxes.py",
]

model = dict(core=dict(num_classes=7))
default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP"))
