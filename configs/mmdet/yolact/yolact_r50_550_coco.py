_base_ = [
    "../_base_/runtime.py",
    "../_base_/yolact_recipe.py",
    "../_base_/coco.py",
    "../_base_/yolact_r50.py",
]

default_hooks = dict(checkpoint=dict(interval=10000), logger=dict(interval=50))
