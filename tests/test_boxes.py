from __future__ import annotations

import math

import pytest
import torch

from metaheads.boxes import (
    box_area,
    box_iof,
    box_iou,
    decode_boxes,
    encode_boxes,
    intersection_area,
    to_cxcywh,
    to_xyxy,
)

SQUARE = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
OTHERS = torch.tensor([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 1.0], [2.0, 0.0, 4.0, 2.0]])


def test_forms():
    assert to_cxcywh(torch.tensor([[1.0, 2.0, 5.0, 10.0]])).tolist() == [[3, 6, 4, 8]]
    assert to_xyxy(torch.tensor([[3.0, 6.0, 4.0, 8.0]])).tolist() == [[1, 2, 5, 10]]


def test_overlaps_by_hand():
    assert box_area(OTHERS).tolist() == [4, 2, 4]
    assert intersection_area(SQUARE, OTHERS).tolist() == [[1, 2, 0]]
    torch.testing.assert_close(box_iou(SQUARE, OTHERS), torch.tensor([[1 / 7, 0.5, 0.0]]))
    torch.testing.assert_close(box_iof(OTHERS, SQUARE), torch.tensor([[0.25], [1.0], [0.0]]))


def test_overlaps_of_batches():
    boxes, others = (
        torch.rand(3, 4, 2, 2).cumsum(2).flatten(2),
        torch.rand(3, 5, 2, 2).cumsum(2).flatten(2),
    )
    expected = torch.stack([box_iou(a, b) for a, b in zip(boxes, others, strict=True)])
    assert torch.equal(box_iou(boxes, others), expected)


def test_empty_boxes_overlap_nothing():
    point = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    assert box_iou(point, point).tolist() == [[0]]
    assert box_iof(point, SQUARE).tolist() == [[0]]
    assert box_iou(torch.zeros(0, 4), SQUARE).shape == (0, 1)


def test_ssd_code_by_hand():
    prior = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    box = to_xyxy(torch.tensor([[0.6, 0.5, 0.2 * math.e, 0.4]]))
    code = encode_boxes(box, prior, (0.1, 0.2))
    torch.testing.assert_close(code, torch.tensor([[5.0, 0.0, 5.0, 0.0]]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("variances", [(0.1, 0.2), (1.0, 1.0)])
def test_ssd_code_goes_round(variances):
    boxes = to_xyxy(torch.rand(50, 4) + 0.1)
    priors = torch.rand(50, 4) + 0.1
    again = decode_boxes(encode_boxes(boxes, priors, variances), priors, variances)
    torch.testing.assert_close(again, boxes)
