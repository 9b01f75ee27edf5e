from __future__ import annotations

import torch
from torch import Tensor

from metaheads.architectures.retinaface import targets as targets_module
from metaheads.architectures.retinaface.targets import (
    Assignment,
    assign_priors,
    decode_points,
    encode_points,
    make_priors,
    usable,
)
from metaheads.boxes import box_iof, to_cxcywh

from .examples import make_targets

NOBODY = torch.zeros(0, 4)


def assign(
    priors: Tensor, boxes: list[list[float]], crowds: Tensor = NOBODY, **options
) -> Assignment:
    """Priors given as corners."""
    options = {
        "positive_iou": 0.35,
        "negative_iou": 0.35,
        "best_prior_iou": 0.2,
        "crowd_iof": 0.35,
        **options,
    }
    corners = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    labels = torch.arange(len(corners))
    return assign_priors(to_cxcywh(priors), corners, labels, crowds, **options)


def test_priors_by_hand():
    priors = make_priors((17, 30), (8, 16), ((16, 32), (64,)))
    assert priors.shape == (2 * 3 * 4 + 2 * 2, 4)
    assert priors[0].tolist() == [4, 4, 16, 16] and priors[1].tolist() == [4, 4, 32, 32]
    assert priors[2].tolist() == [12, 4, 16, 16] and priors[8].tolist() == [4, 12, 16, 16]
    assert priors[-1].tolist() == [24, 24, 64, 64]
    assert make_priors((640, 640), (8, 16, 32), ((16, 32), (64, 128), (256, 512))).shape[0] == 16800


def test_priors_are_kept():
    arguments = ((40, 40), (8,), ((16,),))
    with torch.inference_mode():
        first = make_priors(*arguments)
    assert make_priors(*arguments) is first and not first.is_inference()


def test_priors_of_few_sizes_are_kept():
    """Test images of a data set have any size; a video has one, at several scales a few."""
    first = make_priors((32, 32), (8,), ((16,),))
    for side in (40, 48, 56):
        make_priors((side, side), (8,), ((16,),))
    assert make_priors((32, 32), (8,), ((16,),)) is first
    for side in range(64, 264, 8):
        make_priors((side, side), (8,), ((16,),))
    assert make_priors.cache_info().currsize == 4
    assert make_priors((32, 32), (8,), ((16,),)) is not first


def test_the_best_object_the_band_between_and_the_forced_prior():
    priors = torch.tensor(
        [[0.0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 4], [0, 0, 10, 2], [50, 50, 60, 53]]
    )
    found = assign(priors, [[0, 0, 10, 10], [50, 50, 60, 60]], positive_iou=0.7, negative_iou=0.3)
    # Overlaps with the first: 1, .6, .4, .2; the last prior is the best of the second, at .3.
    assert found.classes.tolist() == [1, -1, -1, 0, 2]
    assert found.matched[[0, 4]].tolist() == [0, 1]
    found = assign(priors, [[0, 0, 10, 10], [50, 50, 60, 60]], best_prior_iou=0.31)
    assert found.classes.tolist() == [1, 1, 1, 0, 0]


def test_a_hard_face_takes_no_prior_from_another():
    priors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    boxes = [[0.0, 0, 10, 10], [9, 9, 11, 11]]  # the second overlaps the first prior by 1/103
    assert assign(priors, boxes).matched[0] == 0
    theirs = assign(priors, boxes, is_compatible=True)
    assert theirs.matched[0] == 1 and theirs.classes[0] > 0


def test_of_two_faces_with_one_best_prior_the_later_gets_it():
    priors = torch.tensor([[0.0, 0, 10, 10]])
    assert assign(priors, [[0, 0, 10, 9], [0, 0, 10, 8]]).matched.tolist() == [1]


def test_many_faces_are_compared_in_parts(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(30, 2, generator=generator) * 80
    boxes = torch.cat((low, low + 5 + torch.rand(30, 2, generator=generator) * 20), 1).tolist()
    priors = make_priors((96, 96), (8, 16), ((8, 12), (16, 24)))
    corners = torch.cat((priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2), 1)
    at_once = assign(corners, boxes)
    assert (at_once.classes > 0).sum() > 30
    monkeypatch.setattr(targets_module, "MAX_PAIRS", 4 * len(priors))
    for ours, theirs in zip(assign(corners, boxes), at_once, strict=True):
        assert torch.equal(ours, theirs)


def test_many_crowds_are_compared_in_parts(monkeypatch):
    priors = make_priors((96, 96), (8, 16), ((8, 12), (16, 24)))
    corners = torch.cat((priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2), 1)
    crowds = torch.tensor([[4.0 * n, 3.0 * n, 4.0 * n + 9, 3.0 * n + 9] for n in range(20)])
    at_once = assign(corners, [], crowds).classes
    assert 20 < (at_once == -1).sum() < 200
    pairs = []

    def count_pairs(boxes, others):
        pairs.append(len(boxes) * len(others))
        return box_iof(boxes, others)

    monkeypatch.setattr(targets_module, "MAX_PAIRS", 3 * len(priors))
    monkeypatch.setattr(targets_module, "box_iof", count_pairs)
    assert torch.equal(assign(corners, [], crowds).classes, at_once)
    assert len(pairs) == 7 and max(pairs) == 3 * len(priors)


def test_crowds_are_no_background():
    priors = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [8, 0, 18, 10], [30, 0, 40, 10]])
    crowd = torch.tensor([[0.0, 0, 10, 10]])
    assert assign(priors, [], crowd).classes.tolist() == [-1, -1, 0, 0]
    assert assign(priors, [[0, 0, 10, 10]], crowd).classes.tolist() == [1, -1, 0, 0]


def test_nothing_without_area_trains():
    targets = make_targets(
        [[1, 1, 9, 9], [3, 3, 3, 9], [2, 2, 3, 3], [5, 5, 20, 20]], is_crowd=[False] * 3 + [True]
    )
    assert usable(targets).tolist() == [True, False, True, False]


def test_the_code_of_points_there_and_back():
    priors = torch.tensor([[10.0, 20, 4, 16]])
    points = torch.tensor([[[12.0, 12, 4], [10, 20, 0]]])
    code = encode_points(points, priors, 0.1)
    torch.testing.assert_close(code, torch.tensor([[[5.0, -5, 5], [0, 0, 0]]]))
    torch.testing.assert_close(decode_points(code, priors, 0.1), points)
    flat = encode_points(points[..., :2], priors, 0.1)
    torch.testing.assert_close(flat, code[..., :2])
