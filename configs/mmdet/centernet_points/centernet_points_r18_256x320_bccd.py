# MMDetection's own CenterNet reaches AP 0.274 with this schedule.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/centernet_points_r18.py",
    "../_base_/from_scratch_bccd.py",
    "../_base_/bccd.py",
]

model = dict(core=dict(num_classes=3))
default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP"))
