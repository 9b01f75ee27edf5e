# The authors' human pose, hg_1x, 50 epochs (58.7 keypoint AP with the mirror).
_base_ = ["./centernet_points_pose_hg104_3x_512_coco.py"]

max_iters = 133600
train_cfg = dict(max_iters=max_iters, val_interval=26720)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=501),
    dict(type="MultiStepLR", by_epoch=False, milestones=[106880], gamma=0.1),
]
