"""YOLACT and YOLACT++: real-time instance segmentation by prototypes and coefficients.

Papers: YOLACT: Real-time Instance Segmentation, arXiv 1904.02689; YOLACT++: Better Real-time
Instance Segmentation, arXiv 1912.06218. Authors' code: dbolya/yolact@902073d.

What differs from the authors' code, and why:
- An image without objects, or with crowds only, trains (theirs crashes): its hardest priors train
  the class loss, the other terms are zero with a gradient.
- Objects that are smaller than `min_box_size` pixels of the network input are left out of the
  training (their threshold compares relative sizes with pixels and drops only empty boxes).
- Boxes stay real numbers; `integer_boxes` cuts them like the authors' display code.
What is kept although it looks wrong, because the published weights depend on it: anchors normalised
by `max_size` on both axes, and anchors made square by `use_square_anchors`.
"""

from metaheads.architectures.yolact.network import Yolact, YolactFPN, YolactOutputs

__all__ = ["Yolact", "YolactFPN", "YolactOutputs"]
