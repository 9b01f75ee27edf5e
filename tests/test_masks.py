from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from metaheads.masks import crop_masks, paste_masks
from metaheads.structures import Geometry


def paste_whole(masks, input_size, original_size, threshold=0.5):
    geometry = Geometry.from_resize(input_size, original_size)
    frames = torch.tensor([[0.0, 0.0, input_size[1], input_size[0]]]).expand(len(masks), 4)
    return paste_masks(masks, frames, geometry, threshold)


def assert_equal_but_for_rounding(pasted, probabilities, threshold=0.5):
    """Where the interpolated value is the threshold to the last digits, both answers are right."""
    wrong = (pasted != (probabilities > threshold)) & ((probabilities - threshold).abs() > 1e-5)
    assert pasted.dtype == torch.bool
    assert not wrong.any(), f"{wrong.sum()} pixels differ"


def tricky_masks(height, width):
    """Empty, full, at the threshold, single cells in the corners and inside, lines, dots."""
    masks = torch.zeros(9, height, width)
    masks[1] = 1
    masks[2] = 0.5
    masks[3, 0, 0] = 1
    masks[4, -1, -1] = 1
    masks[5, height // 2, width // 2] = 1
    masks[6, height // 2] = 1
    masks[7, :, 0] = masks[7, :, -1] = 1
    masks[8, ::2, ::2] = 1
    return masks


@pytest.mark.parametrize("original_size", [(30, 40), (8, 8), (3, 5), (1, 1), (231, 17), (64, 400)])
@pytest.mark.parametrize("cells", [(8, 8), (1, 1), (5, 13)])
def test_paste_equals_resizing_the_whole_mask(cells, original_size):
    masks = torch.cat((torch.rand(12, *cells), tricky_masks(*cells)))
    expected = F.interpolate(masks[:, None], original_size, mode="bilinear")[:, 0]
    assert_equal_but_for_rounding(paste_whole(masks, (160, 130), original_size), expected)


@pytest.mark.parametrize("threshold", [0.1, 0.9])
def test_paste_with_other_thresholds(threshold):
    masks = torch.rand(5, 9, 9)
    expected = F.interpolate(masks[:, None], (31, 47), mode="bilinear")[:, 0]
    assert_equal_but_for_rounding(
        paste_whole(masks, (9, 9), (31, 47), threshold), expected, threshold
    )


def test_paste_by_hand():
    # Four pixels over two cells: centres at -0.25 (clamped), 0.25, 0.75, 1.25 (clamped).
    pasted = paste_whole(torch.tensor([[[1.0, 0.0]]]), (2, 4), (2, 4))
    assert pasted.int().tolist() == [[[1, 1, 0, 0], [1, 1, 0, 0]]]


def test_paste_into_frames_on_whole_pixels():
    """The mask of a region, resized to its box; nothing outside of it."""
    masks = torch.cat((torch.rand(3, 7, 7), tricky_masks(7, 7)))
    geometry = Geometry.from_resize((40, 40), (80, 120))
    frames = torch.tensor([[5.0, 10.0, 25.0, 20.0]]).expand(len(masks), 4)
    expected = torch.zeros(len(masks), 80, 120)
    resized = F.interpolate(masks[:, None], (20, 60), mode="bilinear")[:, 0]
    expected[:, 20:40, 15:75] = resized
    assert_equal_but_for_rounding(paste_masks(masks, frames, geometry), expected)


def test_paste_into_frames_anywhere():
    """Fractional frames, some partly or wholly outside, against sampling at pixel centres."""
    masks = torch.rand(40, 6, 5)
    corners = torch.rand(40, 2) * 80 - 30
    frames = torch.cat((corners, corners + torch.rand(40, 2) * 60 + 0.01), 1)
    geometry = Geometry((50, 50), (45, 60), ((1.5, 0.0, -4.0), (0.0, 0.8, 3.0)))
    pasted = paste_masks(masks, frames, geometry)
    x = (torch.arange(60) + 0.5 + 4.0) / 1.5
    y = (torch.arange(45) + 0.5 - 3.0) / 0.8
    for mask, (x1, y1, x2, y2), result in zip(masks, frames.tolist(), pasted, strict=True):
        at_x, at_y = (x - x1) / (x2 - x1), (y - y1) / (y2 - y1)
        grid = torch.stack((at_x.expand(45, 60), at_y[:, None].expand(45, 60)), -1) * 2 - 1
        expected = F.grid_sample(
            mask[None, None], grid[None], padding_mode="border", align_corners=False
        )[0, 0]
        inside = ((at_x >= 0) & (at_x <= 1)) & ((at_y >= 0) & (at_y <= 1))[:, None]
        edge = ((at_x.abs() < 1e-5) | ((at_x - 1).abs() < 1e-5)) | (
            (at_y.abs() < 1e-5) | ((at_y - 1).abs() < 1e-5)
        )[:, None]
        assert_equal_but_for_rounding(result & ~edge, expected * (inside & ~edge))


def test_paste_of_nothing():
    geometry = Geometry.from_resize((10, 10), (20, 30))
    assert paste_masks(torch.zeros(0, 4, 4), torch.zeros(0, 4), geometry).shape == (0, 20, 30)
    frames = torch.tensor([[3.0, 3.0, 3.0, 8.0], [8.0, 3.0, 2.0, 8.0], [40.0, 40.0, 50.0, 50.0]])
    assert not paste_masks(torch.ones(3, 4, 4), frames, geometry).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.bool])
def test_paste_of_other_types(dtype):
    masks = (torch.rand(3, 4, 4) > 0.5).to(dtype)
    expected = F.interpolate(masks[:, None].float(), (9, 9), mode="bilinear")[:, 0]
    assert_equal_but_for_rounding(paste_whole(masks, (8, 8), (9, 9)), expected)


@pytest.mark.parametrize("matrix", [((1, 0.1, 0), (0, 1, 0)), ((-1, 0, 9), (0, 1, 0))])
def test_paste_refuses_rotation_and_mirror(matrix):
    with pytest.raises(ValueError, match="upright"):
        paste_masks(torch.rand(1, 2, 2), torch.zeros(1, 4), Geometry((9, 9), (9, 9), matrix))


def test_crop_by_hand():
    # Box from cell 2 to 4 of 8, padded by one: 1 <= column < 5; rows 0.8 - 1 < 0 to 1.2 + 1 = 2.2.
    box = torch.tensor([[0.25, 0.1, 0.5, 0.15]])
    cropped = crop_masks(torch.ones(1, 8, 8), box)[0]
    assert cropped.any(0).int().tolist() == [0, 1, 1, 1, 1, 0, 0, 0]
    assert cropped.any(1).int().tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert cropped.sum() == 12


def test_crop_sorts_corners_and_keeps_borders():
    masks = torch.rand(2, 6, 9)
    boxes = torch.tensor([[0.2, 0.3, 0.7, 0.8], [-3.0, -3.0, 4.0, 5.0]])
    assert torch.equal(crop_masks(masks, boxes[:, [2, 3, 0, 1]]), crop_masks(masks, boxes))
    assert torch.equal(crop_masks(masks, boxes)[1], masks[1])
    assert crop_masks(torch.zeros(0, 4, 4), torch.zeros(0, 4)).shape == (0, 4, 4)
