from __future__ import annotations

import pytest
import torch
from torch import nn

from metaheads.architectures import Yolact
from metaheads.backbones import DeformableResNet
from metaheads.weights import load_into, to_host

SCALES = ((16.0,), (32.0,), (64.0,), (96.0,), (128.0,))


class Model(nn.Module):
    def __init__(self, depth: int = 18, **options) -> None:
        super().__init__()
        self.backbone = DeformableResNet(depth=depth, norm=options.pop("norm", "BN"))
        options = {"num_classes": 3, "fpn_channels": 8, "anchor_scales": SCALES, **options}
        self.core = Yolact(self.backbone.channels, self.backbone.strides, **options)


def differing(model: nn.Module, state: dict) -> set[str]:
    return {n for n, t in model.state_dict().items() if n in state and not torch.equal(t, state[n])}


def test_everything_is_loaded_and_reported():
    state = Model().state_dict()
    model = Model()
    assert differing(model, state)
    coverage = load_into(model, state)
    assert not differing(model, state)
    assert coverage.used == list(state)
    assert not (coverage.missing or coverage.unused or coverage.reshaped)


def test_names_of_the_other_host_are_translated():
    state = Model().state_dict()
    model = Model()
    load_into(model, to_host(state, ["backbone.bottom_up.stem.conv1.weight"]))
    assert not differing(model, state)


def test_counters_of_batch_norms_may_lack_or_be_left_over():
    state = Model().state_dict()
    without = {name: t for name, t in state.items() if "num_batches_tracked" not in name}
    model = Model()
    coverage = load_into(model, without)
    assert not coverage.missing and not differing(model, state)
    frozen = Model(norm="FrozenBN")
    coverage = load_into(frozen, state)
    assert coverage.used == list(without) and len(coverage.unused) == len(state) - len(without)
    assert not differing(frozen, state)


def test_missing_and_left_over_entries_are_refused_and_nothing_is_loaded():
    model = Model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = Model().state_dict()
    for index in range(7):
        state[f"core.extra.{index}"] = torch.zeros(1)
    del state["core.head.bbox_layer.bias"]
    with pytest.raises(KeyError) as error:
        load_into(model, state)
    assert "lacks core.head.bbox_layer.bias" in str(error.value)
    assert "core.extra.4 and 2 more" in str(error.value) and "config" in str(error.value)
    assert not differing(model, before)


def test_another_depth_is_refused():
    with pytest.raises((KeyError, ValueError), match="layer1.0.conv"):
        load_into(Model(34), Model(50).state_dict())
    with pytest.raises(KeyError, match=r"lacks backbone.layer1.2.conv1.weight"):
        load_into(Model(34), Model(18).state_dict())


def test_mask_scoring_on_one_side_only_is_refused():
    with pytest.raises(KeyError, match="mask scoring"):
        load_into(Model(use_mask_scoring=True), Model().state_dict())
    with pytest.raises(KeyError, match="no place for core.mask_iou_net"):
        load_into(Model(), Model(use_mask_scoring=True).state_dict())


@pytest.mark.parametrize("use_mask_scoring", [False, True])
def test_another_number_of_classes(use_mask_scoring):
    state = Model(num_classes=5, use_mask_scoring=use_mask_scoring).state_dict()
    model = Model(num_classes=3, use_mask_scoring=use_mask_scoring)
    with pytest.raises(ValueError) as error:
        load_into(model, state)
    for words in ("5 classes", "3 classes", "core.head.conf_layer", "--reinitialise-classes"):
        assert words in str(error.value)

    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    coverage = load_into(model, state, reinitialise_classes=True)
    layers = {"core.head.conf_layer", "core.semantic_seg_conv"}
    layers |= {"core.mask_iou_net.layers.10"} if use_mask_scoring else set()
    entries = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert set(coverage.reshaped) == entries
    assert not differing(model, {name: fresh[name] for name in entries})
    assert not differing(model, {name: t for name, t in state.items() if name not in entries})


def test_flag_starts_the_classes_anew_even_if_their_number_is_the_same():
    state = Model().state_dict()
    model = Model()
    coverage = load_into(model, state, reinitialise_classes=True)
    assert "core.head.conf_layer.weight" in coverage.reshaped
    assert "core.head.conf_layer.weight" in differing(model, state)


def test_other_shapes_are_no_matter_of_classes():
    state = Model(anchor_ratios=(1.0, 2.0)).state_dict()
    for flag in (False, True):
        with pytest.raises(
            ValueError, match=r"core.head.bbox_layer.weight is \(8, 8, 3, 3\).*\(12,"
        ):
            load_into(Model(), state, reinitialise_classes=flag)


def test_another_architecture_names_both():
    detector = {
        f"backbone.{name}": t for name, t in DeformableResNet(depth=18).state_dict().items()
    }
    others = {
        "roi_heads.box_predictor.cls_score.weight": "a Detectron2 R-CNN",
        "roi_head.bbox_head.fc_cls.weight": "an MMDetection two-stage detector",
        "bbox_head.conv_cls.weight": "an MMDetection single-stage detector",
        "core.something.weight": "core.something",
        "backbone.fc.weight": "a bare backbone",
    }
    for name, words in others.items():
        with pytest.raises(ValueError, match="another architecture") as error:
            load_into(Model(), {**detector, name: torch.zeros(1)})
        assert words in str(error.value) and "the model is Yolact" in str(error.value)


def test_authors_checkpoint_must_be_imported_first():
    with pytest.raises(ValueError, match="metaheads import-weights"):
        load_into(Model(), {"prediction_layers.0.bbox_layer.weight": torch.zeros(1)})


def test_models_of_the_hosts_own():
    def build(classes: int) -> nn.Module:
        head = nn.ModuleDict({"shared": nn.Linear(4, 6), "classes": nn.Linear(6, classes + 1)})
        return nn.ModuleDict({"backbone": nn.Linear(3, 4), "roi_heads": head})

    model, state = build(3), build(5).state_dict()
    with pytest.raises(ValueError, match=r"6 outputs in roi_heads.classes.weight.*4 outputs"):
        load_into(model, state)
    coverage = load_into(model, state, reinitialise_classes=True)
    assert coverage.reshaped == ["roi_heads.classes.weight", "roi_heads.classes.bias"]
    assert not differing(model, {n: t for n, t in state.items() if "classes" not in n})

    state["backbone.weight"] = torch.zeros(5, 3)
    with pytest.raises(ValueError, match="layers of other shapes: backbone.weight;"):
        load_into(model, state, reinitialise_classes=True)
