from __future__ import annotations

import pytest
import torch

from metaheads.architectures.yolact import Yolact

from .examples import SCALES, make_core, make_features


class TestOptions:
    def test_channels_and_strides_must_agree(self):
        with pytest.raises(ValueError, match="finest first"):
            Yolact([4, 6, 8], [32, 16, 8])
        with pytest.raises(ValueError, match="finest first"):
            Yolact([4, 6], [8, 16, 32])

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"anchor_scales": SCALES[:3]}, "each of the 4 levels"),
            ({"anchor_scales": (*SCALES[:3], (1.0, 2.0))}, "equal length"),
            ({"nms": "soft"}, "fast_cross_class"),
            ({"num_classes": 0}, "num_classes must be positive"),
            ({"positive_iou": 0.3}, "negative_iou"),
        ],
    )
    def test_wrong_values_are_refused(self, options, words):
        with pytest.raises(ValueError, match=words):
            make_core(**options)


class TestNetwork:
    def test_shapes(self):
        core = make_core(anchor_ratios=(1.0, 2.0), use_mask_scoring=True)
        outputs = core(make_features())
        cells = 16 * 20 + 8 * 10 + 4 * 5 + 2 * 3
        assert outputs.box_deltas.shape == (2, cells * 2, 4)
        assert outputs.class_logits.shape == (2, cells * 2, 4)
        assert outputs.mask_coefficients.shape == (2, cells * 2, 6)
        assert outputs.prototypes.shape == (2, 6, 32, 40)
        assert outputs.semantic_logits.shape == (2, 3, 16, 20)
        assert outputs.priors.shape == (cells * 2, 4)
        assert outputs.prototypes.min() >= 0 and outputs.mask_coefficients.abs().max() < 1

    def test_no_cell_is_lost_between_layers_and_priors(self):
        """A head that answers with its own coordinates finds them in the order of the priors."""
        core = make_core()
        sizes = [(16, 20), (8, 10), (4, 5), (2, 3)]
        rows = [torch.arange(h).view(h, 1).expand(h, w) / h + 0.5 / h for h, w in sizes]
        flat = torch.cat([core.head._per_prior(r.expand(1, 12, *r.shape)) for r in rows], 1)
        torch.testing.assert_close(flat[0, :, 0], core.priors(sizes, torch.device("cpu"))[:, 1])

    def test_levels_are_rectified_but_for_the_extra_ones(self):
        core = make_core(num_extra_levels=2, anchor_scales=(*SCALES, (128.0,)))
        levels = core.fpn(make_features())
        assert [level.min() >= 0 for level in levels] == [True, True, True, False, False]

    def test_mask_scoring_refuses_small_masks(self):
        core = make_core(use_mask_scoring=True)
        with pytest.raises(ValueError, match="250 pixels"):
            core.mask_iou_net(torch.rand(1, 62, 80))
        assert core.mask_iou_net(torch.rand(2, 63, 63)).shape == (2, 3)
