from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from metaheads.architectures.retinaface import RetinaFaceOutputs
from metaheads.architectures.retinaface.graph import ChebyshevConv, scaled_laplacian
from metaheads.architectures.retinaface.losses import edge_lengths, prior_losses
from metaheads.mesh import MeshTopology

from .examples import PAPER, SIZE, empty_outputs, make_core, make_features, make_targets, write_mesh

FACES = [[10.0, 10, 40, 44], [50, 20, 62, 36]]
SITUATIONS = {
    "faces": {"boxes": FACES},
    "nothing": {"boxes": []},
    "only crowds": {"boxes": FACES, "is_crowd": [True, True]},
    "no area": {"boxes": [[5.0, 5, 5, 20], [7, 7, 7, 7]]},
    "one and two pixels": {"boxes": [[5.0, 5, 6, 6], [30, 30, 32, 32]]},
    "no points": {"boxes": FACES, "visibility": 0},
    "larger than the image": {"boxes": [[-500.0, -500, 600, 600]]},
}


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("variant", ["plain", "paper", "mesh", "compatible"])
def test_losses_are_finite_and_every_parameter_learns(situation, variant, tmp_path):
    mesh = {"num_vertices": 4, "mesh_file": write_mesh(tmp_path), "graph_order": 3}
    options = {"plain": {}, "paper": PAPER, "mesh": mesh, "compatible": {"is_compatible": True}}
    core = make_core(**options[variant])
    vertices = 4 if variant == "mesh" else 0
    targets = [make_targets(**SITUATIONS[situation], num_vertices=vertices)] * 2
    if variant == "mesh":
        targets[1] = make_targets(**SITUATIONS[situation], num_vertices=vertices)
        targets[1].vertices[:] = torch.nan
    losses = core.losses(core(make_features()), targets)
    assert all(value.isfinite() for value in losses.values())
    assert ("loss_mesh_edges" in losses) == (variant == "mesh")
    assert ("loss_first_box" in losses) == (variant == "paper")
    sum(losses.values()).backward()
    for name, parameter in core.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_losses_by_hand():
    """Two priors on one face, one of them half a prior to its right; six of the background."""
    core = make_core(anchor_sizes=((10,), (10,), (10,)), negatives_per_positive=1, box_weight=1.0)
    priors = torch.tensor([[10.0, 10, 10, 10], [12, 10, 10, 10]] + [[90.0, 90, 10, 10]] * 6)
    outputs = empty_outputs(core, 8)
    outputs.class_logits[0, :2] = torch.tensor([0.0, 0.0])
    outputs.class_logits[0, 5] = torch.tensor([0.0, 1.0])
    targets = make_targets([[5, 5, 15, 15]])
    targets.keypoints[0, :, :2] = 10.0
    targets.keypoints[0, 1:, 2] = 0
    losses = prior_losses(core, outputs, priors, [targets])
    # The first prior fits; from the second the face is 2 of 0.1 * 10 to the left: smooth L1 1.5.
    assert losses["loss_box"].item() == pytest.approx(1.5 / 2)
    # One known point in the face's middle; smooth L1 of 2 in x again, on two positives.
    assert losses["loss_keypoints"].item() == pytest.approx(1.5 / 2)
    negatives = math.log(1 + math.e) + math.log(1 + math.exp(-10))
    expected = (2 * math.log(2) + negatives) / 2
    assert losses["loss_class"].item() == pytest.approx(expected, rel=1e-5)
    core.keypoint_beta = 0.5  # of the error of 2 an even share is squared no more
    losses = prior_losses(core, outputs, priors, [targets])
    assert losses["loss_keypoints"].item() == pytest.approx(1.75 / 2)


def test_an_image_without_faces_teaches_background():
    core, targets = make_core(), [make_targets([])]
    priors = torch.tensor([[10.0, 10, 10, 10]] * 20)
    outputs = empty_outputs(core, 20)
    logits = outputs.class_logits.clone().requires_grad_()
    prior_losses(core, outputs._replace(class_logits=logits), priors, targets)[
        "loss_class"
    ].backward()
    assert logits.grad is not None and (logits.grad != 0).any(2).sum() == 7
    core.is_compatible = True
    theirs = prior_losses(core, outputs, priors, targets)
    assert theirs["loss_class"] == 0


def test_crowds_teach_no_background():
    core = make_core()
    priors = torch.tensor([[10.0, 10, 10, 10]] * 4 + [[50, 50, 10, 10]])
    outputs = empty_outputs(core, 5)
    logits = outputs.class_logits.clone().requires_grad_()
    targets = make_targets([[0, 0, 20, 20]], is_crowd=[True])
    outputs = outputs._replace(class_logits=logits)
    prior_losses(core, outputs, priors, [targets])["loss_class"].backward()
    assert logits.grad is not None
    assert (logits.grad != 0).any(2)[0].tolist() == [False] * 4 + [True]


def test_the_second_stage_regresses_from_the_boxes_of_the_first():
    core = make_core(**{**PAPER, "anchor_sizes": ((8,), (16,), (32,), (64,))})
    priors = torch.tensor([[20.0, 20, 10, 10]])
    wanted = make_targets([[20, 15, 30, 25]])  # half a prior further to the right: IoU 1/3
    outputs = empty_outputs(core, 1)
    first = empty_outputs(core, 1)._replace(keypoint_deltas=None)
    first.box_deltas[0, 0, 0] = 4.0  # 4 to the right: IoU 9/11 with the face
    losses = prior_losses(core, outputs._replace(first=first), priors, [wanted])
    # By then 1 of 0.1 * 10 is missing: smooth L1 0.5, with a weight of 2.
    assert losses["loss_box"].item() == pytest.approx(2 * 0.5)
    assert losses["loss_first_box"].item() == pytest.approx(2 * 0.5), "forced on its best prior"


