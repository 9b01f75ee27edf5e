"""Checkpoints of CornerNet and the triplets with the names that the authors' files have."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from metaheads.architectures import CenterNetTriplets, CornerNet
from metaheads.backbones import Hourglass
from metaheads.weights import find_importer, load_into, read_checkpoint

BOTH = pytest.mark.parametrize(
    ("core_class", "name"), [(CornerNet, "cornernet"), (CenterNetTriplets, "centernet_triplets")]
)
# Our names -> theirs, written down apart from the importer's table.
TO_AUTHORS = (
    (r"backbone\.(.+)", r"\1"),
    (r"core\.stacks\.(\d)\.(tl|br|ct)\.pool\.(.+)", r"\2_cnvs.\1.\3"),
    (r"core\.stacks\.(\d)\.(tl|br|ct)\.heat\.0\.(.+)", r"\2_heats.\1.0.conv.\3"),
    (r"core\.stacks\.(\d)\.(tl|br|ct)\.heat\.2\.(.+)", r"\2_heats.\1.1.\3"),
    (r"core\.stacks\.(\d)\.(tl|br|ct)\.tag\.0\.(.+)", r"\2_tags.\1.0.conv.\3"),
    (r"core\.stacks\.(\d)\.(tl|br|ct)\.tag\.2\.(.+)", r"\2_tags.\1.1.\3"),
    (r"core\.stacks\.(\d)\.(tl|br|ct)\.offset\.0\.(.+)", r"\2_regrs.\1.0.conv.\3"),
    (r"core\.stacks\.(\d)\.(tl|br|ct)\.offset\.2\.(.+)", r"\2_regrs.\1.1.\3"),
)
SPOTS = {
    "module.pre.0.conv.weight": (8, 3, 7, 7),
    "module.kps.1.low2.up1.0.conv1.weight": (16, 16, 3, 3),
    "module.inters_.0.1.running_var": (8,),
    "module.tl_cnvs.0.p1_conv1.conv.weight": (8, 8, 3, 3),
    "module.br_cnvs.1.p_bn1.weight": (8,),
    "module.br_heats.1.0.conv.bias": (8,),
    "module.tl_heats.0.1.weight": (4, 8, 1, 1),
    "module.br_tags.0.1.bias": (1,),
    "module.tl_regrs.1.1.weight": (2, 8, 1, 1),
}
OF_TRIPLETS = {
    "module.tl_cnvs.0.P1_look_conv.weight": (8, 8, 3, 3),
    "module.ct_cnvs.1.p2_conv1.bn.bias": (8,),
    "module.ct_heats.0.1.bias": (4,),
    "module.ct_regrs.1.0.conv.weight": (8, 8, 3, 3),
}


def build(core_class: type[CornerNet]) -> nn.Module:
    backbone = Hourglass(
        channels=(8, 16, 24), blocks=(1, 1, 2), stem_channels=8, feature_channels=8
    )
    core = core_class([8, 8], [4, 4], num_classes=4, pool_channels=8, head_channels=8)
    return nn.ModuleDict({"backbone": backbone, "core": core})


def in_their_names(model: nn.Module, *, prefix: str = "module.") -> dict[str, Tensor]:
    """As torch 0.4 wrote them: without counters of batch norms."""
    found = {}
    for name, tensor in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            pairs = [(re.fullmatch(ours, name), theirs) for ours, theirs in TO_AUTHORS]
            (theirs,) = [match.expand(theirs) for match, theirs in pairs if match]
            found[prefix + theirs] = torch.rand_like(tensor)
    return found


@BOTH
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_every_entry_finds_its_place(core_class, name, prefix):
    model = build(core_class)
    theirs = in_their_names(model, prefix=prefix)
    spots = {**SPOTS, **(OF_TRIPLETS if name == "centernet_triplets" else {})}
    for spot, shape in spots.items():
        assert theirs[prefix + spot.removeprefix("module.")].shape == shape
    importer = find_importer(theirs)
    assert importer.name == name, "what is in the file tells the two apart"
    converted, coverage = importer.convert(theirs)
    assert load_into(model, converted).missing == [] and not coverage.unused
    for (ours, tensor), expected in zip(converted.items(), theirs.values(), strict=True):
        assert torch.equal(model.state_dict()[ours], tensor) and tensor is expected


@BOTH
@pytest.mark.parametrize("zipped", [False, True])
def test_their_files_are_read_although_they_are_called_pkl(core_class, name, zipped, tmp_path):
    theirs, file = in_their_names(build(core_class)), tmp_path / "CornerNet_500000.pkl"
    torch.save(theirs, file, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(file)
    assert found.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in found.items())


@BOTH
def test_missing_and_unknown_entries_are_named(core_class, name):
    theirs = in_their_names(build(core_class))
    importer = find_importer(theirs)
    with pytest.raises(KeyError, match=r"module\.t_heats\.0\.1\.weight"):
        importer.convert({**theirs, "module.t_heats.0.1.weight": torch.zeros(1)})
    del theirs["module.br_heats.0.1.weight"]
    with pytest.raises(KeyError, match=r"lacks core\.stacks\.0\.br\.heat\.2\.weight"):
        importer.convert(theirs)
    assert importer.convert(theirs, complete=False)[0]


@BOTH
def test_another_number_of_classes(core_class, name):
    theirs = in_their_names(build(core_class))
    converted, _ = find_importer(theirs).convert(theirs)
    model = build(core_class)
    fewer = core_class([8, 8], [4, 4], num_classes=3, pool_channels=8, head_channels=8)
    model["core"] = fewer
    with pytest.raises(ValueError, match="4 classes, the model 3 classes"):
        load_into(model, converted)
    kinds = 3 if name == "centernet_triplets" else 2
    reshaped = load_into(model, converted, reinitialise_classes=True).reshaped
    assert len(reshaped) == 2 * 2 * kinds and all(".heat.2." in each for each in reshaped)
