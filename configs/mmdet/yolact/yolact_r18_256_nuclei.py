_base_ = [
    "../_base_/yolact_r18.py",
    "../_base_/runtime.py",
    "../_base_/from_scratch.py",
    "../_base_/nuclei.py",
]

model = dict(
    core=dict(
        num_classes=1,
        max_size=256,
        anchor_scales=((16,), (32,), (64,), (128,), (256,)),
    ),
)
