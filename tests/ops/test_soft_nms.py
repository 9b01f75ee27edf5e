from __future__ import annotations

import math

import pytest
import torch

from metaheads.ops.soft_nms import soft_nms, soft_nms_fixed

# The second overlaps the first by 0.6, the third stands alone.
BOXES = torch.tensor([[0.0, 0.0, 4.0, 1.0], [1.0, 0.0, 5.0, 1.0], [20.0, 0.0, 24.0, 1.0]])
SCORES = torch.tensor([0.9, 0.8, 0.7])


@pytest.mark.parametrize(
    ("method", "factor"), [("gaussian", math.exp(-0.72)), ("linear", 0.4), ("hard", 0.0)]
)
def test_overlapped_boxes_lose_score(method, factor):
    kept = soft_nms(BOXES, SCORES, method=method)
    expected = sorted([(0.9, 0), (0.7, 2), (0.8 * factor, 1)][: 2 if factor == 0 else 3])[::-1]
    assert kept.rows.tolist() == [row for _, row in expected]
    assert kept.scores.tolist() == pytest.approx([score for score, _ in expected])
    assert torch.equal(kept.boxes, BOXES[kept.rows])


def test_alone_a_box_keeps_even_a_low_score():
    kept = soft_nms(BOXES[[0, 2]], torch.tensor([0.9, 1e-5]))
    assert kept.scores.tolist() == pytest.approx([0.9, 1e-5])


def test_the_authors_leave_copies_behind():
    scores = torch.tensor([0.9, 0.001, 0.7])
    ours = soft_nms(BOXES, scores, method="gaussian")
    theirs = soft_nms(BOXES, scores, method="gaussian", is_compatible=True)
    assert ours.rows.tolist() == [0, 2]
    assert theirs.rows.tolist() == [0, 2, 1] or theirs.rows.tolist() == [0, 2, 2]


def test_votes_draw_a_box_to_those_it_overlaps():
    """With exponent 1 and a hard NMS every overlapped box votes in full."""
    votes = torch.tensor([[1.0, 1.0], [1.0, 3.0], [1.0, 1.0]])
    kept = soft_nms(BOXES, SCORES, method="hard", votes=votes, vote_exponent=1)
    assert kept.boxes[0].tolist() == pytest.approx([0.5, 0.0, (4 + 3 * 5) / 4, 1.0])
    assert torch.equal(kept.boxes[1], BOXES[2])


def test_nothing_in_nothing_out():
    kept = soft_nms(torch.zeros(0, 4), torch.zeros(0))
    assert len(kept.rows) == len(kept.boxes) == len(kept.scores) == 0
    with pytest.raises(ValueError, match="method must be one of"):
        soft_nms(BOXES, SCORES, method="gauss")


@pytest.mark.parametrize("method", ["gaussian", "linear", "hard"])
def test_the_form_for_graphs_finds_the_same(method):
    generator = torch.Generator().manual_seed(3)
    corners = torch.rand(2, 60, 2, generator=generator) * 20
    boxes = torch.cat((corners, corners + torch.rand(2, 60, 2, generator=generator) * 20), 2)
    scores = torch.rand(2, 60, generator=generator)
    scores[:, 50:] = -1  # none
    labels = torch.randint(0, 3, (2, 60), generator=generator)
    rows, found = soft_nms_fixed(boxes, scores, labels, 55, method=method)
    assert rows.shape == found.shape == (2, 55)
    for image in range(2):
        expected = []
        for label in range(3):
            of_class = ((labels[image] == label) & (scores[image] >= 0)).nonzero()[:, 0]
            kept = soft_nms(boxes[image, of_class], scores[image, of_class], method=method)
            expected += list(zip(kept.scores.tolist(), of_class[kept.rows].tolist(), strict=True))
        expected.sort(reverse=True)
        filled = found[image] >= 0
        assert rows[image, filled].tolist() == [row for _, row in expected]
        assert found[image, filled].tolist() == pytest.approx([score for score, _ in expected])
        assert len(expected) < 50 or method != "hard"
