# The baseline: MMDetection's own Mask R-CNN on the same data and schedule, at the images' own size.
_base_ = [
    "../_base_/mask_rcnn_r18.py",
    "../_base_/runtime.py",
    "../_base_/from_scratch.py",
    "../_base_/nuclei.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)))
train_dataloader = dict(dataset=dict(pipeline={{_base_.native_train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.native_test_pipeline}}))
test_dataloader = val_dataloader
