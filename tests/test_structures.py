from __future__ import annotations

import pytest
import torch

from metaheads.structures import Detections, Geometry, PanopticSegmentation, Segment, Targets


def make_targets(count: int) -> Targets:
    return Targets(
        image_size=(20, 30),
        boxes=torch.arange(count * 4.0).view(count, 4),
        labels=torch.arange(count),
        is_crowd=torch.arange(count) % 2 == 1,
        masks=torch.rand(count, 20, 30) > 0.5,
    )


@pytest.mark.parametrize(
    "index", [torch.tensor([True, False, True]), torch.tensor([0, 2]), slice(0, 3, 2)]
)
def test_indexing_acts_on_every_field(index):
    targets = make_targets(3)
    chosen = targets[index]
    assert len(chosen) == 2 and chosen.labels.tolist() == [0, 2]
    assert torch.equal(chosen.masks, targets.masks[[0, 2]])
    assert chosen.image_size == (20, 30) and chosen.keypoints is None
    assert len(targets) == 3


def test_cat_and_to():
    both = Targets.cat([make_targets(2), make_targets(0), make_targets(1)])
    assert both.labels.tolist() == [0, 1, 0] and both.masks.shape == (3, 20, 30)
    assert both.to("meta").boxes.device.type == "meta"


def test_geometry_of_a_resize():
    geometry = Geometry.from_resize((100, 200), (50, 800))
    points = geometry.points_to_original(torch.tensor([[200.0, 100.0], [0.0, 0.0], [10.0, 10.0]]))
    assert points.tolist() == [[800, 50], [0, 0], [40, 5]]
    boxes = geometry.boxes_to_original(torch.tensor([[10.0, 10.0, 20.0, 30.0]]))
    assert boxes.tolist() == [[40, 5, 80, 15]]


def test_geometry_of_a_mirror_keeps_boxes_upright():
    mirrored = Geometry((10, 10), (10, 10), ((-1.0, 0.0, 10.0), (0.0, 1.0, 0.0)))
    boxes = mirrored.boxes_to_original(torch.tensor([[1.0, 2.0, 4.0, 5.0]]))
    assert boxes.tolist() == [[6, 2, 9, 5]]


def test_finish_scales_clips_and_pastes():
    detections = Detections(
        boxes=torch.tensor([[-5.0, 2.0, 5.0, 4.6], [2.0, 2.0, 90.0, 90.0]]),
        scores=torch.tensor([0.9, 0.8]),
        labels=torch.tensor([1, 0]),
        masks=torch.ones(2, 4, 4),
        mask_frames=torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 2),
        keypoints=torch.tensor([[[1.0, 2.0, 0.3]]] * 2),
        integer_boxes=True,
    )
    finished = detections.finish(Geometry.from_resize((10, 10), (20, 15)))
    assert finished.boxes.tolist() == [[0, 4, 7, 9], [3, 4, 15, 20]]
    assert finished.masks.shape == (2, 20, 15) and finished.masks.all()
    assert finished.mask_frames is None
    torch.testing.assert_close(finished.keypoints[0], torch.tensor([[1.5, 4.0, 0.3]]))
    detections.integer_boxes = False
    boxes = detections.finish(Geometry.from_resize((10, 10), (20, 15))).boxes
    torch.testing.assert_close(boxes[0], torch.tensor([0.0, 4.0, 7.5, 9.2]))
    assert detections.boxes[0, 0] == -5, "finishing twice must give the same"


def test_vertices_travel_like_keypoints():
    vertices = torch.tensor([[[1.0, 2.0, 3.0]], [[4.0, 5.0, -6.0]], [[torch.nan] * 3]])
    targets = make_targets(3)
    targets.vertices = vertices
    assert torch.equal(Targets.cat([targets[:1], targets[1:2]]).vertices, vertices[:2])
    found = Detections(targets.boxes, torch.ones(3), targets.labels, vertices=vertices)
    half = Geometry.from_resize((10, 10), (5, 20))  # twice as wide, half as high
    finished = found.finish(half).vertices
    torch.testing.assert_close(finished[:2, 0], torch.tensor([[2.0, 1, 3], [8, 2.5, -6]]))
    assert finished[2].isnan().all()
    larger = Geometry.from_resize((10, 10), (30, 30))
    torch.testing.assert_close(found[1:2].finish(larger).vertices[0, 0], 3 * vertices[1, 0])
    found.vertices = vertices[..., :2]
    assert found.finish(half).vertices.shape == (3, 1, 2)


def test_finish_of_nothing():
    nothing = Detections(
        torch.zeros(0, 4),
        torch.zeros(0),
        torch.zeros(0, dtype=torch.long),
        masks=torch.zeros(0, 4, 4),
        mask_frames=torch.zeros(0, 4),
    )
    finished = nothing.finish(Geometry.from_resize((10, 10), (20, 15)))
    assert len(finished) == 0 and finished.masks.shape == (0, 20, 15)


def make_segmentation() -> PanopticSegmentation:
    ids = torch.zeros(6, 8, dtype=torch.int32)
    ids[:3], ids[1:5, 2:4], ids[4:6, 6:8] = 1, 7, 4
    segments = [Segment(1, 5, False), Segment(4, 0, True, 0.4), Segment(7, 2, True, 0.8)]
    return PanopticSegmentation(ids, segments, ids == 0)


def test_things_of_a_segmentation():
    segmentation = make_segmentation()
    assert len(segmentation) == 3
    things = segmentation.things()
    assert things.boxes.tolist() == [[2, 1, 4, 5], [6, 4, 8, 6]]
    assert things.labels.tolist() == [2, 0]
    torch.testing.assert_close(things.scores, torch.tensor([0.8, 0.4]))
    assert torch.equal(things.masks[1], segmentation.ids == 4)
    none = segmentation.keep(lambda segment: not segment.is_thing).things()
    assert len(none) == 0 and none.boxes.shape == (0, 4) and none.masks.shape == (0, 6, 8)
    unscored = PanopticSegmentation(segmentation.ids, [Segment(7, 2, True)])
    assert unscored.things().scores.tolist() == [1.0]


def test_segments_that_are_not_kept_become_void():
    segmentation = make_segmentation()
    kept = segmentation.keep(lambda segment: segment.label != 2).to("cpu")
    assert [each.id for each in kept.segments] == [1, 4]
    assert sorted(kept.ids.unique().tolist()) == [0, 1, 4]
    assert torch.equal(kept.ids == 0, (segmentation.ids == 0) | (segmentation.ids == 7))
    assert torch.equal(kept.is_unknown, segmentation.is_unknown)


def test_a_semantic_map_is_a_segmentation_of_stuff():
    found = PanopticSegmentation.from_labels(torch.tensor([[2, 2, 0], [5, 0, 0]]))
    assert found.ids.tolist() == [[3, 3, 1], [6, 1, 1]] and found.ids.dtype == torch.int32
    assert found.segments == [Segment(1, 0, False), Segment(3, 2, False), Segment(6, 5, False)]
    assert found.is_unknown is None and len(found.things()) == 0
