# "slim" of Face-Detector-1MB-with-landmark: no pyramid, four levels (85.0 / 80.8 / 59.5 easy,
# medium, hard AP where the longer side is 640).
_base_ = ["./retinaface_1mb_mnet025_300_widerface.py"]

model = dict(
    backbone=dict(_delete_=True, type="metaheads.SlimNet", use_rfb=False),
    core=dict(
        in_channels=[64, 128, 256, 256],
        strides=[8, 16, 32, 64],
        pyramid_channels=0,
        head="separable",
        anchor_sizes=((10, 16, 24), (32, 48), (64, 96), (128, 192, 256)),
    ),
)
