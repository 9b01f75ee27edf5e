from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from metaheads.architectures import UPSNet
from metaheads.architectures.upsnet.decode import Decision, clean_up
from metaheads.architectures.upsnet.losses import NOTHING, crop_labels, keep_some, panoptic_target
from metaheads.architectures.upsnet.panoptic_head import (
    UNKNOWN,
    SemanticScores,
    decide,
    panoptic_logits,
    prune,
)
from metaheads.structures import Detections, Geometry, Targets

THINGS, STUFF = 3, 2
TOTAL = THINGS + STUFF


def make_core(**options) -> UPSNet:
    torch.manual_seed(0)
    options = {"num_things": THINGS, "num_stuff": STUFF, "head_widths": (8, 8), **options}
    return UPSNet([8, 8, 8, 8], [4, 8, 16, 32], **options)


def make_features(height: int = 64, width: int = 96, batch: int = 2) -> list[torch.Tensor]:
    return [torch.randn(batch, 8, height // s, width // s) for s in (4, 8, 16, 32)]


def make_scene(seed: int, count: int, size: tuple[int, int]):
    """Semantic scores at stride 4, boxes partly outside of the map, labels, mask logits."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    scores = torch.randn(TOTAL, height // 4, width // 4, generator=generator)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) - 6
    boxes = torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * 40), 1)
    labels = torch.randint(0, THINGS, (count,), generator=generator)
    return scores, boxes, labels, torch.randn(count, 28, 28, generator=generator)


@pytest.mark.parametrize("count", [0, 1, 2, 12])
@pytest.mark.parametrize("use_unknown", [True, False])
@pytest.mark.parametrize("shift", [0.0, -4.0])
def test_piece_by_piece_the_decision_is_the_argmax(count, use_unknown, shift):
    """Also where all is negative, and an instance's zero outside of its box wins."""
    size = (48, 64)
    scores, *parts = make_scene(count, count, size)
    scores = scores + shift
    full = F.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]
    logits = panoptic_logits(full, *parts, STUFF, use_unknown=use_unknown)
    expected = logits.argmax(0)
    if use_unknown:
        expected[expected == STUFF + count] = UNKNOWN
    found = decide(SemanticScores(scores), *parts, STUFF, use_unknown=use_unknown)
    assert torch.equal(found.winners, expected)
    assert torch.equal(found.semantic, full.argmax(0))
    if count == 12 and not shift:
        assert len(found.winners.unique()) > 8


def test_crops_of_scores_are_those_of_the_whole():
    from metaheads.datasets.views import Window

    scores = torch.randn(3, 9, 7)
    full = F.interpolate(scores[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
    for window in (Window(0, 0, 28, 36), Window(5, 3, 6, 4), Window(9, 30, 28, 36)):
        left, top, right, bottom = window
        found = SemanticScores(scores).crop(1, window)
        assert torch.equal(found, full[1, top:bottom, left:right])


def test_covered_instances_of_a_class_are_pruned():
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 9, 9], [20, 20, 29, 29]])
    masks = torch.ones(4, 28, 28)
    masks[3] = -1.0
    assert prune(boxes, torch.tensor([0, 0, 1, 0]), masks, (32, 32), 0.3) == [0, 2]
    assert prune(boxes, torch.tensor([0, 0, 1, 0]), masks, (32, 32), 1.0) == [0, 1, 2]
    assert prune(boxes[:0], torch.zeros(0), masks[:0], (32, 32), 0.3) == []


def test_targets_by_hand():
    labels = torch.tensor([[0, 1, 2, 2, 3, 255]])  # two stuff classes, then things
    masks = torch.zeros(2, 1, 6, dtype=torch.bool)
    masks[0, 0, 2:4] = True
    masks[1, 0, 3] = True
    found = panoptic_target(labels, masks, STUFF, use_unknown=True)
    assert found.tolist() == [[0, 1, 2, 3, 4, NOTHING]], "the later mask lies above"
    found = panoptic_target(labels, masks[:1], STUFF, use_unknown=False)
    assert found.tolist() == [[0, 1, 2, 2, NOTHING, NOTHING]]


def test_some_objects_become_unknown():
    assert [len(keep_some(count, 0.7)) for count in (0, 1, 2, 10)] == [0, 1, 1, 7]
    assert sorted(keep_some(5, 1.0).tolist()) == [0, 1, 2, 3, 4]


