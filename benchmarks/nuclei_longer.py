# The config for small objects, four times as long and with pictures turned and coloured as nuclei
# come: about half an hour on two cores.
_base_ = "../configs/mmdet/yolact/yolact_r18_256_nuclei_small_objects.py"

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
            dict(
                type="metaheads.TrainTransform",
                size=(256, 256),
                flip=0.5,
                rotate90=0.75,
                photometric=True,
                color_order="bgr",
            ),
            dict(type="PackDetInputs"),
        ]
    )
)
max_iters = 1200
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=31),
    dict(
        type="CosineAnnealingLR",
        by_epoch=False,
        begin=30,
        end=max_iters,
        T_max=max_iters - 30,
        eta_min=1e-5,
    ),
]
