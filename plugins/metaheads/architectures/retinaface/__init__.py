"""RetinaFace: boxes, five landmarks and, optionally, a mesh of every face, in one stage.

Paper: RetinaFace, arXiv 1905.00641 (v2) and CVPR 2020. By default the network and the losses are
those of biubug6/Pytorch_Retinaface@b984b4b, whose checkpoints circulate; what differs in the paper
(five levels, one shared head, deformable context, a cascade) and in
biubug6/Face-Detector-1MB-with-landmark (other anchors, no pyramid) are options.

What differs from biubug6's code, and why:
- A face without a prior of its own takes none from another face, and an image without positives
  teaches negatives; `is_compatible=True` has both as theirs (nothing published depends on it).
- Faces without area train nothing (theirs: log 0); of a face with some of its points these count.
- Crowds, the ignored faces of a data set, are neither faces nor background (theirs has none).
- Boxes are clipped to the image (theirs are not, in WIDER FACE's submissions either).
- In several processes the losses are divided by the mean number of positives.
- NMS works in pixels of the network input, theirs of the original image: because of its +1, which
  the default keeps, this can differ where images are resized.
The mesh follows the idea of the CVPR paper (vertices and edges regressed at positive anchors, on a
topology of the data's own). Neither that branch nor v2's rendered one was ever published, so no
published number is reproduced.
"""

from metaheads.architectures.retinaface.network import RetinaFace, RetinaFaceOutputs

__all__ = ["RetinaFace", "RetinaFaceOutputs"]
