# biubug6's mobilenet0.25, 250 epochs of 32 crops (90.7 / 88.2 / 73.8 easy, medium, hard AP at the
# images' own size; TestView short (1600, 2150): 88.7 / 87.1 / 81.0). The authors begin with a
# backbone trained on ImageNet: import-weights mobilenetV1X0.25_pretrain.tar --from retinaface
# --allow-partial makes the file for load_from.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/widerface.py",
    "../_base_/retinaface_mnet025.py",
]

max_iters = 100750
train_cfg = dict(type="metaheads.TrainLoop", max_iters=max_iters, val_interval=20150)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="SGD", lr=1e-3, momentum=0.9, weight_decay=5e-4)
)
param_scheduler = [
    dict(type="MultiStepLR", by_epoch=False, milestones=[76570, 88660], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=32)
default_hooks = dict(
    checkpoint=dict(interval=4030, save_best="widerface/hard", rule="greater"),
    logger=dict(interval=50),
)
