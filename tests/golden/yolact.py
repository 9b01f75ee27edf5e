"""The golden cases of YOLACT and YOLACT++ (dbolya/yolact), run in the neutral core."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metaheads.architectures.yolact import Yolact, YolactOutputs
from metaheads.architectures.yolact.targets import VARIANCES, assign_priors, make_priors
from metaheads.backbones import Darknet53, DeformableResNet
from metaheads.datasets.transforms import resize_image
from metaheads.structures import Detections, Geometry, Targets
from metaheads.weights import load_into, yolact

from .cases import Case, UnknownCase, check_known
from .yolact_options import KNOWN, KNOWN_RUNS

LOSSES = {
    "B": "loss_box",
    "C": "loss_class",
    "M": "loss_mask",
    "S": "loss_semantic",
    "I": "loss_mask_score",
}


def run(case: Case) -> None:
    """Runs a case of any sort and compares all of its arrays."""
    if case.sort not in KNOWN:
        raise UnknownCase(f"unknown sort {case.sort!r} of yolact")
    check_known(case.options, KNOWN[case.sort], f"{case.system} {case.sort}")
    for each in case.options.get("runs", ()):
        check_known(each, KNOWN_RUNS[case.sort], f"a run of {case.system} {case.sort}")
    RUNNERS[case.sort](case)
    case.assert_all_used()


class Network(nn.Module):
    """Backbone and core under the names that every hosted model uses."""

    def __init__(self, backbone: nn.Module, core: nn.Module) -> None:
        super().__init__()
        self.backbone, self.core = backbone, core


def build_core(options: dict[str, Any], in_channels: list[int], **others: Any) -> Yolact:
    """The core that the options of a case describe."""
    assert tuple(options.get("variances", VARIANCES)) == VARIANCES
    scales = options.get("pred_scales")
    if scales is not None:
        others["anchor_scales"] = tuple(tuple(level) for level in scales)
        others["anchor_ratios"] = tuple(options["aspect_ratios"])
        others["use_square_anchors"] = options["square_anchors"]
    core = Yolact(
        in_channels,
        [8, 16, 32],
        num_classes=options["num_classes"] - 1,
        max_size=options["max_size"],
        num_prototypes=options.get("num_prototypes", 32),
        use_mask_scoring=options["maskiou"],
        **others,
    )
    return core.eval()


def build_backbone(options: dict[str, Any]) -> nn.Module:
    """The backbone that the options of a forward case describe."""
    if options["backbone"] == "darknet53":
        return Darknet53()
    return DeformableResNet(
        depth=int(options["backbone"].removeprefix("resnet")),
        dcn_blocks=tuple(options["dcn_blocks"]),
        dcn_interval=options["dcn_interval"],
    )


def load_mask_iou_net(core: Yolact, case: Case) -> None:
    """Cases without a network still carry the weights of the mask-scoring part, if there is one."""
    state, coverage = yolact.convert(case.state_dict(), complete=False)
    assert len(state) == len(case.about["parameters"]) and not coverage.unused
    names = {name.removeprefix("core."): tensor for name, tensor in state.items()}
    assert set(names) == {name for name in core.state_dict() if name.startswith("mask_iou_net.")}
    core.load_state_dict(names, strict=False)


@torch.no_grad()
def run_forward(case: Case) -> None:
    options = case.options
    backbone = build_backbone(options)
    core = build_core(options, backbone.channels, fpn_channels=options["fpn_channels"])
    network = Network(backbone, core).eval()
    state, _ = yolact.convert(case.state_dict())
    load_into(network, state)

    images = normalise(case.array("image").float().numpy(), options)
    case.compare("input", torch.from_numpy(images).permute(0, 3, 1, 2))

    before_tanh: list[Tensor] = []
    core.head.mask_layer.register_forward_hook(lambda _, __, maps: before_tanh.append(maps))
    features = backbone(case.array("input"))
    outputs = core(features)
    coefficients = torch.cat([core.head._per_prior(maps) for maps in before_tanh], 1)
    case.compare("loc", outputs.box_deltas)
    case.compare("conf_logits", outputs.class_logits)
    case.compare("conf_softmax", outputs.class_logits.softmax(2))
    case.compare("mask_coeff_pre_tanh", coefficients)
    case.compare("mask_coeff", outputs.mask_coefficients)
    case.compare("proto", outputs.prototypes.permute(0, 2, 3, 1))
    case.compare("segm_logits", outputs.semantic_logits)
    case.compare("priors", outputs.priors)
    for name, feature in zip(("C3", "C4", "C5"), features, strict=True):
        case.compare(name, feature)
    for name, level in zip(("P3", "P4", "P5", "P6", "P7"), core.fpn(features), strict=True):
        case.compare(name, level)
    if core.mask_iou_net is not None:
        case.compare("maskiou", core.mask_iou_net(case.array("maskiou_input")[:, 0]))


def run_loss(case: Case) -> None:
    options = case.options
    weights = options["loss_weights"]
    core = build_core(
        options,
        [8, 8, 8],
        fpn_channels=8,
        positive_iou=options["positive_iou"],
        negative_iou=options["negative_iou"],
        crowd_iou=options["crowd_iou"],
        negatives_per_positive=options["neg_pos_ratio"],
        max_mask_positives=options["masks_to_train"],
        min_scored_area=float(options["discard_mask_area"]),
        min_box_size=0.0,  # the authors leave out empty boxes only
        box_weight=weights["bbox"],
        class_weight=weights["conf"],
        mask_weight=weights["mask"],
        semantic_weight=weights["semantic"],
        mask_score_weight=weights["maskiou"],
    )
    load_mask_iou_net(core, case)
    input_size = tuple(options["input_size"])
    case.compare("priors", core_priors(options, input_size))
    targets = [_targets(case, index, input_size) for index in range(options["num_images"])]
    _compare_targets(case, targets)

    leaves = {
        name: case.array(name).requires_grad_() for name in ("loc", "conf", "mask", "proto", "segm")
    }
    outputs = YolactOutputs(
        leaves["loc"],
        leaves["conf"],
        leaves["mask"],
        leaves["proto"].permute(0, 3, 1, 2),
        leaves["segm"],
        case.array("priors"),
    )
    losses = core.losses(outputs, targets)
    _compare_losses(case, losses, leaves)
    sum(losses.values()).backward()
    positive = case.array("conf_t") > 0
    case.compare("grad_total_mask_positive", leaves["mask"].grad[positive])
    for name in ("loc", "conf", "proto", "segm"):
        case.compare(f"grad_total_{name}", leaves[name].grad)


def _targets(case: Case, index: int, size: tuple[int, int]) -> Targets:
    """Ground truth of an image of a loss case; the authors put crowds last, with label -1."""
    rows, crowds = case.array(f"gt{index}"), int(case.array("num_crowds")[index])
    is_crowd = torch.arange(len(rows)) >= len(rows) - crowds
    return Targets(
        image_size=size,
        boxes=rows[:, :4] * torch.tensor([size[1], size[0]] * 2),
        labels=rows[:, 4].long().clamp(min=0),
        is_crowd=is_crowd,
        masks=case.array(f"masks{index}").bool(),
    )


def _compare_targets(case: Case, targets: list[Targets]) -> None:
    found = []
    for index, target in enumerate(targets):
        assert len(target.masks) == len(target.boxes)
        found.append(_assign(case, case.array(f"gt{index}"), target.is_crowd, case.array("priors")))
    classes = torch.stack([each.classes for each in found])
    case.compare_exactly("conf_t", classes)
    positive = classes > 0
    theirs = case.array("matched_gt")[positive]
    assert torch.equal(torch.stack([each.matched for each in found])[positive], theirs)
    box_targets = torch.stack([each.box_targets for each in found])
    case.compare("loc_t_positive", box_targets[positive])


def _assign(case: Case, rows: Tensor, is_crowd: Tensor, priors: Tensor) -> Any:
    options = case.options
    return assign_priors(
        priors,
        rows[~is_crowd, :4],
        rows[~is_crowd, 4].long(),
        rows[is_crowd, :4],
        positive_iou=options["positive_iou"],
        negative_iou=options["negative_iou"],
        crowd_iou=options["crowd_iou"],
    )


def _compare_losses(case: Case, losses: dict[str, Tensor], leaves: dict[str, Tensor]) -> None:
    """Every term and their sum to 1e-5, and the length of every term's gradients."""
    scalars = case.about["scalars"]
    expected = dict(scalars["losses_float64"])
    total = expected.pop("total")
    absent = set(losses) - {LOSSES[key] for key in expected}
    # The original leaves out the mask-score loss when no object is large enough for it.
    assert absent <= {"loss_mask_score"} and not any(losses[name].item() for name in absent)
    for key, value in expected.items():
        _assert_close(f"loss {key}", losses[LOSSES[key]].item(), value, 1e-5)
        lengths = scalars["grad_l2_norm_float64"][key]
        gradients = torch.autograd.grad(
            losses[LOSSES[key]], list(leaves.values()), retain_graph=True, allow_unused=True
        )
        for name, gradient in zip(leaves, gradients, strict=True):
            length = 0.0 if gradient is None else gradient.double().norm().item()
            _assert_close(f"gradient of {key} by {name}", length, lengths[name], 1e-4)
    _assert_close("total loss", sum(losses.values()).item(), total, 1e-5)


