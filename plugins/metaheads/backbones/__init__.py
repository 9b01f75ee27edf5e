"""Backbones that no host has: images in, list of features out, finest first."""

from metaheads.backbones.darknet import Darknet53
from metaheads.backbones.deconv_resnet import DeconvResNet
from metaheads.backbones.dla import DLA
from metaheads.backbones.hourglass import Hourglass
from metaheads.backbones.mobilenet import MobileNetV1
from metaheads.backbones.resnet import DeformableResNet
from metaheads.backbones.slim import SlimNet

__all__ = [
    "DLA",
    "Darknet53",
    "DeconvResNet",
    "DeformableResNet",
    "Hourglass",
    "MobileNetV1",
    "SlimNet",
]
