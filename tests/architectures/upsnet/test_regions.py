from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from metaheads.architectures.upsnet.regions import (
    clip,
    pool_inclusive,
    round_anchors,
    to_inclusive,
)

RATIOS = (0.5, 1.0, 2.0)
# What py-faster-rcnn publishes for a stride of 16 and scales 8, 16 and 32.
PUBLISHED = {
    8: [[-84, -40, 99, 55], [-56, -56, 71, 71], [-36, -80, 51, 95]],
    16: [[-176, -88, 191, 103], [-120, -120, 135, 135], [-80, -168, 95, 183]],
    32: [[-360, -184, 375, 199], [-248, -248, 263, 263], [-168, -344, 183, 359]],
}


def make_anchors(size: float, ratios=RATIOS) -> torch.Tensor:
    """Around (0, 0), in single precision as the hosts have them."""
    sides = torch.tensor([[size / math.sqrt(r), size * math.sqrt(r)] for r in ratios])
    return torch.cat((-sides / 2, sides / 2), 1)


@pytest.mark.parametrize("scale", PUBLISHED)
@pytest.mark.parametrize("shift", [0.0, 8.0])
def test_anchors_are_the_published_ones(scale, shift):
    found = to_inclusive(round_anchors(make_anchors(16.0 * scale) + shift, 16))
    assert found.dtype == torch.float32
    assert found.tolist() == PUBLISHED[scale]


def test_anchors_of_another_stride_by_hand():
    """Stride 4: sqrt(16 / .5) = 5.66 -> 6 wide, 3 high; sqrt(16 / 2) = 2.83 -> 3 wide, 6 high; the
    cell's centre is 1.5."""
    found = to_inclusive(round_anchors(make_anchors(32.0), 4))
    assert found.tolist() == [[-22, -10, 25, 13], [-14, -14, 17, 17], [-10, -22, 13, 25]]


def test_anchors_keep_their_order():
    anchors = torch.cat((make_anchors(512.0, (2.0, 0.5)), make_anchors(128.0, (1.0,))))
    expected = [PUBLISHED[32][2], PUBLISHED[32][0], PUBLISHED[8][1]]
    assert to_inclusive(round_anchors(anchors, 16)).tolist() == expected


def test_far_corners_move():
    boxes = torch.tensor([[1.0, 2, 5, 8]])
    assert to_inclusive(boxes).tolist() == [[1, 2, 4, 7]]
    rois = torch.tensor([[3.0, 1, 2, 5, 8]])
    assert to_inclusive(rois).tolist() == [[3, 1, 2, 4, 7]], "the image's number stays"


def test_clipping():
    boxes = torch.tensor([[-3.0, -2, 4, 50], [25, 12, 40, 13], [-9, -9, -2, -1]])
    found = clip(boxes, (10, 20), inclusive=False)
    assert found.tolist() == [[0, 0, 4, 10], [20, 10, 20, 10], [0, 0, 0, 0]]
    # The authors clip to [0, 19] and [0, 9], where a box is never empty.
    found = to_inclusive(clip(boxes, (10, 20), inclusive=True))
    assert found.tolist() == [[0, 0, 3, 9], [19, 9, 19, 9], [0, 0, 0, 0]]


def test_roi_align_ends_at_the_last_pixel():
    from torchvision.ops import RoIAlign

    features = torch.arange(8.0).expand(1, 1, 8, 8).contiguous()
    rois = torch.tensor([[0.0, 1, 1, 6, 6]])
    layer = RoIAlign(1, 1.0, sampling_ratio=1, aligned=False)
    assert_close(layer(features, rois).flatten(), torch.tensor([3.5]))
    pool_inclusive(layer)
    assert_close(layer(features, rois).flatten(), torch.tensor([3.0]))
    thin = torch.tensor([[0.0, 2, 2, 2.5, 6]])
    pool_inclusive(probe := Recorder())
    assert probe(features, thin).tolist() == [[0, 2, 2, 2, 5]], "no negative side"
    assert rois.tolist() == [[0, 1, 1, 6, 6]]


class Recorder(torch.nn.Module):
    def forward(self, features, rois):
        return rois