def _assert_close(what: str, ours: float, theirs: float, relative: float) -> None:
    assert math.isclose(ours, theirs, rel_tol=relative), f"{what}: {ours}, expected {theirs}"


def core_priors(options: dict[str, Any], input_size: tuple[int, int]) -> Tensor:
    return make_priors(
        level_sizes(input_size),
        tuple(tuple(level) for level in options["pred_scales"]),
        tuple(options["aspect_ratios"]),
        options["max_size"],
        use_square_anchors=options["square_anchors"],
    )


def level_sizes(input_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Sizes of P3..P7, by sending shapes through a small network."""
    with torch.device("meta"):
        backbone = DeformableResNet(depth=18)
        core = Yolact(backbone.channels, backbone.strides, fpn_channels=8)
        levels = core.fpn(backbone(torch.empty(1, 3, *input_size)))
    return [tuple(level.shape[2:]) for level in levels]


def run_targets(case: Case) -> None:
    options = case.options
    input_size = tuple(options["input_size"])
    sizes = level_sizes(input_size)
    priors = core_priors(options, input_size)
    case.compare_exactly("level_sizes", torch.tensor(sizes))
    case.compare_exactly("num_priors", torch.tensor(len(priors)))
    case.compare(f"priors_every_{options['prior_step']}th", priors[:: options["prior_step"]])

    rows, crowds = case.array("gt"), int(case.array("num_crowds"))
    is_crowd = torch.arange(len(rows)) >= len(rows) - crowds
    found = _assign(case, rows, is_crowd, priors)
    case.compare_exactly("conf_t", found.classes)
    positive = (found.classes > 0).nonzero()[:, 0]
    case.compare_exactly("positive_index", positive)
    case.compare_exactly("matched_gt_positive", found.matched[positive])
    case.compare("loc_t_positive", found.box_targets[positive])


@torch.no_grad()
def run_postprocess(case: Case) -> None:
    options = case.options
    outputs = YolactOutputs(
        case.array("loc")[None],
        case.array("conf")[None],
        case.array("mask")[None],
        case.array("proto").permute(2, 0, 1)[None],
        torch.zeros(0),  # for training only
        case.array("priors"),
    )
    for each in options["runs"]:
        if each["cross_class"] and each["nms"] != "fast":
            raise UnknownCase(f"the authors have no cross-class NMS of kind {each['nms']!r}")
        core = build_core(
            options,
            [8, 8, 8],
            fpn_channels=8,
            score_threshold=options["confidence_threshold"],
            nms="fast_cross_class" if each["cross_class"] else each["nms"],
            nms_iou=options["nms_threshold"],
            nms_candidates=options["top_k"],
            max_detections=options["max_detections"],
            rescore_boxes=options["rescore_bbox"],
            crop_masks=each["crop_masks"],
            integer_boxes=True,
        )
        load_mask_iou_net(core, case)
        _compare_run(case, each, core, outputs)


def _compare_run(case: Case, each: dict[str, Any], core: Yolact, outputs: YolactOutputs) -> None:
    size, prefix = case.options["max_size"], each["prefix"]
    counts = case.about["scalars"]["counts"][prefix.rstrip("_")]
    original_size = tuple(case.array("image_size_hw").tolist())
    (found,) = core.decode(outputs, [(size, size)])
    coefficients = _kept_coefficients(core, outputs)[found.scores > each["score_threshold"]]
    found = found[found.scores > each["score_threshold"]]
    assert len(found) == counts["detections"], f"{prefix}: {len(found)} detections"
    finished = found.finish(Geometry.from_resize((size, size), original_size))
    compare: dict[str, Callable[[str], None]] = {
        "classes": lambda key: case.compare_exactly(key, finished.labels),
        "scores": lambda key: case.compare(key, finished.scores),
        "mask_scores": lambda key: case.compare(key, finished.mask_scores),
        "boxes": lambda key: _compare_boxes(case, key, found, finished, original_size),
        "masks": lambda key: case.compare_masks(
            key, finished.masks, counts["pixels_within_1e-4_of_0.5"]
        ),
        "boxes_relative": lambda key: case.compare(key, found.boxes / size),
        "coeff": lambda key: case.compare(key, coefficients),
    }
    for name in each["outputs"]:
        if name not in compare:
            raise UnknownCase(f"unknown output {name!r} of a postprocess run")
        compare[name](prefix + name)


def _compare_boxes(
    case: Case, key: str, found: Detections, finished: Detections, size: tuple[int, int]
) -> None:
    """The finished boxes are whole pixels, and those of the original."""
    found.integer_boxes = False
    exact = found.finish(Geometry.from_resize((case.options["max_size"],) * 2, size)).boxes
    case.compare_whole_pixels(key, exact)
    assert torch.equal(finished.boxes, exact.trunc())


def _kept_coefficients(core: Yolact, outputs: YolactOutputs) -> Tensor:
    """Coefficients of the kept priors, read from masks whose prototypes are one cell each."""
    count, side = outputs.prototypes.shape[1], 64
    single = torch.zeros(1, count, side, side)
    single[0, range(count), 0, range(count)] = 1
    crop, core.crop_masks = core.crop_masks, False
    (found,) = core.decode(outputs._replace(prototypes=single), [(1, 1)])
    core.crop_masks = crop
    return found.masks[:, 0, :count].logit()


def run_preprocess(case: Case) -> None:
    options = case.options
    image = case.array("image_rgb").numpy().astype(np.uint8)
    resized = resize_image(image, (options["max_size"], options["max_size"]))
    ours = torch.from_numpy(normalise(resized, options)).permute(2, 0, 1)[None]
    for each in options["runs"]:  # one kernel of ours for both of theirs: they agree to rounding
        case.compare(each["output"], ours)


def normalise(image: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """(..., 3) RGB 0..255 -> what the network gets."""
    return ((image - options["mean"]) / options["std"]).astype(np.float32)


RUNNERS: dict[str, Callable[[Case], None]] = {
    "forward": run_forward,
    "loss": run_loss,
    "targets": run_targets,
    "postprocess": run_postprocess,
    "preprocess": run_preprocess,
}