def test_each_stage_has_thresholds_of_its_own():
    core = make_core(**PAPER)
    priors = torch.tensor([[20.0, 20, 10, 10], [22, 20, 10, 10]])
    wanted = make_targets([[15, 15, 25, 25]])  # IoU 1 and 2/3: in the first stage neutral
    first, last = empty_outputs(core, 2), empty_outputs(core, 2)
    logits = [each.class_logits.requires_grad_() for each in (first, last)]
    losses = prior_losses(core, last._replace(first=first), priors, [wanted])
    (losses["loss_class"] + losses["loss_first_class"]).backward()
    learns = [(each.grad != 0).any(2)[0].tolist() for each in logits]
    assert learns == [[True, False], [True, True]]


def test_mesh_losses_by_hand(tmp_path):
    """Predictions that are the truth but for a shift have no edge loss; only faces with a mesh."""
    core = make_core(num_vertices=4, mesh_file=write_mesh(tmp_path))
    for head in core.mesh_heads:
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    with torch.no_grad():
        outputs = core(make_features(batch=1))
        targets = make_targets([[8, 8, 24, 24], [40, 30, 56, 46]], num_vertices=4)
        targets.vertices[:] = torch.tensor([16.0, 16, 0])
        targets.vertices[1] = torch.nan
        core.positive_iou, core.negative_iou = (0.99,), (0.99,)
        losses = core.losses(outputs, [targets])
        # Nearest prior of the first face: centre (12, 12) or (20, 20), 16 wide; x, y 4 / 1.6 off.
        assert losses["loss_mesh_vertices"].item() == pytest.approx(2 * 2.5 / 3, rel=1e-4)
        assert losses["loss_mesh_edges"].item() == pytest.approx(0, abs=1e-5)
        targets.vertices[0, 0, 2] = 1.6  # one vertex 1 of 0.1 * 16 nearer: two of five edges are 1
        losses = core.losses(outputs, [targets])
        assert losses["loss_mesh_edges"].item() == pytest.approx(2 / 5, rel=1e-4)
        assert losses["loss_mesh_vertices"].item() == pytest.approx(2 * 2.5 / 3 + 1 / 12, rel=1e-4)


def test_edge_lengths():
    vertices = torch.tensor([[[0.0, 0, 0], [3, 4, 0], [3, 4, 0]]], requires_grad=True)
    lengths = edge_lengths(vertices, torch.tensor([[0, 1], [1, 2]]))
    assert lengths[0].tolist() == pytest.approx([5, 0], abs=1e-5)
    lengths.sum().backward()
    assert vertices.grad is not None and vertices.grad.isfinite().all()


def test_targets_of_another_kind_are_refused(tmp_path):
    features = make_features()
    core = make_core()
    targets = make_targets(FACES)
    targets.keypoints = targets.keypoints[:, :4]
    with pytest.raises(ValueError, match=r"keypoints \(5, 3\).*carry \(4, 3\)"):
        core.losses(core(features), [targets] * 2)
    core = make_core(num_vertices=3)
    with pytest.raises(ValueError, match=r"vertices \(3, 3\).*carry none"):
        core.losses(core(features), [make_targets(FACES)] * 2)
    core = make_core(num_vertices=3, mesh_file=write_mesh(tmp_path))
    with pytest.raises(ValueError, match=r"mesh.json is of 4 vertices in 3 dimensions"):
        core.losses(core(features), [make_targets(FACES, num_vertices=3)] * 2)


def test_half_precision_computes_in_float():
    core = make_core()
    outputs = core(make_features())
    halves = RetinaFaceOutputs(*(None if x is None else x.bfloat16() for x in outputs[:3]))
    exact = core.losses(outputs, [make_targets(FACES)] * 2)
    for name, value in core.losses(halves, [make_targets(FACES)] * 2).items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.05)


def test_the_graph_convolution_begins_as_nothing_and_follows_edges(tmp_path):
    mesh = MeshTopology.from_json(write_mesh(tmp_path))
    layer = ChebyshevConv(mesh.edges, 4, 3, 3, order=2)
    x = torch.zeros(1, 4, 3)
    x[0, 0] = 1
    assert not layer(x).any()
    torch.nn.init.ones_(layer.theta)
    reached = layer(x)[0].any(1).tolist()
    assert reached == [True, True, True, False], "vertex 3 is no neighbour of vertex 0"
    values = torch.linalg.eigvalsh(torch.from_numpy(scaled_laplacian(mesh.edges, 4)))
    torch.testing.assert_close(values.abs().max(), torch.ones((), dtype=torch.float64))


def test_training_lowers_the_losses(tmp_path):
    torch.manual_seed(0)
    options = {"num_vertices": 4, "mesh_file": write_mesh(tmp_path)}
    core = make_core(anchor_sizes=((16,), (32,), (64,)), **options).train()
    targets = [make_targets([[16, 12, 48, 44]], num_vertices=4)] * 2
    optimizer = torch.optim.AdamW(core.parameters(), lr=1e-2)
    totals = []
    for _ in range(60):
        losses = core.losses(core(make_features()), targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        totals.append({name: value.item() for name, value in losses.items()})
    assert all(totals[-1][name] < 0.2 * totals[0][name] + 0.05 for name in totals[0])
    found = core.decode(core(make_features()), [SIZE] * 2)[0]
    torch.testing.assert_close(found.boxes[0], targets[0].boxes[0], atol=2.0, rtol=0)
    torch.testing.assert_close(found.vertices[0], targets[0].vertices[0], atol=4.0, rtol=0)
    assert F.mse_loss(found.keypoints[0, :, :2], targets[0].keypoints[0, :, :2]) < 4
