"""CornerNet: boxes as pairs of corners. CenterNet (keypoint triplets): and their centres.

Papers: CornerNet: Detecting Objects as Paired Keypoints, arXiv 1808.01244; CenterNet: Keypoint
Triplets for Object Detection, arXiv 1904.08189. Authors' code: princeton-vl/CornerNet@e5c39a3,
Duankaiwen/CenterNet@3ad3a10.

What differs from the authors' code, and why:
- Any number of objects trains (theirs crashes above 128), a batch of one image too, and images
  without objects.
- Crowd regions train nothing: no corner, and their cells are no negatives of their class.
- In several processes the losses are divided by the mean number of positives.
- Soft-NMS drops the boxes that it drops (theirs leaves copies of others in their place).
Two corners of one class in one cell are one positive of the heatmap, which learns both tags. The
push loss of an image with one object is the constant 0.9999, as theirs.
"""

from metaheads.architectures.cornernet.network import (
    CenterNetTriplets,
    CornerNet,
    CornerOutputs,
)

__all__ = ["CenterNetTriplets", "CornerNet", "CornerOutputs"]
