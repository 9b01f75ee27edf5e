"""The golden cases of RetinaFace (biubug6/Pytorch_Retinaface), run in the neutral core.

Those of its data are in widerface.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metaheads.architectures.retinaface import RetinaFace, RetinaFaceOutputs
from metaheads.architectures.retinaface.decode import choose_boxes, decode_on_priors
from metaheads.architectures.retinaface.graph import ChebyshevConv
from metaheads.architectures.retinaface.losses import prior_losses
from metaheads.architectures.retinaface.targets import (
    assign_priors,
    decode_points,
    encode_points,
    make_priors,
)
from metaheads.backbones import DeformableResNet, MobileNetV1
from metaheads.boxes import decode_boxes, encode_boxes
from metaheads.structures import Targets
from metaheads.weights import find_importer, load_into

from . import widerface
from .cases import Case, UnknownCase, check_known
from .retinaface_options import KNOWN as KNOWN_HERE
from .retinaface_options import RUN
from .yolact import Network

SLOPES = {"leaky_relu_0.1": 0.1, "relu": 0.0}
TERMS = {"loss_loc": "loss_box", "loss_cls": "loss_class", "loss_landm": "loss_keypoints"}
KNOWN = {**KNOWN_HERE, **widerface.KNOWN}
RAW = {"loc": "box_deltas", "conf": "class_logits", "landm": "keypoint_deltas"}


def run(case: Case) -> None:
    """Runs a case of any sort and compares all of its arrays."""
    if case.sort not in KNOWN:
        raise UnknownCase(f"unknown sort {case.sort!r} of retinaface")
    check_known(case.options, KNOWN[case.sort], f"{case.system} {case.sort}")
    for each in case.options.get("runs", ()):
        check_known(each, RUN, f"a run of {case.system} {case.sort}")
    RUNNERS[case.sort](case)
    case.assert_all_used()


def build_core(options: dict[str, Any], **others: Any) -> RetinaFace:
    in_channels = others.pop("in_channels", [4, 4, 4])
    others["anchor_sizes"] = _tuples(options.get("min_sizes", [[16, 32], [64, 128], [256, 512]]))
    if "variances" in options:
        others["variances"] = tuple(options["variances"])
    strides = options.get("steps", [8, 16, 32])
    num_keypoints = options["num_landmarks"]
    return RetinaFace(in_channels, strides, num_keypoints=num_keypoints, **others).eval()


@torch.no_grad()
def run_forward(case: Case) -> None:
    options, slope = case.options, SLOPES[case.options["activation"]]
    backbone: nn.Module = DeformableResNet(depth=50)
    importer = find_importer(case.state_dict(), "retinaface")
    if options["network"] == "mobilenet0.25":
        backbone = MobileNetV1(leaky_slope=slope)
    core = build_core(
        options,
        in_channels=backbone.channels,
        pyramid_channels=options["out_channels"],
        leaky_slope=slope,
    )
    assert backbone.channels == options["in_channels"]
    assert core.num_anchors == (options["num_anchors"],) * 3
    network = Network(backbone, core).eval()
    load_into(network, importer.convert(case.state_dict())[0])

    pixels = case.array("image_rgb").flip(3).permute(0, 3, 1, 2).float()
    assert options["color_order"] == "bgr" and len(pixels) == options["batch_size"]
    images = pixels / 255 * options["input_range"] - torch.tensor(options["mean"])[:, None, None]
    features = backbone(images / torch.tensor(options["std"])[:, None, None])
    levels = core.fpn(features)
    _, contexts = core.stages[0](levels)
    for name, maps in (("body", features), ("fpn", levels), ("ssh", contexts)):
        for number, each in enumerate(maps, 1):
            case.compare(f"{name}{number}", each)
    outputs = core(features)
    for name, field in RAW.items():
        case.compare(name, getattr(outputs, field))
    case.compare("prob", outputs.class_logits.softmax(-1))


def read_targets(case: Case, index: int) -> tuple[Targets, Tensor]:
    """Ground truth of an image in [0, 1], and the authors' labels: 1, or -1 without landmarks."""
    rows = case.array(f"gt{index}")
    points = rows[:, 4:14].unflatten(1, (-1, 2))
    is_known = (rows[:, 14] > 0).float()[:, None, None].expand(-1, points.shape[1], 1)
    count = len(rows)
    targets = Targets(
        (1, 1),
        rows[:, :4],
        torch.zeros(count, dtype=torch.long),
        torch.zeros(count, dtype=torch.bool),
        keypoints=torch.cat((points, is_known), -1),
    )
    return targets, rows[:, 14].long()


