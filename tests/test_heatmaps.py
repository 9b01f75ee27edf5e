from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from metaheads.heatmaps import (
    draw_gaussians,
    find_peaks,
    focal_loss,
    gather_cells,
    gaussian_radius,
    keep_local_maxima,
)


@pytest.mark.parametrize(
    ("formula", "overlap", "side", "expected"),
    [
        ("original", 0.7, 10, 2.73),
        ("corrected", 0.3, 10, 2.26),
        ("original", 0.7, 100, 27.3),
        ("corrected", 0.3, 100, 22.6),
    ],
)
def test_radius_of_known_boxes(formula, overlap, side, expected):
    radius = gaussian_radius(torch.tensor([[side, side]]), overlap, formula)
    assert radius.item() == pytest.approx(expected, abs=0.05 * expected / 2.7)


def test_a_box_moved_by_the_corrected_radius_has_the_overlap():
    """Both corners outwards, both inwards, or in opposite directions: the least of them."""
    height, width, overlap = 30.0, 50.0, 0.6
    r = gaussian_radius(torch.tensor([[height, width]]), overlap, "corrected").item()
    area = height * width
    inside = (height - 2 * r) * (width - 2 * r) / area
    outside = area / ((height + 2 * r) * (width + 2 * r))
    shared = (height - r) * (width - r)
    moved = shared / (2 * area - shared)
    assert min(inside, outside, moved) == pytest.approx(overlap, abs=1e-6)


def test_gaussians_equal_loops():
    points, channels = torch.tensor([[3, 4], [5, 4], [0, 0]]), torch.tensor([1, 1, 0])
    radii = torch.tensor([2, 1, 0])
    drawn = draw_gaussians((2, 8, 9), points, channels, radii)
    expected = torch.zeros(2, 8, 9)
    for (x, y), channel, radius in zip(
        points.tolist(), channels.tolist(), radii.tolist(), strict=True
    ):
        sigma = (2 * radius + 1) / 6
        for row in range(8):
            for column in range(9):
                dx, dy = column - x, row - y
                if max(abs(dx), abs(dy)) <= radius:
                    value = math.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma))
                    expected[channel, row, column] = max(expected[channel, row, column], value)
    torch.testing.assert_close(drawn, expected)
    assert (drawn == 1).sum() == 3


def test_many_gaussians_are_all_drawn():
    points = torch.cartesian_prod(torch.arange(20), torch.arange(20))
    drawn = draw_gaussians((1, 20, 20), points, torch.zeros(400).long(), torch.zeros(400).long())
    assert (drawn == 1).all()
    nothing = torch.zeros(0, dtype=torch.long)
    assert not draw_gaussians((1, 4, 4), nothing.view(0, 2), nothing, nothing).any()


def test_focal_loss_by_hand():
    logits, heatmap = torch.tensor([0.0, 0.0, 2.0]), torch.tensor([1.0, 0.5, 0.0])
    p = 1 / (1 + math.exp(-2))
    expected = -(0.25 * math.log(0.5) + 0.5**4 * 0.25 * math.log(0.5) + p * p * math.log(1 - p))
    summed, positives = focal_loss(logits, heatmap)
    assert summed.item() == pytest.approx(expected) and positives == 1
    far, _ = focal_loss(torch.tensor([1e4, -1e4]), torch.tensor([0.0, 1.0]))
    assert far.isfinite()


@pytest.mark.parametrize("shape", [(2, 3, 12, 17), (1, 1, 1, 5), (1, 2, 6, 1)])
def test_local_maxima_are_those_of_max_pooling(shape):
    heatmap = torch.rand(shape).mul(8).round() / 8  # with ties
    pooled = F.max_pool2d(heatmap, 3, 1, 1)
    assert torch.equal(keep_local_maxima(heatmap), heatmap * (heatmap == pooled))


def test_peaks_are_the_best_over_all_channels():
    heatmap = torch.zeros(1, 2, 6, 7)
    heatmap[0, 1, 2, 3], heatmap[0, 0, 5, 6], heatmap[0, 1, 2, 4] = 0.9, 0.5, 0.8
    peaks = find_peaks(heatmap, 2)
    assert peaks.scores[0].tolist() == pytest.approx([0.9, 0.5]), "the neighbour is no peak"
    assert [each[0].tolist() for each in peaks[1:]] == [[1, 0], [2, 5], [3, 6]]
    assert find_peaks(heatmap, 1000).scores.shape == (1, 84), "no more than there are cells"


def test_gathered_cells():
    maps = torch.arange(24.0).view(1, 2, 3, 4)
    assert gather_cells(maps, torch.tensor([[0, 5]])).tolist() == [[[0, 12], [5, 17]]]
