from __future__ import annotations

import pytest
import torch

from metaheads.boxes import box_iou
from metaheads.ops.nms import fast_nms, fast_nms_fixed, greedy_nms

# Overlaps of neighbours 0.6, of the first and the third 1/3.
CHAIN = torch.tensor([[0.0, 0.0, 4.0, 1.0], [1.0, 0.0, 5.0, 1.0], [2.0, 0.0, 6.0, 1.0]])
SCORES = torch.tensor([[0.9], [0.8], [0.7]])


def random_boxes(count: int):
    corners = torch.rand(count, 2)
    return torch.cat((corners, corners + torch.rand(count, 2) * 0.5), 1)


def test_suppressed_boxes_suppress_in_fast_nms_only():
    rows, labels, scores = fast_nms(CHAIN, SCORES, 0.5, 200)
    assert (
        rows.tolist() == [0] and labels.tolist() == [0] and scores.tolist() == pytest.approx([0.9])
    )
    assert greedy_nms(CHAIN, SCORES, 0.5, score_threshold=0.05)[0].tolist() == [0, 2]


def test_overlap_at_the_threshold_stays_in_fast_and_goes_in_greedy():
    pair = torch.tensor([[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 1.0, 1.0]])  # IoU exactly 0.5
    assert len(fast_nms(pair, SCORES[:2], 0.5, 200)[0]) == 2
    assert len(greedy_nms(pair, SCORES[:2], 0.5, score_threshold=0.0)[0]) == 1


def test_fast_nms_equals_loops():
    boxes, scores = random_boxes(60), torch.rand(60, 4)
    expected = []
    for label in range(4):
        order = scores[:, label].argsort(descending=True)[:20].tolist()
        for place, row in enumerate(order):
            better = boxes[order[:place]]
            if not place or box_iou(boxes[row][None], better).max() <= 0.4:
                expected.append((scores[row, label].item(), row, label))
    expected.sort(reverse=True)
    rows, labels, kept = fast_nms(boxes, scores, 0.4, 20)
    assert list(zip(kept.tolist(), rows.tolist(), labels.tolist(), strict=True)) == expected


def test_classes_do_not_suppress_each_other_unless_asked():
    boxes = CHAIN[[0, 0]]
    scores = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    rows, labels, _ = fast_nms(boxes, scores, 0.5, 200)
    assert list(zip(rows.tolist(), labels.tolist(), strict=True)) == [(0, 0), (1, 1)]
    rows, labels, kept = fast_nms(boxes, scores, 0.5, 200, cross_class=True)
    assert (rows.tolist(), labels.tolist()) == ([0], [0]) and kept.tolist() == pytest.approx([0.9])


@pytest.mark.parametrize("cross_class", [False, True])
def test_score_threshold_only_drops_what_is_below(cross_class):
    boxes, scores = random_boxes(50), torch.rand(50, 5)
    rows, labels, kept = fast_nms(boxes, scores, 0.5, 200, cross_class=cross_class)
    above = kept > 0.7
    got = fast_nms(boxes, scores, 0.5, 200, cross_class=cross_class, score_threshold=0.7)
    for ours, expected in zip(got, (rows, labels, kept), strict=True):
        assert torch.equal(ours, expected[above])


@pytest.mark.parametrize("cross_class", [False, True])
@pytest.mark.parametrize("num_candidates", [20, 200])
def test_fast_nms_of_fixed_size_keeps_the_same(cross_class, num_candidates):
    boxes = torch.stack([random_boxes(60) for _ in range(3)])
    scores = torch.rand(3, 60, 4)
    scores[1, 5:] = -1.0  # most of this image does not take part
    scores[2] = -1.0
    found = fast_nms_fixed(boxes, scores, 0.4, num_candidates, 50, cross_class=cross_class)
    assert {len(part) for part in found} == {3} and found[0].shape[1] <= 50
    for image in range(3):
        part = scores[image].amax(1) >= 0
        expected = fast_nms(
            boxes[image, part],
            scores[image, part],
            0.4,
            num_candidates,
            cross_class=cross_class,
        )
        filled = found[2][image] >= 0
        assert filled.tolist() == sorted(filled.tolist(), reverse=True)
        assert torch.equal(found[0][image, filled], part.nonzero()[expected[0][:50], 0])
        assert torch.equal(found[1][image, filled], expected[1][:50])
        assert torch.equal(found[2][image, filled], expected[2][:50])
    assert (found[2][1] >= 0).any() and not (found[2][2] >= 0).any()


def test_greedy_nms_equals_loops():
    boxes, scores = random_boxes(60), torch.rand(60, 3)
    expected = []
    for label in range(3):
        kept: list[int] = []
        for row in scores[:, label].argsort(descending=True).tolist():
            if scores[row, label] <= 0.2:
                continue
            if not kept or box_iou(boxes[row][None], boxes[kept]).max() < 0.3:
                kept.append(row)
        expected += [(scores[row, label].item(), row, label) for row in kept]
    expected.sort(reverse=True)
    rows, labels, kept_scores = greedy_nms(boxes, scores, 0.3, score_threshold=0.2)
    assert list(zip(kept_scores.tolist(), rows.tolist(), labels.tolist(), strict=True)) == expected


def test_nothing_in_nothing_out():
    none = torch.zeros(0, 4), torch.zeros(0, 3)
    for kept in (
        fast_nms(*none, 0.5, 200),
        fast_nms(*none, 0.5, 200, cross_class=True),
        greedy_nms(*none, 0.5, score_threshold=0.05),
        greedy_nms(CHAIN, SCORES, 0.5, score_threshold=0.95),
        fast_nms(CHAIN, SCORES, 0.5, 200, score_threshold=0.95),
    ):
        assert [len(part) for part in kept] == [0, 0, 0]
        assert kept[0].dtype == kept[1].dtype == torch.long
