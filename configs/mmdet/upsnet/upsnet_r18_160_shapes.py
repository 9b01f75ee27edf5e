# A small UPSNet on the embedded panoptic data, from scratch: 1,200 iterations of 4 images.
_base_ = ["../_base_/runtime.py", "../_base_/upsnet_r18.py", "../_base_/shapes_panoptic.py"]

model = dict(
    core=dict(
        num_things=7,
        num_stuff=6,
        # With more weight the maps improve, and the detections suffer.
        semantic_weight=0.3,
        panoptic_weight=0.2,
        stuff_area_limit=128,
    ),
)
default_hooks = dict(checkpoint=dict(save_best="coco_panoptic/PQ", rule="greater"))
