"""Checkpoints with the names that the authors' files have, filled with random numbers."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from metaheads.architectures import Yolact
from metaheads.backbones import Darknet53, DeformableResNet
from metaheads.weights import load_into, yolact


class Model(nn.Module):
    def __init__(self, backbone: nn.Module, **options) -> None:
        super().__init__()
        self.backbone = backbone
        self.core = Yolact(backbone.channels, backbone.strides, **options)


# Our names -> theirs, written down apart from the importer's table.
TO_AUTHORS = [
    (r"backbone\.preconv", "backbone._preconv"),
    (r"backbone\.layer([1-4])\.", lambda m: f"backbone.layers.{int(m[1]) - 1}."),
    (r"core\.head\.upfeature", "prediction_layers.0.upfeature.0"),
    (r"core\.head", "prediction_layers.0"),
    (r"core\.mask_iou_net\.layers", "maskiou_net.maskiou_net"),
    (r"core\.", ""),
]


def authors_name(name: str) -> str:
    for pattern, replacement in TO_AUTHORS:
        renamed = re.sub("^" + pattern, replacement, name)
        if renamed != name:
            return renamed
    return name


def authors_state(model: Model) -> dict[str, Tensor]:
    state = {authors_name(name): tensor for name, tensor in model.state_dict().items()}
    return {name: torch.rand_like(tensor, dtype=torch.float32) for name, tensor in state.items()}


SMALL_ANCHORS = ((24.0, 30.0, 38.0),) * 5
MODELS = {
    "R-50": lambda: Model(DeformableResNet()),
    "R-101 ++": lambda: Model(
        DeformableResNet(depth=101, dcn_blocks=(0, 4, 23, 3), dcn_interval=3),
        use_mask_scoring=True,
        anchor_scales=SMALL_ANCHORS,
    ),
    "Darknet-53": lambda: Model(Darknet53()),
}
# Spot checks from the authors' files: name -> shape.
SPOTS = {
    "R-50": {
        "backbone.conv1.weight": (64, 3, 7, 7),
        "backbone.layers.3.2.bn3.running_var": (2048,),
        "backbone.layers.1.0.downsample.0.weight": (512, 256, 1, 1),
        "fpn.lat_layers.0.weight": (256, 2048, 1, 1),
        "fpn.pred_layers.2.bias": (256,),
        "fpn.downsample_layers.1.weight": (256, 256, 3, 3),
        "proto_net.10.weight": (32, 256, 1, 1),
        "prediction_layers.0.upfeature.0.weight": (256, 256, 3, 3),
        "prediction_layers.0.conf_layer.weight": (243, 256, 3, 3),
        "semantic_seg_conv.weight": (80, 256, 1, 1),
    },
    "R-101 ++": {
        "backbone.layers.2.21.conv2.conv_offset_mask.weight": (27, 256, 3, 3),
        "backbone.layers.2.21.conv2.bias": (256,),
        "backbone.layers.2.22.conv2.weight": (256, 256, 3, 3),
        "maskiou_net.maskiou_net.10.weight": (80, 128, 1, 1),
        "prediction_layers.0.mask_layer.bias": (288,),
    },
    "Darknet-53": {
        "backbone._preconv.0.weight": (32, 3, 3, 3),
        "backbone.layers.0.1.conv1.0.weight": (32, 64, 1, 1),
        "backbone.layers.4.4.conv2.1.running_mean": (1024,),
        "fpn.lat_layers.2.weight": (256, 256, 1, 1),
    },
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_entry_finds_its_place(kind):
    model = MODELS[kind]()
    theirs = authors_state(model)
    for name, shape in SPOTS[kind].items():
        assert tuple(theirs[name].shape) == shape
    state, coverage = yolact.convert(theirs)
    assert coverage.used == list(theirs) and not (coverage.unused or coverage.missing)
    assert all(state[name] is theirs[authors_name(name)] for name in model.state_dict())
    assert (
        load_into(model, state).summary() == f"used {len(theirs)}, missing 0, unused 0, reshaped 0"
    )


def test_what_version_1_stored_in_vain_is_dropped_and_reported():
    model = MODELS["R-50"]()
    theirs = authors_state(model)
    vain = {
        "backbone.layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1),
        "backbone.layer4.2.bn3.bias": torch.zeros(2048),
        "fpn.downsample_layers.2.weight": torch.zeros(256, 256, 3, 3),
        "fpn.downsample_layers.4.bias": torch.zeros(256),
    }
    state, coverage = yolact.convert({**vain, **theirs})
    assert coverage.unused == list(vain)
    load_into(model, state)


def part(**others: Tensor) -> dict[str, Tensor]:
    """The core only, which is all that the checks below need, and the backbone's first layer."""
    with torch.device("meta"):
        core = Yolact([512, 1024, 2048], [8, 16, 32])
    names = [authors_name(f"core.{name}") for name in core.state_dict()]
    return dict.fromkeys([*names, "backbone.conv1.weight"], torch.zeros(1)) | others


def test_unknown_entries_are_refused():
    with pytest.raises(KeyError, match="nobody knows: flow_net.conv.weight"):
        yolact.convert(part(**{"flow_net.conv.weight": torch.zeros(1)}))
    with pytest.raises(KeyError, match="nobody knows: prediction_layers.1.bbox_layer.bias"):
        yolact.convert(part(**{"prediction_layers.1.bbox_layer.bias": torch.zeros(1)}))


def test_missing_entries_are_refused():
    yolact.convert(part())
    for name in part():
        with pytest.raises(
            KeyError, match=r"lacks (core\.|backbone\.conv1\.weight)[^,]*: the file"
        ):
            yolact.convert({n: t for n, t in part().items() if n != name})
    with pytest.raises(KeyError, match="and 32 more"):
        yolact.convert({})


def test_a_part_of_a_checkpoint():
    state, coverage = yolact.convert({"proto_net.0.bias": torch.zeros(3)}, complete=False)
    assert list(state) == ["core.proto_net.0.bias"] and coverage.used == ["proto_net.0.bias"]
