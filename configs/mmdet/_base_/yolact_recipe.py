# The authors' training: SGD 1e-3 at batch 8, 800,000 iterations, warm-up from 1e-4 in 500.
max_iters = 800000
train_cfg = dict(type="metaheads.TrainLoop", max_iters=max_iters, val_interval=40000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="SGD", lr=1e-3, momentum=0.9, weight_decay=5e-4)
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=501),
    dict(
        type="MultiStepLR",
        by_epoch=False,
        milestones=[280000, 600000, 700000, 750000],
        gamma=0.1,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
