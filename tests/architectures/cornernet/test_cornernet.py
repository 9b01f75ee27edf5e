from __future__ import annotations

import pytest
import torch
from tests.architectures.centernet_points.test_centernet_points import (
    BOX,
    SCENES,
    SIZE,
    make_target,
)
from torch import Tensor

from metaheads.architectures import CenterNetTriplets, CornerNet
from metaheads.architectures.cornernet import CornerOutputs
from metaheads.architectures.cornernet.decode import Centres, CornerCandidates, Pairs
from metaheads.architectures.cornernet.losses import tag_losses
from metaheads.architectures.cornernet.targets import make_targets
from metaheads.structures import Geometry

BOTH = pytest.mark.parametrize("core_class", [CornerNet, CenterNetTriplets])
OTHER = [60.0, 8.0, 90.0, 30.0]


def make_core(core_class, stacks: int = 1, **options):
    torch.manual_seed(0)
    options = {"num_classes": 3, "pool_channels": 4, "head_channels": 8, **options}
    return core_class([8] * stacks, [4] * stacks, **options)


def make_features(stacks: int = 1, batch: int = 2) -> list[Tensor]:
    return [torch.randn(batch, 8, SIZE[0] // 4, SIZE[1] // 4) for _ in range(stacks)]


@BOTH
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("stacks", [1, 2])
def test_losses_are_finite_and_reach_every_parameter(core_class, scene, stacks):
    core = make_core(core_class, stacks)
    losses = core.losses(core(make_features(stacks)), SCENES[scene])
    assert set(losses) == {"loss_heatmap", "loss_pull", "loss_push", "loss_offset"}
    sum(losses.values()).backward()
    for name, parameter in core.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    has_corners = scene not in ("nothing", "crowd only", "no area")
    assert (losses["loss_offset"] > 0) == has_corners


@BOTH
def test_a_batch_of_one_trains(core_class):
    core = make_core(core_class)
    losses = core.losses(core(make_features(batch=1)), [make_target([BOX])])
    assert all(loss.isfinite() for loss in losses.values())


@BOTH
def test_more_objects_than_the_authors_maximum(core_class):
    boxes = [[x, y, x + 6.0, y + 6.0] for x in range(0, 88, 4) for y in range(0, 56, 4)]
    found = make_targets(make_core(core_class), [make_target(boxes)], (16, 24))
    assert len(boxes) > 256 and len(found.image) == len(boxes)


def test_targets_by_hand():
    found = make_targets(make_core(CenterNetTriplets), [make_target([BOX])], (16, 24))
    # Cells: x 2.5 to 12.5, y 3 to 10; centre (7.5, 6.5).
    assert [cells.tolist() for cells in found.cells] == [[74], [252], [151]]
    assert [each.tolist() for each in found.offsets] == [[[0.5, 0]], [[0.5, 0]], [[0.5, 0.5]]]
    assert [(h[0, 0] == 1).nonzero().tolist()[0] for h in found.heatmaps] == [
        [3, 2],
        [10, 12],
        [6, 7],
    ]


def test_cells_are_no_quarter_of_the_pixels():
    """511 pixels have 128 cells."""
    target = make_target([[0.0, 0.0, 95.0, 63.0]])
    found = make_targets(make_core(CornerNet), [target], (17, 25))
    assert found.cells[1].tolist() == [int(63 * 17 / 64) * 25 + int(95 * 25 / 96)]


def test_tag_losses_by_hand():
    image = torch.tensor([0, 0, 1])
    first, second = torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([[2.0], [3.0], [5.0]])
    pull, push = tag_losses(first, second, image, 2)
    assert pull.item() == pytest.approx(2 * 0.25 / 2.0001)
    # Means 1.5 and 3: far enough apart. The one object of the second image: the constant.
    pair = 2 * (0 - 1 / 2.0001) + 2 * (1 - 1 / 2.0001)
    assert push.item() == pytest.approx(pair / 2.0001 + (1 - 1 / 1.0001) / 1e-4, abs=1e-3)
    near, _ = torch.tensor([[2.0], [2.5]]), None
    _, crowded = tag_losses(near, near, image[:2], 1)
    _, apart = tag_losses(near * 4, near * 4, image[:2], 1)
    assert crowded > apart


def outputs_of(boxes: list, tags: list[float], centres: list | None = None) -> CornerOutputs:
    """Raw outputs in which these boxes' corners, all of class 1, stand out, best first."""
    height, width = SIZE[0] // 4, SIZE[1] // 4
    heat = [torch.full((1, 3, height, width), -9.0) for _ in range(3)]
    offsets = [torch.zeros(1, 2, height, width) for _ in range(3)]
    maps = [torch.zeros(1, 1, height, width) for _ in range(2)]
    for rank, (box, tag) in enumerate(zip(boxes, tags, strict=True)):
        for kind, point in enumerate((box[:2], box[2:])):
            x, y = point[0] / 4, point[1] / 4
            heat[kind][0, 1, int(y), int(x)] = 3.0 - rank
            offsets[kind][0, :, int(y), int(x)] = torch.tensor([x - int(x), y - int(y)])
            maps[kind][0, 0, int(y), int(x)] = tag
    for x, y in centres or []:
        heat[2][0, 1, int(y // 4), int(x // 4)] = 2.0
    extra = (heat[2], offsets[2]) if centres is not None else ()
    return CornerOutputs(heat[0], heat[1], *maps, offsets[0], offsets[1], *extra)


def test_corners_pair_by_tag_class_and_order():
    core = make_core(CornerNet).eval()
    (found,) = core.decode([outputs_of([BOX, OTHER], [1.0, 5.0])], [SIZE])
    torch.testing.assert_close(found.boxes[:2], torch.tensor([BOX, OTHER]))
    assert found.labels[:2].tolist() == [1, 1] and found.scores[0] > 0.9
    assert (found.boxes[:, 2:] >= found.boxes[:, :2]).all()
    core.max_tag_distance = 10.0
    (mixed,) = core.decode([outputs_of([BOX, OTHER], [1.0, 5.0])], [SIZE])
    confident = [(each.scores > 0.5).sum().item() for each in (found, mixed)]
    assert confident == [2, 3], "the first corner of one with the second of the other"


def test_a_pair_needs_a_centre_in_its_middle():
    core = make_core(CenterNetTriplets).eval()
    middle, beside = [(30, 26)], [(14, 16)]
    for centres, count in ((middle, 1), (beside, 0), ([], 0)):
        (found,) = core.decode([outputs_of([BOX], [1.0], centres)], [SIZE])
        confident = found[found.scores > 0.5]
        assert len(confident) == count
    (found,) = core.decode([outputs_of([BOX], [1.0], middle)], [SIZE])
    corner, centre = torch.tensor([3.0, 2.0]).sigmoid().tolist()
    assert found.scores[0].item() == pytest.approx((2 * corner + centre) / 3)


@BOTH
def test_tensors_of_fixed_size_hold_the_same_detections(core_class):
    core = make_core(core_class, max_tag_distance=10.0, num_pairs=50).eval()
    centres = None if core_class is CornerNet else [(30, 26), (70, 40)]
    maps = outputs_of([BOX, OTHER], [1.0, 5.0], centres)
    noise = torch.rand(maps.tl_heatmap.shape, generator=torch.Generator().manual_seed(0))
    maps = maps._replace(tl_heatmap=maps.tl_heatmap + noise, br_heatmap=maps.br_heatmap + noise)
    (ours,) = core.decode([maps], [SIZE])
    fixed = core.decode_fixed([maps], SIZE).of_image(0)
    assert len(ours) == len(fixed) > 0
    assert torch.equal(ours.labels, fixed.labels)
    torch.testing.assert_close(ours.scores, fixed.scores)
    torch.testing.assert_close(ours.boxes, fixed.boxes)


def test_boxes_that_reach_far_out_of_the_image_are_dropped_and_others_clipped():
    """By how many pixels of the view they reach out, not of the image, which is twice as large."""
    core = make_core(CenterNetTriplets, max_outside=5.0)
    boxes = torch.tensor([[-4.0, 2, 20, 20], [-6.0, 2, 20, 20], [2, 2, 54, 20], [2, 2, 56, 20]])
    pairs = Pairs(boxes, torch.ones(4), torch.zeros(4), corner_scores=torch.ones(4, 2))
    centres = Centres(torch.tensor([[-1.0, 10.0]]), torch.ones(1), torch.zeros(1))
    found = CornerCandidates(pairs, centres, core.max_outside)
    found = found.finish(Geometry.from_resize((50, 50), (100, 100)))
    assert found.pairs.boxes.tolist() == [[0, 4, 40, 40], [4, 4, 100, 40]]
    assert found.centres.points.tolist() == [[0, 20]]


def test_several_sizes_move_boxes_towards_those_they_overlap():
    core = make_core(CornerNet)
    box, shifted = torch.tensor([[0.0, 0, 40, 40]]), torch.tensor([[0.0, 0, 44, 40]])
    views = [
        CornerCandidates(
            Pairs(each, torch.tensor([s]), torch.zeros(1), corner_scores=torch.ones(1, 2))
        )
        for each, s in ((box, 0.9), (shifted, 0.8))
    ]
    assert torch.equal(core.merge_views(views[:1]).boxes, box)
    merged = core.merge_views(views)
    assert 40 < merged.boxes[0, 2] < 44 and merged.scores[0].item() == pytest.approx(0.9)


def test_only_centres_of_the_images_own_size_confirm():
    core = make_core(CenterNetTriplets)
    box = torch.tensor([[0.0, 0, 40, 40]])
    pairs = Pairs(box, torch.ones(1), torch.zeros(1), corner_scores=torch.ones(1, 2))
    there, elsewhere = (
        Centres(torch.tensor([point]), torch.ones(1), torch.zeros(1))
        for point in ([20.0, 20.0], [1.0, 1.0])
    )
    views = [CornerCandidates(pairs, each) for each in (there, elsewhere)]
    assert len(core.merge_views(views)) == 2
    assert len(core.merge_views(views[::-1])) == 0


@BOTH
def test_flip_testing_finds_what_is_mirrored(core_class):
    """Both views find the box; soft-NMS leaves the better one in front."""
    core = make_core(core_class).eval()
    height, width = SIZE
    mirrored = [width - BOX[2], BOX[1], width - BOX[0], BOX[3]]
    centres = (None, None) if core_class is CornerNet else ([(30, 26)], [(width - 30, 26)])
    views = outputs_of([BOX], [1.0], centres[0]), outputs_of([mirrored], [1.0], centres[1])
    both = CornerOutputs(
        *(None if a is None else torch.cat((a, b)) for a, b in zip(*views, strict=True))
    )
    (seen,) = core.candidates([both], [SIZE], is_flipped=True)
    found = core.merge_views([seen])
    torch.testing.assert_close(found.boxes[0], torch.tensor(BOX), atol=0.5, rtol=0)
    assert (found.scores > 0.5).sum() == 1


@BOTH
def test_in_evaluation_only_the_last_stack_predicts(core_class):
    core, features = make_core(core_class, 2), make_features(2)
    assert len(core(features)) == 2
    assert len(core.eval()(features)) == 1


@BOTH
def test_bad_options(core_class):
    with pytest.raises(ValueError, match="one stride"):
        core_class([8, 8], [4, 8])
    with pytest.raises(ValueError, match="radius_formula"):
        make_core(core_class, radius_formula="x")
    with pytest.raises(ValueError, match="positive"):
        make_core(core_class, num_corners=0)
