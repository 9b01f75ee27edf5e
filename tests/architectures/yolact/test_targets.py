from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metaheads.architectures.yolact.targets import (
    Assignment,
    _own_priors,
    assign_priors,
    make_priors,
    usable,
)

from .examples import OBJECTS, TINY, make_core, make_features, make_targets


class TestPriors:
    def test_by_hand(self):
        priors = make_priors([(1, 2)], ((20.0, 40.0),), (1.0, 4.0), 100, use_square_anchors=False)
        torch.testing.assert_close(
            priors,
            torch.tensor(
                [
                    *([0.25, 0.5, 0.2, 0.2], [0.25, 0.5, 0.4, 0.1]),
                    *([0.25, 0.5, 0.4, 0.4], [0.25, 0.5, 0.8, 0.2]),
                    *([0.75, 0.5, 0.2, 0.2], [0.75, 0.5, 0.4, 0.1]),
                    *([0.75, 0.5, 0.4, 0.4], [0.75, 0.5, 0.8, 0.2]),
                ]
            ),
        )

    def test_the_authors_square_anchors(self):
        priors = make_priors([(1, 1)], ((20.0,),), (1.0, 0.25), 100, use_square_anchors=True)
        assert priors[:, 2:].tolist() == [[pytest.approx(0.2)] * 2, [pytest.approx(0.1)] * 2]

    def test_kept_for_the_next_batch_but_not_in_the_checkpoint(self):
        core = make_core()
        keys = set(core.state_dict())
        assert core(make_features()).priors is core(make_features()).priors
        assert core(make_features(size=(64, 64))).priors.shape != core(make_features()).priors.shape
        assert set(core.state_dict()) == keys


def brute_force_owners(overlaps: Tensor) -> Tensor:
    """G times the largest pair left, of equal ones the first object, then the first prior."""
    overlaps = overlaps.clone()
    owner = torch.full((len(overlaps),), -1)
    for _ in range(min(overlaps.shape)):
        row = int(overlaps.amax(1).argmax())
        column = int(overlaps[row].argmax())
        owner[row] = column
        overlaps[row] = -1
        overlaps[:, column] = -1
    return owner


class TestAssignment:
    @pytest.mark.parametrize("levels", [2, 3, 5, 1000])
    @pytest.mark.parametrize(("objects", "priors"), [(1, 1), (4, 9), (9, 4), (12, 12), (30, 200)])
    def test_own_priors_equal_brute_force(self, levels, objects, priors):
        """Few levels make ties; more objects than priors leave some without."""
        for _ in range(20):
            overlaps = torch.randint(levels, (objects, priors)) / levels
            if objects > 3:
                overlaps[1] = overlaps[3]  # duplicated object
            assert torch.equal(_own_priors(overlaps), brute_force_owners(overlaps))

    def assign(self, priors, boxes, labels=None, crowds=()) -> Assignment:
        return assign_priors(
            torch.tensor(priors),
            torch.tensor(boxes).view(-1, 4),
            torch.tensor(labels if labels is not None else range(len(boxes)), dtype=torch.long),
            torch.tensor(crowds).view(-1, 4),
            positive_iou=0.5,
            negative_iou=0.4,
            crowd_iou=0.7,
        )

    # Three priors side by side, each [x, 0.5, 0.2, 1.0].
    PRIORS = [[0.1, 0.5, 0.2, 1.0], [0.3, 0.5, 0.2, 1.0], [0.5, 0.5, 0.2, 1.0]]

    def test_thresholds_by_hand(self):
        boxes = [[0.0, 0.0, 0.2, 0.3], [0.2, 0.0, 0.4, 0.45], [0.2, 0.0, 0.4, 0.46]]
        found = self.assign(self.PRIORS, boxes[:1], [5])
        assert found.classes.tolist() == [6, 0, 0], "below all thresholds, yet it has a prior"
        found = self.assign(self.PRIORS, [[0.2, 0.0, 0.4, 0.9], boxes[1]], [1, 2])
        # The better object takes its prior; the other one gets one that it does not touch.
        assert found.classes.tolist()[1] == 2
        assert sorted(found.classes.tolist()) == [0, 2, 3]

    def test_between_the_thresholds_is_neutral(self):
        priors = [[0.1, 0.5, 0.2, 1.0], [0.1, 0.5, 0.2, 0.9]]
        box = [[0.0, 0.0, 0.2, 1.0]]
        assert self.assign(priors, box).classes.tolist() == [1, 1]
        half = [[0.1, 0.5, 0.2, 1.0], [0.1, 0.225, 0.2, 0.45]]
        assert self.assign(half, box).classes.tolist() == [1, -1]
        third = [[0.1, 0.5, 0.2, 1.0], [0.1, 0.15, 0.2, 0.3]]
        assert self.assign(third, box).classes.tolist() == [1, 0]

    def test_box_targets_by_hand(self):
        found = self.assign([[0.1, 0.5, 0.2, 1.0]], [[0.02, 0.0, 0.22, 1.0]])
        torch.testing.assert_close(found.box_targets, torch.tensor([[1.0, 0.0, 0.0, 0.0]]))

    def test_crowds_make_negatives_neutral_and_leave_positives(self):
        crowd = [[0.0, 0.0, 0.35, 1.0]]  # all of the first prior, 75 % of the second
        assert self.assign(self.PRIORS, [], [], crowd).classes.tolist() == [-1, -1, 0]
        found = self.assign(self.PRIORS, [[0.2, 0.0, 0.4, 1.0]], [4], crowd)
        assert found.classes.tolist() == [-1, 5, 0]
        smaller = [[0.0, 0.0, 0.33, 1.0]]  # 65 % of the second
        assert self.assign(self.PRIORS, [], [], smaller).classes.tolist() == [-1, 0, 0]

    def test_more_objects_than_priors(self):
        found = self.assign(self.PRIORS[:1], [[0.0, 0.0, 0.2, 1.0]] * 3)
        assert found.classes.tolist() == [1]

    def test_usable_objects(self):
        targets = make_targets([*OBJECTS, *TINY], [True] + [False] * 7)
        # 1: whole; 3: one pixel exactly; 6: its visible part is 10 x 28.
        assert usable(targets, 1.0).nonzero()[:, 0].tolist() == [1, 3, 6]
        assert usable(targets, 0.0).nonzero()[:, 0].tolist() == [1, 3, 4, 6]
        assert usable(targets, 1.5).nonzero()[:, 0].tolist() == [1, 6]
