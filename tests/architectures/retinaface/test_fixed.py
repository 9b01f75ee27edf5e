from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from metaheads.architectures.retinaface.decode import mesh_deltas
from metaheads.architectures.retinaface.fixed import slot_mesh_deltas

from .examples import PAPER, SIZE, make_core, make_features, write_mesh

KINDS = {
    "authors": {},
    "boxes only": {"num_keypoints": 0},
    "classes": {"num_classes": 3},
    "few slots": {"max_detections": 7},
    "few candidates": {"max_candidates": 20},
    "exact": {"has_plus_one": False},
    "1MB": {"pyramid_channels": 0, "head": "separable", "num_vertices": 4},
    "mesh": {"num_vertices": 4},
    "paper": {**PAPER, "num_vertices": 4, "vertex_dimensions": 2},
}


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_the_same_as_decode(name):
    core = make_core(**KINDS[name]).eval()
    outputs = core(make_features())
    outputs = outputs._replace(class_logits=3 * torch.randn_like(outputs.class_logits))
    core.score_threshold = float(outputs.class_logits.softmax(2)[..., 1:].quantile(0.8))
    fixed = core.decode_fixed(outputs, SIZE)
    count = outputs.box_deltas.shape[1] * core.num_classes
    assert fixed.scores.shape[1] == min(core.max_detections, core.max_candidates, count)
    for index, expected in enumerate(core.decode(outputs, [SIZE, SIZE])):
        found = fixed.of_image(index)
        assert len(found) == len(expected) > 3
        for field in ("boxes", "scores", "labels", "keypoints", "vertices"):
            one, other = getattr(expected, field), getattr(found, field)
            assert (one is None) == (other is None), field
            if one is not None:
                assert_close(other, one, atol=1e-3, rtol=1e-5)


@torch.no_grad()
def test_of_equal_scores_the_first_wins():
    core = make_core(max_detections=5000).eval()
    outputs = core(make_features((200, 300), batch=1))
    outputs = outputs._replace(class_logits=1e3 * torch.randn_like(outputs.class_logits))
    (expected,) = core.decode(outputs, [(200, 300)])
    found = core.decode_fixed(outputs, (200, 300)).of_image(0)
    assert (expected.scores == 1).sum() > 100
    rows = found.boxes.tolist(), expected.boxes.tolist()
    assert_close(*(torch.tensor(sorted(each)) for each in rows))  # in what order, nobody says


@torch.no_grad()
def test_nothing_found():
    core = make_core(num_vertices=4).eval()
    outputs = core(make_features())
    outputs.class_logits[..., 0] = 50.0
    fixed = core.decode_fixed(outputs, SIZE)
    assert (fixed.scores == -1).all() and not len(fixed.of_image(0))
    assert all(torch.isfinite(each).all() for each in fixed if each is not None)


@torch.no_grad()
def test_meshes_of_slots(tmp_path):
    """Every prior, in any order, in both images; refined by the graph convolution."""
    core = make_core(num_vertices=4, mesh_file=write_mesh(tmp_path), graph_order=2)
    torch.nn.init.normal_(core.mesh_refiner.theta)
    outputs = core(make_features())
    count = outputs.box_deltas.shape[1]
    rows = torch.stack([torch.randperm(count), torch.randperm(count)])
    images = torch.arange(2)[:, None].expand_as(rows).flatten()
    expected = mesh_deltas(core, outputs.mesh_features, images, rows.flatten())
    found = slot_mesh_deltas(core, outputs.mesh_features, rows)
    assert_close(found.flatten(0, 1), expected)


def test_tracing_keeps_no_priors():
    """A graph's own tensors must not serve the next image."""
    core = make_core().eval()
    torch.export.export(Decoder(core), (make_features(),))
    (found, _) = core.decode(core(make_features()), [SIZE, SIZE])
    assert type(found.boxes) is torch.Tensor


class Decoder(torch.nn.Module):
    def __init__(self, core):
        super().__init__()
        self.core = core

    def forward(self, features):
        return self.core.decode_fixed(self.core(features), SIZE)
