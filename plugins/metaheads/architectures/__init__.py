"""The architectures, each written once in plain PyTorch."""

from metaheads.architectures.centernet_points import CenterNetPoints
from metaheads.architectures.cornernet import CenterNetTriplets, CornerNet
from metaheads.architectures.retinaface import RetinaFace
from metaheads.architectures.semantic import SemanticSegmenter
from metaheads.architectures.upsnet import UPSNet
from metaheads.architectures.yolact import Yolact

__all__ = [
    "CenterNetPoints",
    "CenterNetTriplets",
    "CornerNet",
    "RetinaFace",
    "SemanticSegmenter",
    "UPSNet",
    "Yolact",
]
