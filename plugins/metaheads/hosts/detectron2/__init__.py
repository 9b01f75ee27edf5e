"""Metaheads in Detectron2: importing this registers our meta-architectures and backbones.

    import metaheads.hosts.detectron2 as metaheads_d2
    cfg = get_cfg()
    metaheads_d2.add_metaheads_config(cfg)
    cfg.merge_from_file("configs/detectron2/yolact/yolact_r50_550_coco.yaml")

From there on Detectron2's DefaultTrainer and DefaultPredictor work as with any of its own models.
(DefaultTrainer knows SGD only and clips each gradient by itself: `metaheads train` and the class
`metaheads.hosts.detectron2.trainer.Trainer` follow the whole config.)
"""

from metaheads.hosts.detectron2.backbones import Darknet53, DeformableResNet
from metaheads.hosts.detectron2.config import add_metaheads_config
from metaheads.hosts.detectron2.data import MetaheadsMapper
from metaheads.hosts.detectron2.datasets import class_names, register_datasets
from metaheads.hosts.detectron2.models import HostedInstances, Yolact
from metaheads.hosts.detectron2.panoptic import HostedPanoptic, UPSNet
from metaheads.hosts.detectron2.semantic import (
    HostedSemantic,
    SemanticSegmenter,
    UPSNetSemanticHead,
)

__all__ = [
    "Darknet53",
    "DeformableResNet",
    "HostedInstances",
    "HostedPanoptic",
    "HostedSemantic",
    "MetaheadsMapper",
    "SemanticSegmenter",
    "UPSNet",
    "UPSNetSemanticHead",
    "Yolact",
    "add_metaheads_config",
    "class_names",
    "register_datasets",
]
