"""Backbones that no host has: images in, list of features out, finest first."""

from metaheads.backbones.darknet import Darknet53
from metaheads.backbones.resnet import DeformableResNet

__all__ = ["Darknet53", "DeformableResNet"]
