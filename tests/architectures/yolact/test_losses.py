from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metaheads.architectures.yolact import Yolact
from metaheads.architectures.yolact.losses import mask_iou, mask_loss, resize_truth
from metaheads.architectures.yolact.targets import assign_priors
from metaheads.structures import Targets

from .examples import NOTHING, OBJECTS, SIZE, TINY, make_core, make_features, make_targets


class TestLossFormulas:
    def test_mask_loss_by_hand(self):
        # A box of 2 x 4 cells in 4 x 8; every cell of it costs -log 0.5, one true cell outside 100.
        probabilities = torch.zeros(1, 4, 8)
        probabilities[0, :2, :4] = 0.5
        truth = torch.zeros(1, 4, 8)
        truth[0, 0, 0] = truth[0, 3, 7] = 1
        boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5]])
        expected = (8 * math.log(2) + 100) / 8
        assert mask_loss(probabilities, truth, boxes).item() == pytest.approx(expected)

    def test_mask_iou_by_hand(self):
        masks = torch.tensor([[[True, True], [False, False]], [[True, False], [False, False]]])
        truth = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
        assert mask_iou(masks, truth).tolist() == [pytest.approx(1 / 3), 0]

    def test_resize_truth_counts_more_than_half(self):
        masks = torch.zeros(1, 2, 4, dtype=torch.bool)
        masks[0, :, 0] = True  # half of the first cell
        masks[0, :, 2:] = True  # all of the second
        assert resize_truth(masks, (1, 2)).tolist() == [[[0, 1]]]
        assert resize_truth(masks[:0], (3, 5)).shape == (0, 3, 5)

    def test_semantic_loss_puts_each_class_on_its_channel(self):
        core = make_core(class_weight=0.0, box_weight=0.0, mask_weight=0.0)
        outputs = core(make_features(1))
        targets = make_targets(OBJECTS)
        logits = torch.full_like(outputs.semantic_logits, -20.0)
        for label, mask in zip(targets.labels, targets.masks, strict=True):
            truth = F.interpolate(mask[None, None].float(), logits.shape[2:], mode="bilinear")
            logits[0, label][truth[0, 0] > 0.5] = 20.0
        right = core.losses(outputs._replace(semantic_logits=logits), [targets])
        wrong = core.losses(outputs._replace(semantic_logits=logits.roll(1, 1)), [targets])
        assert right["loss_semantic"] < 1e-6 < 1 < wrong["loss_semantic"]


