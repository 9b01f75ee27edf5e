from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from metaheads.architectures import RetinaFace
from metaheads.backbones import DeformableResNet, MobileNetV1, SlimNet
from metaheads.weights import find_importer, load_into
from metaheads.weights.retinaface import convert

SMALL = ((10, 20), (32, 64), (128, 256))
SLIM = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))


class Network(nn.Module):
    def __init__(self, backbone: nn.Module, **options) -> None:
        super().__init__()
        self.backbone = backbone
        self.core = RetinaFace(backbone.channels, backbone.strides, **options)


def mobilenet(slope: float = 0.1, **options) -> Network:
    return Network(MobileNetV1(leaky_slope=slope), leaky_slope=slope, **options)


def in_their_names(network: Network, prefix: str = "module.") -> dict[str, Tensor]:
    """The state dict as biubug6's code names it."""
    heads = {"scores": "ClassHead", "boxes": "BboxHead", "keypoints": "LandmarkHead"}
    found = {}
    for name, value in network.state_dict().items():
        parts = name.split(".")
        if parts[0] == "backbone":
            parts[0] = "body"
        elif parts[1] == "fpn":
            kind = {"laterals": "output", "merges": "merge"}[parts[2]]
            parts = ["fpn", f"{kind}{int(parts[3]) + 1}", *parts[4:]]
        elif parts[3] == "contexts":
            parts = [f"ssh{int(parts[4]) + 1}", *parts[5:]]
        else:
            parts = [heads[parts[4]], parts[5], "conv1x1", parts[6]]
        found[prefix + ".".join(parts)] = value
    return found


@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize("counted", [True, False])
def test_every_entry_finds_its_place(prefix, counted):
    source, target = mobilenet(), mobilenet()
    theirs = in_their_names(source, prefix)
    if not counted:
        theirs = {n: v for n, v in theirs.items() if "num_batches_tracked" not in n}
    converted, coverage = convert(theirs)
    assert not coverage.unused
    assert not load_into(target, converted).missing
    for name, value in source.state_dict().items():
        assert torch.equal(value, target.state_dict()[name]), name


def test_which_network_a_mobilenet_is_has_to_be_said():
    theirs = in_their_names(mobilenet())
    with pytest.raises(ValueError, match=r"--from retinaface .* or --from retinaface_1mb"):
        find_importer(theirs)
    assert find_importer(theirs, "retinaface_1mb").name == "retinaface_1mb"
    resnet = Network(DeformableResNet(depth=18), pyramid_channels=256, leaky_slope=0.0)
    assert find_importer(in_their_names(resnet)).name == "retinaface"
    assert find_importer({"loc.0.0.weight": 0, "landm.0.0.weight": 0}).name == "retinaface_1mb"


@pytest.mark.parametrize(
    ("origin", "network"),
    [
        ("retinaface", mobilenet()),
        ("retinaface_1mb", mobilenet(0.0, anchor_sizes=SMALL)),
        ("retinaface", Network(DeformableResNet(depth=18), leaky_slope=0.0)),
        (
            "retinaface_1mb",
            Network(SlimNet(), pyramid_channels=0, head="separable", anchor_sizes=SLIM),
        ),
    ],
)
def test_the_right_config_passes(origin, network):
    find_importer({}, origin).check(network)


@pytest.mark.parametrize(
    ("origin", "network", "words"),
    [
        ("retinaface", mobilenet(anchor_sizes=SMALL), r"anchor_sizes \(\(16, 32\).*config has"),
        ("retinaface_1mb", mobilenet(), r"\(\(10, 20\).*leaky_slope \(0, 0\).*leaky_slope \(0.1"),
        ("retinaface", mobilenet(0.0), r"leaky_slope \(0.1, 0.1\)"),
        (
            "retinaface_1mb",
            Network(SlimNet(), pyramid_channels=0, head="separable", anchor_sizes=SLIM[::-1]),
            "the slim network of retinaface_1mb",
        ),
    ],
)
def test_a_config_of_another_network_is_refused(origin, network, words):
    with pytest.raises(ValueError, match=words) as caught:
        find_importer({}, origin).check(network)
    assert "the other --from" in str(caught.value)


def test_a_backbone_alone():
    entries = {f"module.{n}": v for n, v in MobileNetV1().state_dict().items()}
    entries["module.fc.weight"] = torch.zeros(1000, 256)
    with pytest.raises(KeyError, match="lacks heads for scores, boxes, keypoints"):
        convert(entries)
    converted, coverage = convert(entries, complete=False)
    assert coverage.unused == ["module.fc.weight"]
    target = mobilenet()
    load_into(target, converted, allow_partial=True)
    assert torch.equal(target.backbone.stage1[0][0].weight, entries["module.stage1.0.0.weight"])


def test_other_files_are_refused():
    with pytest.raises(KeyError, match="entries that nobody knows: neck.weight"):
        convert({"neck.weight": torch.zeros(1)})
