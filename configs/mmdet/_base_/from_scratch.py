# Small models on small data, from scratch on a CPU: AdamW 1e-3, 30 iterations of warm-up, cosine to
# 1e-5.
max_iters = 300
train_cfg = dict(type="metaheads.TrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=10),
)
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
auto_scale_lr = dict(enable=False, base_batch_size=8)