class TestLosses:
    def losses(self, core: Yolact, targets: list[Targets], size=SIZE) -> dict[str, Tensor]:
        features = make_features(len(targets), size)
        return core.losses(core(features), targets)

    @pytest.mark.parametrize(
        "batch",
        [
            [make_targets(OBJECTS), make_targets(NOTHING)],
            [make_targets(NOTHING), make_targets(NOTHING)],
            [make_targets(OBJECTS, [True, True]), make_targets(NOTHING)],
            [make_targets(TINY[:4]), make_targets(TINY)],
            [make_targets(TINY[1:2]), make_targets(OBJECTS[:1] * 40)],
        ],
        ids=["half empty", "empty", "crowds", "degenerate", "one pixel and duplicates"],
    )
    @pytest.mark.parametrize("use_mask_scoring", [False, True])
    def test_finite_and_every_parameter_has_a_gradient(self, batch, use_mask_scoring):
        size = (256, 256)
        batch = [make_targets(t.boxes.tolist(), t.is_crowd.tolist(), size) for t in batch]
        core = make_core(use_mask_scoring=use_mask_scoring)
        losses = self.losses(core, batch, size)
        sum(losses.values()).backward()
        assert all(name.startswith("loss_") for name in losses)
        assert ("loss_mask_score" in losses) == use_mask_scoring
        assert all(loss.isfinite() and loss.ndim == 0 for loss in losses.values())
        for name, parameter in core.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name

    def test_image_without_objects_still_learns_background(self):
        losses = self.losses(make_core(), [make_targets(NOTHING)])
        assert losses["loss_class"] > 0 and losses["loss_semantic"] > 0
        assert losses["loss_box"] == losses["loss_mask"] == 0

    def test_weights_scale_their_own_term(self):
        targets = [make_targets(OBJECTS)]
        options = {"box_weight": 1.0, "class_weight": 1.0, "mask_weight": 1.0}
        core = make_core(**options, semantic_weight=1.0)
        outputs = core(make_features(1))
        plain = core.losses(outputs, targets)
        for term in ("box", "class", "mask", "semantic"):
            setattr(core, f"{term}_weight", 3.0)
            scaled = core.losses(outputs, targets)
            for name, loss in plain.items():
                factor = 3 if name == f"loss_{term}" else 1
                torch.testing.assert_close(scaled[name], loss * factor)
            setattr(core, f"{term}_weight", 1.0)

    def test_sum_over_a_batch_is_divided_by_all_its_positives(self):
        core = make_core()
        features = make_features(2)
        targets = [make_targets(OBJECTS), make_targets(OBJECTS[:1])]
        both = core.losses(core(features), targets)
        total, count = 0.0, 0
        for index, target in enumerate(targets):
            outputs = core([feature[index : index + 1] for feature in features])
            relative = target.boxes / torch.tensor([SIZE[1], SIZE[0]] * 2)
            found = assign_priors(
                outputs.priors,
                relative,
                target.labels,
                relative[:0],
                positive_iou=0.5,
                negative_iou=0.4,
                crowd_iou=0.7,
            )
            positives = int((found.classes > 0).sum())
            total += core.losses(outputs, [target])["loss_box"] * positives
            count += positives
        torch.testing.assert_close(both["loss_box"], total / count)

    def test_at_most_so_many_positives_train_the_masks_scaled_back_up(self):
        targets = [make_targets(OBJECTS)]
        core = make_core()
        outputs = core(make_features(1))
        whole = core.losses(outputs, targets)["loss_mask"]
        core.max_mask_positives = 2
        drawn = torch.stack([core.losses(outputs, targets)["loss_mask"] for _ in range(200)])
        assert drawn.std() > 0
        assert drawn.mean().item() == pytest.approx(whole.item(), rel=0.1)

    def test_same_seed_same_losses(self):
        core = make_core(max_mask_positives=2)
        outputs = core(make_features(2))
        targets = [make_targets(OBJECTS)] * 2
        torch.manual_seed(5)
        first = core.losses(outputs, targets)
        torch.manual_seed(5)
        second = core.losses(outputs, targets)
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_targets_without_masks_are_refused(self):
        targets = make_targets(OBJECTS)
        targets.masks = None
        with pytest.raises(ValueError, match="masks"):
            self.losses(make_core(), [targets])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_outputs(self, dtype):
        core = make_core()
        outputs = core(make_features(2))
        targets = [make_targets(OBJECTS), make_targets(NOTHING)]
        exact = core.losses(outputs, targets)
        halves = type(outputs)(*(part.to(dtype) for part in outputs[:-1]), outputs.priors)
        for name, loss in core.losses(halves, targets).items():
            assert loss.dtype == torch.float32
            torch.testing.assert_close(loss, exact[name], rtol=0.02, atol=1e-3)

    def test_autocast_does_not_coarsen_losses(self):
        core = make_core(use_mask_scoring=True)
        outputs = core(make_features(1, (256, 256)))
        targets = [make_targets(OBJECTS, size=(256, 256))]
        exact = core.losses(outputs, targets)
        with torch.autocast("cpu", torch.bfloat16):
            found = core.losses(outputs, targets)
        assert all(torch.equal(found[name], exact[name]) for name in exact)

    def test_autocast(self):
        core = make_core(use_mask_scoring=True)
        targets = [make_targets(OBJECTS, size=(256, 256))]
        with torch.autocast("cpu", torch.bfloat16):
            losses = core.losses(core(make_features(1, (256, 256))), targets)
        sum(losses.values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in core.parameters())
