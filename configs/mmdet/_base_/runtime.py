# What every MMDetection config of ours needs: our names, and checkpoints that survive a kill and
# load with torch's weights_only=True.
custom_imports = dict(imports=["metaheads.registry"], allow_failed_imports=False)
default_scope = "mmdet"
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=20),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="CheckpointHook",
        interval=100,
        by_epoch=False,
        max_keep_ckpts=2,
        save_best="coco/segm_mAP",
        backend_args=dict(backend="metaheads.AtomicLocalBackend"),
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="DetVisualizationHook"),
)
custom_hooks = [
    dict(type="metaheads.PlainCheckpoints"),
    dict(type="metaheads.BroadcastBuffers"),
]
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(type="DetLocalVisualizer", vis_backends=vis_backends)
log_processor = dict(type="LogProcessor", window_size=20, by_epoch=False)
log_level = "INFO"
load_from = None
resume = False
