"""Checkpoints of CenterNet (objects as points) with the names that the authors' files have."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from metaheads.architectures import CenterNetPoints
from metaheads.backbones import DLA, DeconvResNet, Hourglass
from metaheads.weights import find_importer, load_into

HOURGLASS = dict(channels=(8, 16), blocks=(1, 2), stem_channels=8, feature_channels=8)
BACKBONES = {
    "res_18": lambda: DeconvResNet(deconv_channels=(16, 16, 16)),
    "resdcn_18": lambda: DeconvResNet(deconv_channels=(16, 16, 16), convolution="deformable"),
    "dla_34": lambda: DLA(channels=(8, 8, 8, 16, 24, 32)),
    "hourglass": lambda: Hourglass(**HOURGLASS),
}
# Entry of the authors' files -> shape, of the networks that are built here.
SPOTS = {
    "res_18": {"deconv_layers.0.weight": (512, 16, 4, 4), "hm.0.bias": (8,), "wh.2.bias": (2,)},
    "resdcn_18": {
        "layer4.1.conv2.weight": (512, 512, 3, 3),
        "deconv_layers.0.bias": (16,),
        "deconv_layers.0.conv_offset_mask.weight": (27, 512, 3, 3),
        "deconv_layers.6.conv_offset_mask.bias": (27,),
        "deconv_layers.9.weight": (16, 16, 4, 4),
        "hm.2.weight": (4, 8, 1, 1),
    },
    "dla_34": {
        "base.base_layer.0.weight": (8, 3, 7, 7),
        "base.level3.tree1.project.0.weight": (16, 8, 1, 1),
        "base.level5.root.conv.weight": (32, 88, 1, 1),
        "dla_up.ida_0.proj_1.conv.conv_offset_mask.weight": (27, 32, 3, 3),
        "dla_up.ida_2.node_3.actf.0.running_mean": (8,),
        "ida_up.up_2.weight": (8, 1, 8, 8),
        "reg.0.weight": (8, 8, 3, 3),
    },
    "hourglass": {
        "kps.0.low1.0.skip.0.weight": (16, 8, 1, 1),
        "hm.1.0.conv.weight": (8, 8, 3, 3),
        "wh.0.1.bias": (2,),
    },
}
# What nothing uses in the authors' DLA-34.
UNUSED = {
    "base.fc.weight": (1000, 32, 1, 1),
    "base.fc.bias": (1000,),
    "base.level3.project.0.weight": (16, 8, 1, 1),
    "base.level3.project.1.running_var": (16,),
    "base.level4.project.1.weight": (24,),
}


def build(kind: str, *, num_keypoints: int = 0, num_classes: int = 4) -> nn.Module:
    backbone = BACKBONES[kind]()
    core = CenterNetPoints(
        backbone.channels,
        backbone.strides,
        num_classes=num_classes,
        num_keypoints=num_keypoints,
        head_channels=8,
    )
    return nn.ModuleDict({"backbone": backbone, "core": core})


def in_their_names(model: nn.Module, kind: str) -> dict[str, Tensor]:
    """Heads of an hourglass: `hm.<stack>.0.conv`, `hm.<stack>.1`; others: `hm.0`, `hm.2`."""
    found = {}
    for name, tensor in model.state_dict().items():
        theirs = name.removeprefix("backbone.")
        if match := re.fullmatch(r"core\.heads\.(\d)\.(\w+)\.([02])\.(\w+)", name):
            stack, head, place, part = match.groups()
            theirs = f"{head}.{place}.{part}"
            if kind == "hourglass":
                theirs = f"{head}.{stack}.{'0.conv' if place == '0' else '1'}.{part}"
        found[theirs] = torch.rand_like(tensor, dtype=torch.float32)
    return found


@pytest.mark.parametrize("num_keypoints", [0, 17])
@pytest.mark.parametrize("kind", BACKBONES)
def test_every_entry_finds_its_place(kind, num_keypoints):
    model = build(kind, num_keypoints=num_keypoints)
    theirs = in_their_names(model, kind)
    for spot, shape in SPOTS[kind].items():
        assert theirs[spot].shape == shape
    if num_keypoints:
        head = "hps.1.1.bias" if kind == "hourglass" else "hps.2.bias"
        assert theirs[head].shape == (34,)
    unused = UNUSED if kind == "dla_34" else {}
    theirs = {f"module.{name}": tensor for name, tensor in theirs.items()}
    extra = {f"module.{name}": torch.rand(shape) for name, shape in unused.items()}
    importer = find_importer({**theirs, **extra})
    assert importer.name == "centernet_points"
    converted, coverage = importer.convert({**theirs, **extra})
    assert coverage.unused == list(extra)
    assert load_into(model, converted).missing == []
    for tensor, expected in zip(converted.values(), theirs.values(), strict=True):
        assert tensor is expected


def test_biases_and_offsets_of_deformable_convolutions_arrive():
    model = build("resdcn_18")
    theirs = in_their_names(model, "resdcn_18")
    load_into(model, find_importer(theirs).convert(theirs)[0])
    layer = model["backbone"].deconv_layers[6]
    assert torch.equal(layer.bias, theirs["deconv_layers.6.bias"])
    offsets = layer.conv_offset_mask
    assert torch.equal(offsets.weight, theirs["deconv_layers.6.conv_offset_mask.weight"])


def test_missing_and_unknown_entries_are_named():
    theirs = in_their_names(build("res_18"), "res_18")
    importer = find_importer(theirs)
    with pytest.raises(KeyError, match=r"dep\.0\.weight"):
        importer.convert({**theirs, "dep.0.weight": torch.zeros(1)})
    del theirs["wh.2.weight"]
    with pytest.raises(KeyError, match=r"lacks core\.heads\.0\.wh\.2\.weight"):
        importer.convert(theirs)


def test_another_number_of_classes():
    theirs = in_their_names(build("dla_34"), "dla_34")
    converted, _ = find_importer(theirs).convert(theirs)
    model = build("dla_34", num_classes=2)
    with pytest.raises(ValueError, match="4 classes, the model 2 classes"):
        load_into(model, converted)
    reshaped = load_into(model, converted, reinitialise_classes=True).reshaped
    assert reshaped == ["core.heads.0.hm.2.weight", "core.heads.0.hm.2.bias"]
