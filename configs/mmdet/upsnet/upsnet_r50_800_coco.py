# The authors' UPSNet-50 of COCO (42.5 PQ on val2017).
_base_ = [
    "../_base_/runtime.py",
    "../_base_/upsnet_r50.py",
    "../_base_/coco_panoptic.py",
    "../_base_/schedule_upsnet.py",
]

model = dict(neck=dict(type="metaheads.GapFPN"), core=dict(num_things=80, num_stuff=53))
default_hooks = dict(
    checkpoint=dict(interval=10000, save_best="coco_panoptic/PQ", rule="greater"),
    logger=dict(interval=50),
)