def run_loss(case: Case) -> None:
    options, weights = case.options, case.options["loss_weights"]
    assert options["smooth_l1_beta"] == 1.0
    core = build_core(
        options,
        num_classes=options["num_classes"] - 1,
        positive_iou=(options["positive_iou"],),
        negative_iou=(options["positive_iou"],),
        best_prior_iou=options["best_prior_min_iou"],
        negatives_per_positive=options["neg_pos_ratio"],
        box_weight=weights["loc"],
        class_weight=weights["cls"],
        keypoint_weight=weights["landm"],
        is_compatible=True,
    )
    leaves = {field: case.array(name).requires_grad_() for name, field in RAW.items()}
    targets = [read_targets(case, index)[0] for index in range(options["num_images"])]
    losses = prior_losses(core, RetinaFaceOutputs(**leaves), case.array("priors"), targets)
    total = sum(losses.values())
    expected = case.about["results"]["torch.float64"]
    for theirs, ours in TERMS.items():
        value = expected[theirs] * weights[theirs.removeprefix("loss_")]
        assert_close(theirs, losses[ours].item(), value, 1e-5)
    assert_close("total", total.item(), expected["total"], 1e-5)
    total.backward()
    gradients = {name: leaves[field].grad for name, field in RAW.items()}
    for name, gradient in gradients.items():
        assert_close(name, gradient.norm().item(), expected[f"grad_norm_{name}"], 1e-4)
    counts = (gradients["conf"] != 0).any(2).sum(1).tolist()
    assert counts == expected["anchors_in_cls_loss_per_image"]
    case.compare("grad_conf", gradients["conf"])
    for name in ("loc", "landm"):
        rows = (gradients[name] != 0).any(2).nonzero()
        case.compare_exactly(f"grad_{name}__rows", rows)
        image, prior = rows.unbind(1)
        assert_near(gradients[name][image, prior], case.array(f"grad_{name}__values"))


def run_targets(case: Case) -> None:
    options, priors = case.options, case.array("priors")
    variances = tuple(options["variances"])
    for index in range(options["num_images"]):
        targets, labels = read_targets(case, index)
        found = assign_priors(
            priors,
            targets.boxes,
            targets.labels,
            targets.boxes[:0],
            positive_iou=options["positive_iou"],
            negative_iou=options["positive_iou"],
            best_prior_iou=options["best_prior_min_iou"],
            crowd_iof=1.0,
            is_compatible=True,
        )
        positive = found.classes > 0
        matched = found.matched[positive]
        classes = found.classes.clone()
        classes[positive] = labels[matched]
        case.compare_exactly(f"conf_t{index}", classes)
        case.compare_exactly(f"pos_index{index}", positive.nonzero()[:, 0])
        boxes = encode_boxes(targets.boxes[matched], priors[positive], variances)
        assert_near(boxes, case.array(f"loc_t{index}"))
        points = targets.keypoints[matched, :, :2]
        points = encode_points(points, priors[positive], variances[0]).flatten(1)
        assert_near(points, case.array(f"landm_t{index}"))


def run_codec(case: Case) -> None:
    variances = tuple(case.options["variances"])
    priors = case.array("priors")
    case.compare("encoded_loc", encode_boxes(case.array("gt_boxes"), priors, variances))
    points = case.array("gt_landm").unflatten(1, (case.options["num_landmarks"], 2))
    case.compare("encoded_landm", encode_points(points, priors, variances[0]).flatten(1))
    case.compare("decoded_boxes", decode_boxes(case.array("raw_loc"), priors, variances))
    raw = case.array("raw_landm").unflatten(1, (-1, 2))
    case.compare("decoded_landm", decode_points(raw, priors, variances[0]).flatten(1))


def run_priors(case: Case) -> None:
    for each in case.options["runs"]:
        size = tuple(each["image_size"])
        found = make_priors(size, tuple(case.options["steps"]), _tuples(case.options["min_sizes"]))
        case.compare(each["output"], found / torch.tensor([size[1], size[0]] * 2))


def run_postprocess(case: Case) -> None:
    options = case.options
    core = build_core(
        options,
        score_threshold=options["confidence_threshold"],
        max_candidates=options["top_k"],
        nms_iou=options["nms_threshold"],
        has_plus_one=options["nms_plus_one"],
        max_detections=options["keep_top_k"],
    )
    outputs = RetinaFaceOutputs(**{field: case.array(name)[None] for name, field in RAW.items()})
    # In pixels of the original picture, where the authors' NMS works.
    priors = make_priors(tuple(options["image_size"]), core.strides, core.anchor_sizes)
    priors = priors / options["resize"]
    rows, _ = choose_boxes(core, outputs, priors, 0)
    case.compare_exactly("kept_prior_index", rows)
    (found,) = decode_on_priors(core, outputs, priors)
    assert found.keypoints is not None
    points = found.keypoints[..., :2].flatten(1)
    case.compare("dets", torch.cat((found.boxes, found.scores[:, None], points), 1))


def run_mesh_chebconv(case: Case) -> None:
    options = case.options
    edges = np.argwhere(np.triu(case.array("adjacency").numpy()))
    layer = ChebyshevConv(
        edges,
        options["num_vertices"],
        options["in_channels"],
        options["out_channels"],
        options["order"],
    )
    case.compare("laplacian_scaled", layer.laplacian)
    with torch.no_grad():
        layer.theta.copy_(case.array("theta"))
        case.compare("y", layer(case.array("x").float()))


def assert_close(what: str, ours: float, theirs: float, relative: float) -> None:
    assert math.isclose(ours, theirs, rel_tol=relative), f"{what}: {ours}, expected {theirs}"


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def _tuples(sizes: list[list[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(level) for level in sizes)


RUNNERS = {
    "codec": run_codec,
    "forward": run_forward,
    "loss": run_loss,
    "mesh_chebconv": run_mesh_chebconv,
    "postprocess": run_postprocess,
    "priors": run_priors,
    "targets": run_targets,
    **widerface.RUN_SORT,
}
