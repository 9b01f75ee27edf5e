# 312 iterations of 8 images; MMDetection's own: benchmarks/peer_centernet_r18_bccd.py.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/centernet_points_r18.py",
    "../_base_/from_scratch_bccd.py",
    "../_base_/bccd.py",
]

model = dict(core=dict(num_classes=3))
default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP"))
