from __future__ import annotations

import keyword

import pytest
import torch

from metaheads.architectures import RetinaFace
from metaheads.backbones import DeformableResNet, MobileNetV1, SlimNet

from .examples import PAPER, SIZE, make_core, make_features

SLIM_ANCHORS = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))


def count_parameters(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize(
    ("backbone", "options", "expected"),
    [
        (MobileNetV1(), {}, 426_608),
        (DeformableResNet(), {"pyramid_channels": 256, "leaky_slope": 0.0}, 27_293_600),
    ],
    ids=["mobilenet", "resnet50"],
)
def test_the_published_networks_have_as_many_parameters(backbone, options, expected):
    core = RetinaFace(backbone.channels, backbone.strides, **options)
    assert count_parameters(backbone, core) == expected


@pytest.mark.parametrize("size", [(64, 96), (61, 90), (33, 31)])
def test_any_size_has_as_many_predictions_as_priors(size):
    core = make_core().eval()
    with torch.no_grad():
        outputs = core(make_features(size))
        found = core.decode(outputs, [size] * 2)
    cells = [(-(-size[0] // s)) * (-(-size[1] // s)) for s in (8, 16, 32)]
    assert outputs.class_logits.shape == (2, 2 * sum(cells), 2)
    assert outputs.keypoint_deltas.shape == (2, 2 * sum(cells), 10)
    assert len(found) == 2 and len(found[0]) > 0


def test_predictions_go_by_level_row_column_anchor():
    core = make_core(pyramid_channels=0).eval()
    features = make_features(batch=1)
    outputs = core(features)
    head = core.stages[0].heads["boxes"]
    by_hand = head[1](features[1])[0, 4:8, 2, 3]  # second anchor in row 2, column 3 of level 1
    place = 2 * (8 * 12) + 2 * (2 * 6 + 3) + 1
    torch.testing.assert_close(outputs.box_deltas[0, place], by_hand)


def test_keypoints_and_mesh_can_be_left_out():
    core = make_core(num_keypoints=0, keypoint_pairs=())
    outputs = core(make_features())
    assert outputs.keypoint_deltas is None and outputs.mesh_features is None
    assert core.eval().decode(outputs, [SIZE] * 2)[0].keypoints is None


def test_the_papers_variant():
    core = make_core(**PAPER).eval()
    outputs = core(make_features())
    assert outputs.first is not None and outputs.first.keypoint_deltas is None
    cells = 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2
    assert outputs.class_logits.shape == (2, 3 * cells, 2)
    assert all(len(heads) == 1 for heads in core.stages[1].heads.values())
    found = core.decode(outputs, [SIZE] * 2)
    assert all(each.boxes.isfinite().all() for each in found)


def test_slim_has_heads_on_the_features():
    backbone = SlimNet(use_rfb=True)
    options = {"pyramid_channels": 0, "head": "separable", "anchor_sizes": SLIM_ANCHORS}
    core = RetinaFace(backbone.channels, backbone.strides, **options).eval()
    backbone.eval()
    with torch.no_grad():
        outputs = core(backbone(torch.randn(1, 3, 70, 90)))
    cells = [9 * 12, 5 * 6, 3 * 3, 2 * 2]
    assert (
        outputs.class_logits.shape[1] == 3 * cells[0] + 2 * cells[1] + 2 * cells[2] + 3 * cells[3]
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"anchor_sizes": ((16, 32),)}, "anchor_sizes must name sizes for each of the strides"),
        ({"head": "1x1"}, "head must be one of"),
        ({"pyramid_channels": 30}, "multiple of 4"),
        ({"pyramid_channels": 0, "extra_levels": 1, "anchor_sizes": ((1,),) * 4}, "need a pyramid"),
        ({"has_shared_heads": True, "anchor_sizes": ((1,), (1,), (1, 2))}, "has_shared_heads"),
        ({"positive_iou": (0.7, 0.5)}, "one stage or two"),
        ({"positive_iou": (0.3,), "negative_iou": (0.4,)}, "not above the positive"),
        ({"keypoint_pairs": ((0, 5),)}, "not among the 5"),
        ({"vertex_dimensions": 4}, "vertex_dimensions 2 or 3"),
        ({"num_vertices": 4, "graph_order": 2}, "graph_order needs mesh_file"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        make_core(**options)


def test_a_backbone_that_rounds_down_is_told():
    core = make_core().eval()
    features = [each[..., :-1] for each in make_features()]
    with pytest.raises(ValueError, match="features must be ceil"):
        core.decode(core(features), [SIZE] * 2)


def test_no_layer_is_called_as_python_calls_something():
    """Exporters to ONNX write `self.stages.0...` into code of their own."""
    core = make_core(num_vertices=4)
    parts = {part for name, _ in core.named_modules() for part in name.split(".")}
    assert not [part for part in parts if keyword.iskeyword(part)]
