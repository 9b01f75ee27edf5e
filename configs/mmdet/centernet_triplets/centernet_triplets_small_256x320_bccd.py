_base_ = [
    "../_base_/runtime.py",
    "../_base_/centernet_triplets_small.py",
    "../_base_/from_scratch_bccd.py",
    "../_base_/bccd.py",
]

model = dict(core=dict(num_classes=3))
default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP"))
