from __future__ import annotations

import math

import pytest
import torch

from metaheads.architectures.yolact import Yolact
from metaheads.boxes import to_xyxy
from metaheads.structures import Geometry

from .examples import SIZE, make_core, make_features


class TestDecode:
    def confident(self, core: Yolact, batch: int = 1, size=SIZE):
        """Outputs with a few confident priors, all of class 1 but every fifth."""
        outputs = core(make_features(batch, size))
        logits = torch.zeros_like(outputs.class_logits)
        logits[..., 0] = 9
        for prior in range(0, logits.shape[1], 37):
            logits[:, prior, 0] = 0
            logits[:, prior, 2 if prior % 5 else 3] = 3 + prior / 1000
        return outputs._replace(class_logits=logits)

    def test_boxes_scores_and_labels_by_hand(self):
        core = make_core()
        outputs = core(make_features(1))
        logits = torch.zeros_like(outputs.class_logits)
        logits[..., 0] = 50.0
        logits[0, 300] = torch.tensor([0.0, 0.0, math.log(3.0), -50.0])
        deltas = torch.zeros_like(outputs.box_deltas)
        (found,) = core.decode(outputs._replace(class_logits=logits, box_deltas=deltas), [SIZE])
        # Softmax 1/5, 1/5, 3/5: both classes of the kept prior compete.
        assert found.labels.tolist() == [1, 0, 2]
        assert found.scores[:2].tolist() == pytest.approx([0.6, 0.2])
        expected = to_xyxy(outputs.priors[300]) * torch.tensor([160.0, 128.0, 160.0, 128.0])
        torch.testing.assert_close(found.boxes[0], expected)
        assert found.mask_frames[0].tolist() == [0, 0, 160, 128]
        core.filter_class_scores = True
        (found,) = core.decode(outputs._replace(class_logits=logits, box_deltas=deltas), [SIZE])
        assert found.labels.tolist() == [1, 0]

    @pytest.mark.parametrize("nms", ["fast", "fast_cross_class", "traditional"])
    @pytest.mark.parametrize("use_mask_scoring", [False, True])
    def test_finished_detections(self, nms, use_mask_scoring):
        core = make_core(nms=nms, use_mask_scoring=use_mask_scoring)
        outputs = self.confident(core, 2, (256, 256))
        for found in core.decode(outputs, [(256, 256)] * 2):
            assert 0 < len(found) <= 200
            assert (found.scores.diff() <= 0).all()
            assert (found.mask_scores is not None) == use_mask_scoring
            finished = found.finish(Geometry.from_resize((256, 256), (100, 90)))
            assert finished.masks.shape == (len(found), 100, 90)
            assert finished.boxes.min() >= 0 and finished.boxes[:, 2].max() <= 90

    def test_nothing_found(self):
        core = make_core(use_mask_scoring=True)
        for nms in ("fast", "fast_cross_class", "traditional"):
            core.nms = nms
            core.score_threshold = 1.0
            (found,) = core.decode(core(make_features(1, (256, 256))), [(256, 256)])
            assert len(found) == 0 and found.masks.shape[0] == 0

    def test_at_most_max_detections(self):
        core = make_core(score_threshold=0.01, max_detections=7)
        (found,) = core.decode(core(make_features(1)), [SIZE])
        assert len(found) == 7

    def test_rescored_boxes_are_sorted_again(self):
        core = make_core(use_mask_scoring=True, rescore_boxes=True)
        (found,) = core.decode(self.confident(core, 1, (256, 256)), [(256, 256)])
        assert (found.scores.diff() <= 0).all()
        assert torch.equal(found.scores, found.mask_scores)

    def test_images_do_not_influence_each_other_and_runs_repeat(self):
        core = make_core()
        outputs = self.confident(core, 2)
        first, second = core.decode(outputs, [SIZE] * 2)
        again, _ = core.decode(outputs, [SIZE] * 2)
        (alone,) = core.decode(
            type(outputs)(*(part[1:] for part in outputs[:-1]), outputs.priors), [SIZE]
        )
        for one, other in ((first, again), (second, alone)):
            assert torch.equal(one.boxes, other.boxes) and torch.equal(one.masks, other.masks)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype):
        core = make_core(use_mask_scoring=True)
        outputs = self.confident(core, 1, (256, 256))
        halves = type(outputs)(*(part.to(dtype) for part in outputs[:-1]), outputs.priors)
        (found,) = core.to(dtype).decode(halves, [(256, 256)])
        assert len(found) and found.boxes.dtype == found.masks.dtype == torch.float32
        assert found.mask_scores.isfinite().all()

    def test_autocast_does_not_coarsen_masks(self):
        core = make_core()
        outputs = self.confident(core)
        (exact,) = core.decode(outputs, [SIZE])
        with torch.autocast("cpu", torch.bfloat16):
            (found,) = core.decode(outputs, [SIZE])
        assert torch.equal(found.masks, exact.masks)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"nms": "fast_cross_class"},
            {"filter_class_scores": True, "max_detections": 5},
            {"crop_masks": False, "nms_candidates": 3},
            {"use_mask_scoring": True},
            {"use_mask_scoring": True, "rescore_boxes": True},
        ],
    )
    def test_fixed_size_finds_the_same(self, options):
        core, size = make_core(**options), (256, 256)
        outputs = self.confident(core, 2, size)
        outputs.class_logits[1, :, 1:] -= 5  # the second image has few detections, or none
        expected = core.decode(outputs, [size] * 2)
        fixed = core.decode_fixed(outputs, size)
        assert len(expected[0])
        for index, each in enumerate(expected):
            found = fixed.of_image(index)
            assert torch.equal(found.labels, each.labels)
            torch.testing.assert_close(found.boxes, each.boxes)
            torch.testing.assert_close(found.scores, each.scores)
            torch.testing.assert_close(found.masks, each.masks)
            torch.testing.assert_close(found.mask_scores, each.mask_scores)

    def test_traditional_nms_has_no_fixed_size(self):
        core = make_core(nms="traditional")
        with pytest.raises(ValueError, match='export with nms="fast"'):
            core.decode_fixed(self.confident(core), SIZE)
