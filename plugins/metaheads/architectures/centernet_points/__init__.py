"""CenterNet: objects as points, with sizes, and people with their joints.

Paper: Objects as Points, arXiv 1904.07850. Authors' code: xingyizhou/CenterNet@4c50fd3.

What differs from the authors' code, and why:
- Any number of objects trains (theirs keeps the first 128, or 32 people).
- Crowd regions train nothing: no positive, and their cells are no negatives of their class.
- In several processes the losses are divided by the mean number of positives, so that the processes
  train like one with all images (theirs divide on each GPU apart).
- Of several sizes, boxes are clipped to the image before soft-NMS merges them (theirs are not).
- Every head also exists for each stack of an hourglass; in evaluation only the last stack's run.
What is kept although it looks wrong: `radius_formula="original"`, see `heatmaps.gaussian_radius`,
and boxes that are clipped to the last cell's corner, not to the map's border. Two objects of one
class in one cell are one positive of the heatmap, which learns both sizes.
"""

from metaheads.architectures.centernet_points.network import CenterNetPoints, PointOutputs

__all__ = ["CenterNetPoints", "PointOutputs"]
