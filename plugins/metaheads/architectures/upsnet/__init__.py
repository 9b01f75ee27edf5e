"""UPSNet: unified panoptic segmentation."""

from metaheads.architectures.upsnet.network import UPSNet, UPSNetOutputs
from metaheads.architectures.upsnet.semantic_head import SemanticHead

__all__ = ["SemanticHead", "UPSNet", "UPSNetOutputs"]
