"""The boxes of UPSNet's authors in the hosts' convention.

Theirs hold the pixels of both corners: a side is x2 - x1 + 1. Ours, as the hosts', end behind their
last pixel. Shifting the far corner by one carries one into the other, and with it the coding of
boxes, their areas and overlaps; what does not follow is where the anchors lie, where RoIAlign
samples, and how boxes are clipped. py-faster-rcnn's conventions, which the authors took over.

Letters: N boxes, A anchors of a cell.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def to_inclusive(boxes: Tensor) -> Tensor:
    """Boxes (..., 4), or RoIs (..., 5) with the image's number in front, that end at their last
    pixel, no longer behind it."""
    return torch.cat((boxes[..., :-2], boxes[..., -2:] - 1), -1)


def round_anchors(anchors: Tensor, stride: int) -> Tensor:
    """A cell's anchors as py-faster-rcnn makes them, in the same order.

    A square of one stride gets the anchor's ratio, is rounded to whole pixels, and is scaled to the
    anchor's size; its centre stays that of the cell.

    Args:
        anchors: (A, 4), wherever their centre is.
        stride: in pixels of the network input.

    Returns:
        (A, 4) for the cell whose corner is (0, 0); `to_inclusive` makes them the published ones.
    """
    sides = (anchors[:, 2:] - anchors[:, :2]).double()  # (A, 2)
    width, height = sides.unbind(1)
    # Hosts keep sides in single precision, but halves have to be recognised.
    ratios = (height / width).mul(1e4).round() / 1e4
    scales = ((width * height).sqrt() / stride).mul(1e4).round() / 1e4
    width = (stride**2 / ratios).sqrt().round()
    height = (width * ratios).round()  # half to even, as numpy rounds
    half = torch.stack((width, height), 1) * scales[:, None] / 2
    return torch.cat((stride / 2 - half, stride / 2 + half), 1).to(anchors)


def clip(boxes: Tensor, size: tuple[int, int], *, inclusive: bool) -> Tensor:
    """Boxes (..., 4) within an image (height, width); inclusive: of at least one pixel, because
    both corners were clipped to pixels."""
    height, width = size
    pixel = int(inclusive)
    lower = boxes.new_tensor([0, 0, pixel, pixel])
    return boxes.maximum(lower).minimum(
        boxes.new_tensor([width - pixel, height - pixel, width, height])
    )


def pool_inclusive(roi_align: nn.Module) -> None:
    """Makes a host's RoIAlign (of RoIs (N, 5)) sample up to the near edges of the last pixels."""
    roi_align.register_forward_pre_hook(_shorten)


def _shorten(_: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    features, rois = inputs
    far = rois[:, 3:].sub(1).maximum(rois[:, 1:3])  # mmcv refuses negative sides
    return features, torch.cat((rois[:, :3], far), 1)
