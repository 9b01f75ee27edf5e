"""Semantic segmentation alone: a label for every pixel."""

from metaheads.architectures.semantic.fcn_head import FCNHead
from metaheads.architectures.semantic.network import SemanticOutputs, SemanticSegmenter

__all__ = ["FCNHead", "SemanticOutputs", "SemanticSegmenter"]
