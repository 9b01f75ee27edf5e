# The authors' human pose, dla_1x, 140 epochs (54.7 keypoint AP with the mirror).
_base_ = ["./centernet_points_pose_dla34_3x_512_coco.py"]

max_iters = 70140
train_cfg = dict(max_iters=max_iters, val_interval=5010)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=501),
    dict(type="MultiStepLR", by_epoch=False, milestones=[45090, 60120], gamma=0.1),
]
