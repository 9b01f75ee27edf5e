from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from metaheads.architectures import SemanticSegmenter
from metaheads.architectures.semantic import FCNHead, SemanticOutputs
from metaheads.structures import Geometry, Targets
from metaheads.weights import load_into

CLASSES = 5
both_heads = pytest.mark.parametrize("head", ["fcn", "deformable"])


def make_core(head: str = "fcn", **options) -> SemanticSegmenter:
    torch.manual_seed(0)
    options = {"num_classes": CLASSES, "head_widths": (8, 8), **options}
    return SemanticSegmenter([8, 8, 8], [4, 8, 16], head=head, **options)


def make_features(height: int, width: int, batch: int = 2) -> list[torch.Tensor]:
    return [torch.randn(batch, 8, -(-height // s), -(-width // s)) for s in (4, 8, 16)]


def make_targets(labels: torch.Tensor) -> list[Targets]:
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.bool)
    return [Targets(tuple(each.shape), *nothing, semantic=each) for each in labels]


def test_fcn_is_the_sum_of_bilinearly_upsampled_scores():
    """Away from the border, where a transposed convolution sees zeros instead of an edge."""
    head = FCNHead([4, 6, 8], CLASSES)
    features = [torch.randn(2, c, 32 >> i, 48 >> i) for i, c in enumerate((4, 6, 8))]
    expected = head.scores[2](features[2])
    for level in (1, 0):
        expected = F.interpolate(expected, scale_factor=2, mode="bilinear", align_corners=False)
        expected = expected + head.scores[level](features[level])
    inside = (..., slice(6, -6), slice(6, -6))
    assert_close(head(features)[inside], expected[inside])


def test_fcn_numbers_by_hand():
    head = FCNHead([1, 1], 1)
    for score, weight in zip(head.scores, (2.0, 3.0), strict=True):
        torch.nn.init.constant_(score.weight, weight)
    coarse = torch.tensor([[0.0, 1.0], [0.0, 1.0]])[None, None]
    found = head([torch.ones(1, 1, 4, 4), coarse])
    # Rows in the middle: 2 + 3 x (0, 1/4, 3/4, 3/4), as beyond the edge there is zero.
    assert_close(found[0, 0, 1], torch.tensor([2.0, 2.75, 4.25, 4.25]))


def test_fcn_upsampling_is_learned():
    head = FCNHead([4, 6], CLASSES)
    head([torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)]).square().sum().backward()
    assert head.upsamplings[0].weight.grad.abs().sum() > 0


@both_heads
@pytest.mark.parametrize("size", [(64, 96), (61, 90)])
def test_shapes_and_losses(head, size):
    core, labels = make_core(head, semantic_weight=2.0), torch.randint(0, CLASSES, (2, *size))
    labels[:, :7] = 255
    outputs = core(make_features(*size))
    assert outputs.semantic.shape == (2, CLASSES, -(-size[0] // 4), -(-size[1] // 4))
    losses = core.losses(outputs, make_targets(labels))
    full = F.interpolate(outputs.semantic, scale_factor=4, mode="bilinear", align_corners=False)[
        ..., : size[0], : size[1]
    ]
    expected = F.cross_entropy(full, labels, ignore_index=255)
    assert losses.keys() == {"loss_semantic"}
    assert_close(losses["loss_semantic"], 2 * expected)


@both_heads
def test_nothing_known_is_no_loss_and_keeps_gradients(head):
    core = make_core(head)
    outputs = core(make_features(32, 32))
    (loss,) = core.losses(outputs, make_targets(torch.full((2, 32, 32), 255))).values()
    loss.backward()
    assert loss == 0
    for name, parameter in core.named_parameters():
        assert parameter.grad is not None and not parameter.grad.any(), name


@both_heads
def test_a_few_steps_learn(head):
    core, features = make_core(head), make_features(32, 48)
    labels = torch.arange(2 * 2 * 3).view(2, 2, 3).remainder(CLASSES)
    labels = labels.repeat_interleave(16, 1).repeat_interleave(16, 2)
    optimizer = torch.optim.Adam(core.parameters(), lr=0.02)
    values = []
    for _ in range(60):
        (loss,) = core.losses(core(features), make_targets(labels)).values()
        values.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert values[-1] < 0.3 * values[0]
    found = core.decode(core(features), [Geometry.from_resize((32, 48), (32, 48))] * 2)
    assert (torch.stack(found) == labels).float().mean() > 0.9


def test_decode_leaves_the_padding_out_and_stretches_logits():
    core, semantic = make_core(), torch.randn(2, CLASSES, 8, 8)
    geometries = [
        Geometry.from_resize((32, 32), (32, 32)),
        Geometry.from_resize((20, 30), (45, 50)),
    ]
    full = F.interpolate(semantic, scale_factor=4, mode="bilinear", align_corners=False)
    other = F.interpolate(full[1:, :, :20, :30], (45, 50), mode="bilinear", align_corners=False)
    outputs = SemanticOutputs(semantic)
    for scores, expected in zip(
        core.decode_scores(outputs, geometries), (full, other), strict=True
    ):
        assert_close(scores, expected[0])
    found = core.decode(outputs, geometries)
    assert torch.equal(found[0], full[0].argmax(0)) and torch.equal(found[1], other[0].argmax(0))
    assert found[1].dtype == torch.int64


def test_a_warped_view_is_refused():
    view = Geometry((32, 32), (40, 40), ((1.0, 0.0, 4.0), (0.0, 1.0, 4.0)))
    with pytest.raises(ValueError, match="stretched"):
        make_core().decode(SemanticOutputs(torch.randn(1, CLASSES, 8, 8)), [view])


@both_heads
def test_another_number_of_classes_takes_the_other_layers(head):
    class Model(torch.nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.backbone = torch.nn.Conv2d(3, 8, 1)
            self.core = make_core(head, num_classes=num_classes)

    before, after = Model(CLASSES), Model(3)
    with pytest.raises(ValueError, match="the checkpoint has 5 classes, the model 3 classes"):
        load_into(after, before.state_dict())
    coverage = load_into(after, before.state_dict(), reinitialise_classes=True)
    assert set(coverage.reshaped) == {k for k in after.state_dict() if "score" in k or "ups" in k}
    assert_close(after.backbone.weight, before.backbone.weight)


def test_bad_options_and_bad_data():
    for options in ({"head": "fnc"}, {"num_classes": 0}, {"num_classes": 256}):
        with pytest.raises(ValueError, match="head must be|num_classes must be"):
            make_core(**options)
    with pytest.raises(ValueError, match="twice the one before"):
        SemanticSegmenter([8, 8], [4, 16])
    with pytest.raises(ValueError, match="one width"):
        SemanticSegmenter([8, 16], [4, 8], head="deformable")
    core = make_core()
    outputs = core(make_features(32, 32, batch=1))
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[0, 3, 3] = CLASSES
    with pytest.raises(ValueError, match="label 5, the model has num_classes=5"):
        core.losses(outputs, make_targets(labels))
    (target,) = make_targets(labels)
    target.semantic = None
    with pytest.raises(ValueError, match="semantic ground truth"):
        core.losses(outputs, [target])
