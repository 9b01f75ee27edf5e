from __future__ import annotations

import torch

from metaheads.losses import hard_examples


def test_hard_examples_by_hand():
    # Hardness logsumexp - background: log(1 + e^x) for foreground x and background 0.
    logits = torch.zeros(2, 6, 2)
    logits[0, :, 1] = torch.tensor([0.0, 5.0, 1.0, 2.0, 3.0, 4.0])
    logits[1, :, 1] = torch.tensor([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    classes = torch.tensor([[1, -1, 0, 0, 0, 0], [-1, 0, 0, 0, 0, 0]])
    chosen = hard_examples(logits, classes, 3)
    assert chosen[0].int().tolist() == [1, 0, 0, 1, 1, 1]
    assert chosen[1].int().tolist() == [0, 1, 1, 1, 0, 0], "no object counts as one"
    assert not hard_examples(logits, classes, 3, min_positives=0)[1].any()


def test_hard_examples_equal_loops():
    logits, classes = torch.randn(3, 40, 5), torch.randint(-1, 3, (3, 40))
    classes[2] = classes[2].clamp(max=0)
    for image, got in enumerate(hard_examples(logits, classes, 2)):
        probabilities = logits[image].softmax(1)
        negatives = (classes[image] == 0).nonzero()[:, 0].tolist()
        negatives.sort(key=lambda p: probabilities[p, 0].item())
        positives = (classes[image] > 0).nonzero()[:, 0].tolist()
        expected = sorted(positives + negatives[: 2 * max(len(positives), 1)])
        assert got.nonzero()[:, 0].tolist() == expected


def test_fewer_negatives_than_wanted():
    classes = torch.tensor([[1, 1, 0, -1]])
    assert hard_examples(torch.zeros(1, 4, 3), classes, 3)[0].tolist() == [True] * 3 + [False]
