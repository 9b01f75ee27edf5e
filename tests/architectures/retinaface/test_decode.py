from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from metaheads.architectures.retinaface.decode import (
    decode_on_priors,
    merge_by_voting,
    mesh_deltas,
    mirror,
    suppress,
)
from metaheads.structures import Detections

from .examples import SIZE, empty_outputs, make_core, make_features, write_mesh

PRIORS = torch.tensor([[20.0, 20, 10, 20], [21, 20, 10, 20], [60, 20, 10, 20], [80, 20, 10, 20]])


def make_outputs(core, scores: list[float]):
    outputs = empty_outputs(core, len(scores))
    values = torch.tensor(scores)
    outputs.class_logits[0] = torch.stack(((1 - values).log(), values.log()), 1)
    return outputs


def test_decode_by_hand():
    core = make_core()
    outputs = make_outputs(core, [0.6, 0.9, 0.5, 0.01])
    outputs.box_deltas[0, 2] = torch.tensor([10.0, 0, 0, 5 * 0.6931472])  # a side to the right
    outputs.keypoint_deltas[0, 1, :4] = torch.tensor([1.0, 2, -1, 0])
    (found,) = decode_on_priors(core, outputs, PRIORS)
    assert_close(found.scores, torch.tensor([0.9, 0.5]))
    assert_close(found.boxes, torch.tensor([[16.0, 10, 26, 30], [65, 0, 75, 40]]))
    assert found.labels.tolist() == [0, 0]
    assert_close(found.keypoints[0, :2], torch.tensor([[22.0, 24, 0.9], [20, 20, 0.9]]))


def test_thresholds_and_limits():
    outputs = make_outputs(make_core(), [0.6, 0.9, 0.5, 0.4])
    counts = {
        "score_threshold": (0.45, 2),
        "max_candidates": (2, 1),
        "max_detections": (2, 2),
        "nms_iou": (0.95, 4),
    }
    for name, (value, expected) in counts.items():
        (found,) = decode_on_priors(make_core(**{name: value}), outputs, PRIORS)
        assert len(found) == expected, name


def test_one_pixel_more_suppresses_small_boxes():
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2]])  # IoU 1/3, with +1 6/12
    scores, labels = torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.long)
    assert suppress(make_core(), boxes, scores, labels).tolist() == [0]
    assert suppress(make_core(has_plus_one=False), boxes, scores, labels).tolist() == [0, 1]
    assert suppress(make_core(nms_iou=0.5), boxes, scores, labels).tolist() == [0, 1], "equal stays"
    core = make_core(num_classes=2)
    assert suppress(core, boxes, scores, torch.tensor([0, 1])).tolist() == [0, 1]
    assert suppress(core, boxes, scores, labels).tolist() == [0]


def test_several_classes():
    core = make_core(num_classes=2)
    outputs = empty_outputs(core, 4)._replace(class_logits=torch.full((1, 4, 3), -10.0))
    outputs.class_logits[..., 0] = 10
    outputs.class_logits[0, 0] = torch.tensor([0.0, 1, 2])
    found = decode_on_priors(core, outputs, PRIORS)[0]
    assert_close(found.scores[:2], torch.tensor([0.0, 1, 2]).softmax(0)[[2, 1]])
    assert found.labels[:2].tolist() == [1, 0]


@pytest.mark.parametrize("is_shared", [False, True])
def test_vertices_equal_the_dense_convolution(is_shared):
    core = make_core(num_vertices=4, has_shared_heads=is_shared).eval()
    features = make_features(batch=2)
    with torch.no_grad():
        maps = core(features).mesh_features
        heads = [core.mesh_heads[0 if is_shared else level] for level in range(3)]
        dense = [
            h(m).permute(0, 2, 3, 1).reshape(2, -1, 4, 3) for h, m in zip(heads, maps, strict=True)
        ]
        dense = torch.cat(dense, 1)
        count = dense.shape[1]
        images = torch.arange(2).repeat_interleave(count)
        rows = torch.arange(count).repeat(2)
        order = torch.randperm(2 * count)
        found = mesh_deltas(core, maps, images[order], rows[order])
    assert_close(found, dense.flatten(0, 1)[order])


def test_a_mirror_swaps_sides(tmp_path):
    core = make_core(num_vertices=4, mesh_file=write_mesh(tmp_path))
    found = Detections(
        torch.tensor([[10.0, 5, 30, 25]]),
        torch.tensor([0.7]),
        torch.tensor([0]),
        keypoints=torch.tensor(
            [[[12.0, 8, 0.7], [20, 8, 0.7], [15, 12, 0.7], [13, 20, 0.7], [21, 20, 0.7]]]
        ),
        vertices=torch.arange(12.0).view(1, 4, 3),
    )
    other = mirror(core, found, 96)
    assert other.boxes.tolist() == [[66, 5, 86, 25]]
    assert other.keypoints[0, :, 0].tolist() == [76, 84, 81, 75, 83]
    assert other.vertices[0, 0].tolist() == [96 - 9, 10, 11]
    for name in ("boxes", "keypoints", "vertices"):
        assert_close(getattr(mirror(core, other, 96), name), getattr(found, name))
    core = make_core(num_vertices=4)
    with pytest.raises(ValueError, match="need mesh_file"):
        mirror(core, found, 96)


def test_votes_are_weighted_by_scores():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [40, 40, 50, 50], [6, 0, 16, 10]])
    scores = torch.tensor([0.9, 0.3, 0.5, 0.2])
    found = Detections(boxes, scores, torch.zeros(4, dtype=torch.long))
    merged = merge_by_voting(make_core(), found)
    assert_close(merged.scores, torch.tensor([0.9, 0.5, 0.2]))
    assert_close(merged.boxes[0], torch.tensor([0.25, 0, 10.25, 10]))
    assert_close(merged.boxes[1:], boxes[2:])
    assert len(merge_by_voting(make_core(), found[:0])) == 0
    found.boxes[2] = torch.tensor([40.0, 40, 40, 50])
    assert_close(merge_by_voting(make_core(), found).boxes[1], found.boxes[2], msg="without area")


def test_views_of_a_symmetric_image():
    core = make_core().eval()
    features = make_features(batch=1)
    with torch.no_grad():
        alone = core.candidates(core(features), [SIZE])
        assert core.merge_views(alone) is alone[0]
        outputs = core(features)
        twice = type(outputs)(*(None if x is None else torch.cat((x, x)) for x in outputs))
        both = core.candidates(twice, [SIZE], is_flipped=True)
    assert len(both) == 1 and len(both[0]) > 50
    distances = (both[0].boxes[:, None] - mirror(core, both[0], SIZE[1]).boxes).abs().amax(2)
    assert distances.amin(1).median() < 0.1, "what is seen in both is symmetric"
    upright = dataclasses.replace(alone[0])
    merged = core.merge_views([upright, upright])
    assert_close(merged.boxes, upright.boxes)
