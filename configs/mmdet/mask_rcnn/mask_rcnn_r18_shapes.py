# The baseline: MMDetection's own Mask R-CNN on the same data and schedule, at the images' own size.
_base_ = [
    "../_base_/mask_rcnn_r18.py",
    "../_base_/runtime.py",
    "../_base_/from_scratch_shapes.py",
    "../_base_/shapes.py",
]

model = dict(
    roi_head=dict(bbox_head=dict(num_classes=7), mask_head=dict(num_classes=7)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64))),
)
train_dataloader = dict(dataset=dict(pipeline={{_base_.native_train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.native_test_pipeline}}))
test_dataloader = val_dataloader
