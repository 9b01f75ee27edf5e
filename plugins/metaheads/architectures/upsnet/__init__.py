"""UPSNet: unified panoptic segmentation.

Paper: arXiv 1901.03784. Written from it: the authors' code and weights are non-commercial.

What differs from the authors' code, and why:
- Any number of images per process trains (theirs takes one), images without objects, too.
- Without detections no instance of logits zero takes part (`dummy_instance` brings it back).
- RPN and RoI heads are the host's: its anchors lie at the cells' corners and are not rounded, boxes
  end behind their last pixel, and smooth L1 losses and the sampling of regions are as the host has
  them. `inclusive_boxes` gives anchors, RoIAlign and clipping of detections as the authors have
  them; coding of boxes and NMS follow from that (regions.py). Left are proposals outside of the
  image, which the hosts drop and the authors clip to one pixel, and MMDetection's bound on how much
  smaller than its anchor a box can be.
What is kept although it looks wrong: the panoptic and the RoI loss are divided by all pixels,
ignored ones, too; an instance has logits of zero outside of its box, which can win.
"""

from metaheads.architectures.upsnet.network import UPSNet, UPSNetOutputs
from metaheads.architectures.upsnet.semantic_head import SemanticHead

__all__ = ["SemanticHead", "UPSNet", "UPSNetOutputs"]
