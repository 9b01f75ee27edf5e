"""The hosts' own RetinaNet on our backbones: from the registries, through a training step."""

from __future__ import annotations

import pytest
import torch
from tests.hosts.installed import needs_detectron2, needs_mmdet
from torch import nn

SMALL_HOURGLASS = dict(channels=(16, 16, 24), blocks=(1, 1, 1), stem_channels=16)
# Name -> options, feature width.
BACKBONES = {
    "DLA": (dict(channels=(8, 8, 16, 16, 24, 32)), 16),
    "DeconvResNet": (dict(deconv_channels=(32, 32, 16), convolution="deformable"), 16),
    "Hourglass": (dict(num_stacks=1, feature_channels=16, **SMALL_HOURGLASS), 16),
}
each_backbone = pytest.mark.parametrize("name", BACKBONES)
HEIGHT, WIDTH = 90, 110  # of an image, no multiple of anything


def train_one_step(model: nn.Module, losses) -> None:
    """Every parameter of the backbone gets a gradient."""
    sum(losses).backward()
    without = [n for n, p in model.backbone.named_parameters() if p.grad is None]
    assert sum(losses).isfinite() and not without


@needs_mmdet
@each_backbone
def test_mmdet(name):
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.structures import InstanceData

    from metaheads import backbones

    register_all_modules()
    options, width = BACKBONES[name]
    anchors = dict(octave_base_scale=4, scales_per_octave=3, ratios=[0.5, 1, 2], strides=[4])
    config = dict(
        type="RetinaNet",
        data_preprocessor=dict(
            type="DetDataPreprocessor",
            pad_size_divisor=getattr(getattr(backbones, name), "size_divisor", 1),
        ),
        backbone=dict(type=f"metaheads.{name}", **options),
        neck=dict(type="FPN", in_channels=[width], out_channels=16, num_outs=1),
        bbox_head=dict(
            type="RetinaHead",
            num_classes=3,
            in_channels=16,
            feat_channels=16,
            stacked_convs=1,
            anchor_generator=dict(type="AnchorGenerator", **anchors),
        ),
        train_cfg=dict(
            assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4),
            sampler=dict(type="PseudoSampler"),
            allowed_border=-1,
            pos_weight=-1,
        ),
        test_cfg=dict(
            nms_pre=100,
            min_bbox_size=0,
            score_thr=0.0,
            nms=dict(type="nms", iou_threshold=0.5),
            max_per_img=10,
        ),
    )
    model = MODELS.build(Config(config))
    sample = DetDataSample(metainfo=dict(img_shape=(HEIGHT, WIDTH), ori_shape=(HEIGHT, WIDTH)))
    sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    boxes = torch.tensor([[10.0, 10, 60, 60]])
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([1]))
    image = torch.randint(0, 255, (3, HEIGHT, WIDTH), dtype=torch.uint8)
    data = model.data_preprocessor(dict(inputs=[image], data_samples=[sample]), True)
    found = model(**data, mode="loss")
    train_one_step(model, [loss for each in found.values() for loss in each])
    (result,) = model.eval()(**data, mode="predict")
    assert len(result.pred_instances) == 10


@needs_detectron2
@each_backbone
def test_detectron2(name):
    from detectron2 import model_zoo
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    from metaheads.hosts.detectron2 import add_metaheads_config
    from metaheads.hosts.detectron2.config import OPTION_NODES

    cfg = get_cfg()
    add_metaheads_config(cfg)
    cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.yaml"))
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.BACKBONE.NAME = "cpu", "", name
    (node,) = [node for node, kind in OPTION_NODES.items() if kind.__name__ == name]
    for option, value in BACKBONES[name][0].items():
        cfg.merge_from_list([f"{node}.{option.upper()}", value])
    cfg.MODEL.RETINANET.IN_FEATURES, cfg.MODEL.ANCHOR_GENERATOR.SIZES = ["c2"], [[32]]
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    model = build_model(cfg)
    truth = Instances((HEIGHT, WIDTH))
    truth.gt_boxes = Boxes(torch.tensor([[10.0, 10, 60, 60]]))
    truth.gt_classes = torch.tensor([1])
    image = torch.randint(0, 255, (3, HEIGHT, WIDTH), dtype=torch.uint8)
    batch = [{"image": image, "instances": truth, "height": HEIGHT, "width": WIDTH}]
    with EventStorage():
        train_one_step(model, model(batch).values())
    (result,) = model.eval()(batch)
    assert len(result["instances"]) == 100