def test_labels_of_a_box():
    labels = torch.arange(40).view(5, 8)
    assert crop_labels(labels, [2.0, 1.0, 4.0, 3.0], 2).tolist() == [[10, 11], [18, 19]]
    assert crop_labels(labels, [7.6, 4.7, 7.9, 4.9], 1).tolist() == [[39]], "never empty"


def clean(core, winners, semantic, labels, majority=0.5):
    decision = Decision(torch.tensor(winners), torch.tensor(semantic))
    return clean_up(core, decision, torch.tensor(labels, dtype=torch.long), majority)


def test_instances_that_are_called_stuff_become_stuff():
    core = make_core(stuff_area_limit=0)
    # Two instances of class 1; of the second's four pixels two are called stuff 1.
    found = clean(core, [[2, 2, 3, 3, 3, 3, 0]], [[3, 3, 1, 1, 3, 4, 0]], [1, 1])
    assert found.channels.tolist() == [[3, 3, 1, 1, 1, 1, 0]]
    assert found.numbers.tolist() == [[1, 1, 0, 0, 0, 0, 0]] and found.present == [0, 1]


def test_small_stuff_becomes_void_and_absent_instances_have_no_number():
    core = make_core(stuff_area_limit=2)
    found = clean(core, [[0, 1, 1, 4, 4, UNKNOWN]], [[0, 1, 1, 2, 2, 2]], [0, 0, 0])
    assert found.channels.tolist() == [[-1, 1, 1, 2, 2, -1]]
    assert found.numbers.tolist() == [[0, 0, 0, 1, 1, 0]] and found.present == [2]


