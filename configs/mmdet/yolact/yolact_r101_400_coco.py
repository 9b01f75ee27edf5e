_base_ = "yolact_r101_550_coco.py"

size = (400, 400)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
            dict(
                type="metaheads.TrainTransform",
                size=size,
                photometric=True,
                expand=4.0,
                crop=True,
                flip=0.5,
                color_order="bgr",
            ),
            dict(type="PackDetInputs"),
        ]
    )
)
val_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="metaheads.FixedResize", size=size),
            dict(type="PackDetInputs"),
        ]
    )
)
test_dataloader = val_dataloader
model = dict(core=dict(max_size=400, anchor_scales=((17,), (34,), (69,), (139,), (279,))))
