from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metaheads.architectures.centernet_points import CenterNetPoints, PointOutputs
from metaheads.architectures.centernet_points.targets import make_targets
from metaheads.structures import Targets

SIZE = (64, 96)
TERMS = {"loss_heatmap", "loss_size", "loss_offset"}
JOINT_TERMS = {"loss_joint", "loss_joint_heatmap", "loss_joint_offset"}


def make_core(stacks: int = 1, **options) -> CenterNetPoints:
    torch.manual_seed(0)
    options = {"num_classes": 3, "head_channels": 8, "keypoint_pairs": (), **options}
    return CenterNetPoints([6] * stacks, [4] * stacks, **options)


def make_features(stacks: int = 1, batch: int = 2) -> list[Tensor]:
    return [torch.randn(batch, 6, SIZE[0] // 4, SIZE[1] // 4) for _ in range(stacks)]


def make_target(boxes, *, crowd=(), joints: int = 0, visible: float = 2.0) -> Targets:
    boxes = torch.tensor([*boxes, *crowd], dtype=torch.float32).view(-1, 4)
    keypoints = None
    if joints:
        centres = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
        spread = torch.linspace(-3, 3, joints)[None, :, None]
        seen = torch.full((len(boxes), joints, 1), visible)
        keypoints = torch.cat((centres + spread, seen), -1)
    return Targets(
        SIZE,
        boxes,
        torch.arange(len(boxes)) % 3,
        torch.tensor([False] * (len(boxes) - len(crowd)) + [True] * len(crowd), dtype=torch.bool),
        keypoints=keypoints,
    )


BOX = [10.0, 12.0, 50.0, 40.0]
SCENES = {
    "objects": [make_target([BOX, [60, 8, 90, 30]]), make_target([[4, 4, 30, 60]])],
    "nothing": [make_target([]), make_target([])],
    "one of two": [make_target([BOX]), make_target([])],
    "crowd only": [make_target([], crowd=[BOX]), make_target([])],
    "smaller than a cell": [make_target([[20, 20, 21, 21]]), make_target([[33, 33, 33.5, 35]])],
    "no area": [make_target([[20, 20, 20, 40]]), make_target([[-30, -30, -10, -10]])],
    "over the border": [make_target([[-20, -20, 30, 200]]), make_target([[80, 50, 300, 300]])],
    "two in a cell": [make_target([BOX, BOX, [10, 12, 51, 41]]), make_target([])],
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("stacks", [1, 2])
def test_losses_are_finite_and_reach_every_parameter(scene, stacks):
    core = make_core(stacks)
    losses = core.losses(core(make_features(stacks)), SCENES[scene])
    assert set(losses) == TERMS
    sum(losses.values()).backward()
    for name, parameter in core.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    trains_boxes = scene not in ("nothing", "crowd only", "no area")
    assert (losses["loss_size"] > 0) == trains_boxes


@pytest.mark.parametrize("visible", [0.0, 2.0])
def test_losses_with_joints(visible):
    core = make_core(num_keypoints=4, num_classes=3)
    targets = [make_target([BOX], joints=4, visible=visible), make_target([], joints=4)]
    losses = core.losses(core(make_features()), targets)
    assert set(losses) == TERMS | JOINT_TERMS
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in core.parameters())
    assert (losses["loss_joint"] > 0) == (losses["loss_size"] > 0) == (visible > 0)


def test_joints_need_keypoints():
    core = make_core(num_keypoints=4)
    with pytest.raises(ValueError, match="carry no keypoints"):
        core.losses(core(make_features()), [make_target([BOX])] * 2)


def test_more_objects_than_the_authors_maximum():
    boxes = [[x, y, x + 6.0, y + 6.0] for x in range(0, 88, 4) for y in range(0, 56, 4)]
    found = make_targets(make_core(), [make_target(boxes)], (16, 24))
    assert len(boxes) > 256 and len(found.cell) == len(boxes)
    assert found.heatmap[0].amax(0).eq(1).sum() > 256


def test_targets_by_hand():
    found = make_targets(make_core(), [make_target([BOX])], (16, 24))
    # Cells: x 2.5 to 12.5, y 3 to 10; centre (7.5, 6.5).
    assert found.cell.tolist() == [6 * 24 + 7] and found.sizes.tolist() == [[10.0, 7.0]]
    assert found.offsets.tolist() == [[0.5, 0.5]]
    assert (found.heatmap[0, 0] == 1).nonzero().tolist() == [[6, 7]]
    assert not found.heatmap[0, 1:].any()


def test_crowds_are_no_negatives():
    (crowd,) = make_targets(make_core(), [make_target([], crowd=[BOX])], (16, 24)).heatmap
    assert crowd[0, 3:10, 2:13].min() > 0.99 and crowd.max() < 1 and crowd[0].sum() < 80


def outputs_of(
    core: CenterNetPoints, boxes: list[list[float]], scores: list[float]
) -> PointOutputs:
    """Raw outputs in which these boxes, all of class 1, stand out."""
    height, width = SIZE[0] // 4, SIZE[1] // 4
    heatmap = torch.full((1, core.num_classes, height, width), -9.0)
    sizes, offsets = torch.zeros(1, 2, height, width), torch.zeros(1, 2, height, width)
    for (x1, y1, x2, y2), score in zip(boxes, scores, strict=True):
        x, y = (x1 + x2) / 8, (y1 + y2) / 8
        heatmap[0, 1, int(y), int(x)] = torch.tensor(score).logit()
        sizes[0, :, int(y), int(x)] = torch.tensor([(x2 - x1) / 4, (y2 - y1) / 4])
        offsets[0, :, int(y), int(x)] = torch.tensor([x - int(x), y - int(y)])
    return PointOutputs(heatmap, sizes, offsets)


def test_boxes_are_decoded():
    core = make_core(max_detections=2).eval()
    boxes = [BOX, [60.0, 8.0, 91.0, 30.0]]
    (found,) = core.decode([outputs_of(core, boxes, [0.6, 0.9])], [SIZE])
    assert found.labels.tolist() == [1, 1] and found.scores.tolist() == pytest.approx([0.9, 0.6])
    torch.testing.assert_close(found.boxes, torch.tensor(boxes[::-1]))


def test_class_specific_sizes():
    core = make_core(class_specific_sizes=True, max_detections=1).eval()
    maps = outputs_of(core, [BOX], [0.9])
    wrong = torch.full_like(maps.sizes, 99.0)
    maps = maps._replace(sizes=torch.cat((wrong, maps.sizes, wrong), 1))
    (found,) = core.decode([maps], [SIZE])
    torch.testing.assert_close(found.boxes, torch.tensor([BOX]))
    core.train().losses(core(make_features()), SCENES["objects"])["loss_size"].backward()
    assert ("heads.0.wh.2", 0) in core.CLASS_LAYERS


def with_joint(maps: PointOutputs, regressed: tuple, peak: tuple, score: float) -> PointOutputs:
    """One joint, regressed to and with a peak at these pixels."""
    height, width = SIZE[0] // 4, SIZE[1] // 4
    joints, heatmap = torch.zeros(1, 2, height, width), torch.full((1, 1, height, width), -9.0)
    y, x = (maps.heatmap[0, 1] == maps.heatmap.max()).nonzero()[0].tolist()
    joints[0, :, y, x] = torch.tensor([regressed[0] / 4 - x, regressed[1] / 4 - y])
    heatmap[0, 0, int(peak[1] // 4), int(peak[0] // 4)] = torch.tensor(score).logit()
    offsets = torch.zeros(1, 2, height, width)
    return maps._replace(joints=joints, joint_heatmap=heatmap, joint_offsets=offsets)


@pytest.mark.parametrize(
    ("peak", "score", "is_moved"),
    [
        ((24, 20), 0.5, True),  # near
        ((24, 20), 0.05, False),  # too weak
        ((44, 36), 0.5, False),  # farther than 0.3 of the longer side
        ((60, 20), 0.5, False),  # outside of the box
    ],
)
def test_joints_move_to_near_peaks(peak, score, is_moved):
    core = make_core(num_keypoints=1, max_detections=1).eval()
    maps = with_joint(outputs_of(core, [BOX], [0.9]), (20.0, 18.0), peak, score)
    (found,) = core.decode([maps], [SIZE])
    expected = [*peak, score] if is_moved else [20.0, 18.0, 0.9]
    assert found.keypoints[0, 0].tolist() == pytest.approx(expected)


def test_flip_testing_of_a_mirrored_scene_changes_nothing():
    core = make_core(num_keypoints=2, keypoint_pairs=((0, 1),), max_detections=5).eval()
    maps = core(make_features(batch=1))[0]
    swapped = maps.joints.unflatten(1, (-1, 2))[:, [1, 0]] * torch.tensor([-1.0, 1.0]).view(2, 1, 1)
    mirrored = maps._replace(
        joints=swapped.flatten(1, 2), joint_heatmap=maps.joint_heatmap[:, [1, 0]]
    )
    both = PointOutputs(*(torch.cat((a, b.flip(3))) for a, b in zip(maps, mirrored, strict=True)))
    (ours,) = core.decode([maps], [SIZE])
    (found,) = core.candidates([both], [SIZE], is_flipped=True)
    torch.testing.assert_close(found.boxes, ours.boxes)
    torch.testing.assert_close(found.keypoints, ours.keypoints, atol=1e-3, rtol=1e-4)


def test_in_evaluation_only_the_last_stack_predicts():
    core = make_core(2)
    features = make_features(2)
    assert len(core(features)) == 2
    last = core.eval()(features)
    assert len(last) == 1
    assert torch.equal(last[0].heatmap, core.train()(features)[1].heatmap)


def test_it_learns_one_image():
    core = make_core()
    features = make_features(batch=1)
    optimizer = torch.optim.Adam(core.parameters(), 0.02)
    target = make_target([BOX, [60, 8, 90, 30]])
    for _ in range(300):
        optimizer.zero_grad()
        sum(core.losses(core(features), [target]).values()).backward()
        optimizer.step()
    (found,) = core.eval().decode(core(features), [SIZE])
    torch.testing.assert_close(
        found.boxes[found.labels[:2].argsort()], target.boxes, atol=2, rtol=0
    )
    assert found.scores[1] > 0.5 > found.scores[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius_formula": "correct"}, "radius_formula must be one of"),
        ({"num_classes": 0}, "must be positive"),
        ({"num_keypoints": 3, "keypoint_pairs": ((1, 3),)}, "not among the 3"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        make_core(**options)
    with pytest.raises(ValueError, match="one stride"):
        CenterNetPoints([6, 6], [4, 8])
