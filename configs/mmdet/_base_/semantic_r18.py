# A small semantic segmenter from scratch: ResNet-18, 13 classes.
model = dict(
    type="metaheads.SemanticSegmenter",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.68, 116.78, 103.94],
        std=[58.40, 57.12, 57.38],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type="ResNet",
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
        zero_init_residual=False,
    ),
    core=dict(num_classes=13),
)
