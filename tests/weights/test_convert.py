from __future__ import annotations

import pytest
import torch

from metaheads.backbones import DeformableResNet
from metaheads.weights import Coverage, to_host
from metaheads.weights.convert import rename_keys

RULES = ((r"a\.(\w+)", r"b.\1"), (r"old\..+", None))


def numbered(names) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(float(index)) for index, name in enumerate(names)}


def resnet_names(depth: int = 50, norm: str = "bn") -> list[str]:
    with torch.device("meta"):
        names = DeformableResNet(depth=depth).state_dict()
    return [f"backbone.{name.replace('bn', norm)}" for name in names]


DETECTRON2 = ["backbone.stem.conv1.weight", "backbone.res2.0.conv1.weight"]


def test_rename_keys_reports_what_it_did():
    renamed, coverage = rename_keys(numbered(["a.x", "old.y", "a.z"]), RULES, "anything")
    assert {name: value.item() for name, value in renamed.items()} == {"b.x": 0, "b.z": 2}
    assert coverage == Coverage(used=["a.x", "a.z"], unused=["old.y"])
    assert coverage.summary() == "used 2, missing 0, unused 1 (old.y), reshaped 0"


def test_leftovers_are_listed_but_not_all():
    names = ["a.x", *(f"c.{index}" for index in range(8))]
    with pytest.raises(KeyError, match=r"not a toy: .*c\.0, c\.1, c\.2, c\.3, c\.4 and 3 more"):
        rename_keys(numbered(names), RULES, "a toy")


def test_two_entries_for_one_layer_are_refused():
    with pytest.raises(KeyError, match="several entries"):
        rename_keys(numbered(["a.x", "A.x"]), (*RULES, (r"A\.(\w+)", r"b.\1")), "a toy")


@pytest.mark.parametrize(
    ("ours", "detectron2"),
    [
        ("conv1.weight", "stem.conv1.weight"),
        ("bn1.running_mean", "stem.conv1.norm.running_mean"),
        ("layer1.0.conv1.weight", "res2.0.conv1.weight"),
        ("layer4.2.bn3.bias", "res5.2.conv3.norm.bias"),
        ("layer3.22.conv2.weight", "res4.22.conv2.weight"),
        ("layer2.0.downsample.0.weight", "res3.0.shortcut.weight"),
        ("layer2.0.downsample.1.weight", "res3.0.shortcut.norm.weight"),
        ("bn1.num_batches_tracked", "stem.conv1.norm.num_batches_tracked"),
    ],
)
@pytest.mark.parametrize("body", ["backbone", "backbone.bottom_up"])
def test_resnet_names_by_hand(ours, detectron2, body):
    model_keys = [f"{body}.stem.conv1.weight"]
    assert [*to_host(numbered([f"backbone.{ours}"]), model_keys)] == [f"{body}.{detectron2}"]
    assert [*to_host(numbered([f"{body}.{detectron2}"]), ["backbone.conv1.weight"])] == [
        f"backbone.{ours}"
    ]


@pytest.mark.parametrize("depth", [18, 101])
@pytest.mark.parametrize("norm", ["bn", "gn"])
@pytest.mark.parametrize("body", ["backbone", "backbone.bottom_up"])
def test_there_and_back_again(depth, norm, body):
    names = [*resnet_names(depth, norm), "core.head.conv1.weight", "core.bn1.weight"]
    state = numbered(names)
    there = to_host(state, [f"{body}.stem.conv1.weight"])
    assert len(there) == len(state)
    assert all(
        ".layer" not in name and f".{norm}" not in name for name in there if "core" not in name
    )
    back = to_host(there, names)
    assert list(back) == names
    assert all(back[name] is state[name] for name in names)


def test_what_fits_already_stays():
    for names in (
        resnet_names(18),
        resnet_names(18, "gn"),
        [*to_host(numbered(resnet_names(18)), DETECTRON2)],
    ):
        assert list(to_host(numbered(names), names)) == names


def test_norms_are_called_as_in_the_model():
    names = to_host(
        numbered(["backbone.bn1.weight", "backbone.layer1.0.bn2.weight"]), resnet_names(18, "gn")
    )
    assert list(names) == ["backbone.gn1.weight", "backbone.layer1.0.gn2.weight"]


def test_other_backbones_stay():
    names = ["backbone.preconv.0.weight", "backbone.layers.0.0.0.weight", "core.x"]
    assert list(to_host(numbered(names), DETECTRON2)) == names
    assert list(to_host(numbered(names), names)) == names


@pytest.mark.parametrize("first", [2, 3])
def test_fpn_names(first):
    mmdet = [
        f"neck.{part}.{index}.conv.bias"
        for part in ("lateral_convs", "fpn_convs")
        for index in (0, 1)
    ]
    detectron2 = [
        f"backbone.fpn_{part}{first + index}.bias"
        for part in ("lateral", "output")
        for index in (0, 1)
    ]
    body = "backbone.bottom_up.stem.conv1.weight"
    there = to_host(numbered(["backbone.conv1.weight", *mmdet]), [body, *detectron2])
    assert list(there) == [body, *detectron2]
    assert list(to_host(there, ["backbone.conv1.weight", *mmdet])) == [
        "backbone.conv1.weight",
        *mmdet,
    ]


def test_fpn_norms():
    mmdet, detectron2 = "neck.fpn_convs.1.gn.weight", "backbone.fpn_output3.norm.weight"
    assert list(to_host(numbered([detectron2]), [mmdet])) == [mmdet]
    assert list(to_host(numbered([mmdet]), [*DETECTRON2, detectron2])) == [detectron2]