def make_target(height: int = 64, width: int = 96, count: int = 2) -> Targets:
    semantic = torch.full((height, width), THINGS + 1)
    semantic[: height // 2] = THINGS
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    boxes = torch.zeros(count, 4)
    for number in range(count):
        x, y = 10 + 30 * number, 8
        masks[number, y : y + 24, x : x + 20] = True
        semantic[masks[number]] = number
        boxes[number] = torch.tensor([x, y, x + 20, y + 24])
    labels, crowd = torch.arange(count), torch.zeros(count, dtype=torch.bool)
    return Targets((height, width), boxes, labels, crowd, masks, semantic=semantic)


@pytest.mark.parametrize("kind", ["objects", "none", "crowds", "void"])
def test_losses_are_finite_and_every_parameter_has_a_gradient(kind):
    core = make_core()
    targets = [make_target(count=0 if kind == "none" else 2) for _ in range(2)]
    for target in targets:
        if kind == "crowds":
            target.is_crowd[:] = True
        if kind == "void":
            target.semantic[:] = 255
    masks = [torch.randn(int((~each.is_crowd).sum()), 28, 28) for each in targets]
    found = core.losses(core(make_features()), targets, masks)
    assert found.keys() == {"loss_semantic", "loss_semantic_roi", "loss_panoptic"}
    total = sum(found.values())
    assert total.isfinite()
    total.backward()
    for name, parameter in core.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_weights_and_missing_ground_truth():
    core = make_core(semantic_roi_weight=0.0, panoptic_weight=0.0)
    outputs = core(make_features())
    masks = [torch.randn(2, 28, 28)] * 2
    assert core.losses(outputs, [make_target()] * 2, masks).keys() == {"loss_semantic"}
    target = make_target()
    target.semantic = None
    with pytest.raises(ValueError, match="semantic ground truth"):
        core.losses(outputs, [target] * 2, masks)


def test_the_mask_head_gets_gradients():
    core, masks = make_core(keep_fraction=1.0), torch.randn(2, 28, 28, requires_grad=True)
    core.losses(core(make_features(batch=1)), [make_target()], [masks])["loss_panoptic"].backward()
    assert (masks.grad.flatten(1).abs().sum(1) > 0).all()


def scene_outputs(core, height: int, width: int):
    """Upper half stuff 0, lower half stuff 1; one sure instance of class 2."""
    outputs = core(make_features(height, width, 1))
    semantic = torch.full_like(outputs.semantic, -5.0)
    rows = semantic.shape[2] // 2
    semantic[:, 0, :rows] = semantic[:, 1, rows:] = 5.0
    semantic[:, STUFF + 2, 2:8, 2:8] = 8.0
    found = Detections(torch.tensor([[8.0, 8, 32, 32]]), torch.tensor([0.9]), torch.tensor([2]))
    return outputs._replace(semantic=semantic), found, torch.full((1, 28, 28), 6.0)


@pytest.mark.parametrize("fusion", ["panoptic", "heuristic"])
def test_decode(fusion):
    core = make_core(stuff_area_limit=16, fusion=fusion).eval()
    outputs, found, masks = scene_outputs(core, 64, 96)
    geometry = Geometry.from_resize((60, 90), (120, 180))
    (result,) = core.decode(outputs, [found], [masks], [geometry])
    assert result.ids.shape == (120, 180) and result.ids.dtype == torch.int32
    assert sorted((each.label, each.is_thing) for each in result.segments) == [
        (2, True),
        (THINGS, False),
        (THINGS + 1, False),
    ]
    (thing,) = (each for each in result.segments if each.is_thing)
    assert thing.score == pytest.approx(0.9)
    inside = (result.ids == thing.id).nonzero()
    assert inside.amin(0).tolist() == [16, 16] and inside.amax(0).tolist() == [63, 63]
    assert set(result.ids.unique().tolist()) - {0} == {each.id for each in result.segments}
    assert not result.is_unknown.any() or fusion == "heuristic"


def test_without_detections_no_instance_is_invented():
    core = make_core(stuff_area_limit=0).eval()
    outputs, found, masks = scene_outputs(core, 64, 96)
    semantic = torch.full_like(outputs.semantic, -5.0)  # everything is negative: a zero would win
    semantic[:, 0], semantic[:, STUFF] = -1.0, -0.5
    geometry = Geometry.from_resize((64, 96), (64, 96))
    nothing = core.decode(outputs._replace(semantic=semantic), [found[:0]], [masks[:0]], [geometry])
    assert not nothing[0].segments and nothing[0].is_unknown.all()
    core.dummy_instance = True
    theirs = core.decode(outputs._replace(semantic=semantic), [found[:0]], [masks[:0]], [geometry])
    assert [each.label for each in theirs[0].segments] == [THINGS + STUFF - 1], "as the authors"


def test_what_no_class_explains_is_unknown():
    core = make_core(stuff_area_limit=0).eval()
    outputs, found, masks = scene_outputs(core, 64, 96)
    geometry = Geometry.from_resize((64, 96), (64, 96))
    (result,) = core.decode(outputs, [found[:0]], [masks[:0]], [geometry])
    assert result.is_unknown[12:28, 12:28].all(), "a thing that nobody detected"
    assert (result.ids[result.is_unknown] == 0).all()
    core.keep_fraction = 1.0
    (result,) = core.decode(outputs, [found[:0]], [masks[:0]], [geometry])
    assert not result.is_unknown.any()


def test_one_nms_for_all_classes():
    core = make_core(score_threshold=0.3)
    boxes = torch.tensor([[0.0, 0, 20, 20], [1, 0, 21, 20], [50, 50, 60, 60]])
    probabilities = torch.tensor([[0.9, 0.05, 0.0], [0.0, 0.8, 0.0], [0.0, 0.3, 0.5]])
    found = core.select(boxes[:, None].expand(-1, THINGS, -1), probabilities, (64, 64))
    assert found.labels.tolist() == [0, 2] and found.scores.tolist() == pytest.approx([0.9, 0.5])
    core.max_detections = 1
    assert len(core.select(boxes[:, None].expand(-1, THINGS, -1), probabilities, (64, 64))) == 1


@pytest.mark.parametrize("inclusive, corner", [(False, 32.0), (True, 31.0)])
def test_detections_are_clipped(inclusive, corner):
    core = make_core(score_threshold=0.3, inclusive_boxes=inclusive)
    boxes = torch.tensor([[40.0, -5, 50, 20]]).expand(1, THINGS, -1)
    found = core.select(boxes, torch.tensor([[0.9, 0.05, 0.0]]), (16, 32))
    assert found.boxes.tolist() == [[corner, 0, 32, 16]]


def test_bad_options():
    with pytest.raises(ValueError, match="strides 4, 8"):
        UPSNet([8, 8], [8, 16])
    with pytest.raises(ValueError, match="fusion"):
        make_core(fusion="x")
    with pytest.raises(ValueError, match="positive"):
        make_core(num_things=0)
    with pytest.raises(ValueError, match="one width"):
        UPSNet([8, 16], [4, 8])
