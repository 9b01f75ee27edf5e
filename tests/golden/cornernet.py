"""The golden cases of CornerNet and CenterNet (triplets)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaheads.architectures.cornernet import CenterNetTriplets, CornerNet, CornerOutputs
from metaheads.architectures.cornernet.decode import (
    Centres,
    Pairs,
    confirm,
    find_centres,
    find_pairs,
)
from metaheads.architectures.cornernet.losses import corner_losses
from metaheads.architectures.cornernet.targets import CornerTargets, make_targets
from metaheads.backbones import Hourglass
from metaheads.datasets.transforms import Record
from metaheads.datasets.warps import CropTransform, pad
from metaheads.heatmaps import gaussian_radius
from metaheads.ops.corner_pool import DIRECTIONS, corner_pool, running_max
from metaheads.ops.soft_nms import soft_nms
from metaheads.structures import Targets
from metaheads.weights import load_into
from metaheads.weights.cornernet import convert

from .cases import Case, UnknownCase, check_known
from .centernet_points import assert_close
from .cornernet_options import KNOWN, KNOWN_RUNS
from .yolact import Network

CLASSES = {"cornernet": CornerNet, "centernet_triplets": CenterNetTriplets}
FIELDS = {
    "tl_heat": "tl_heatmap",
    "br_heat": "br_heatmap",
    "ct_heat": "ct_heatmap",
    "tl_tag": "tl_tags",
    "br_tag": "br_tags",
    "tl_regr": "tl_offsets",
    "br_regr": "br_offsets",
    "ct_regr": "ct_offsets",
}
METHODS = {"exp_soft_nms": "gaussian", "linear_soft_nms": "linear"}


def run(case: Case) -> None:
    """Runs a case of any sort and compares all of its arrays."""
    known = KNOWN[case.system]
    if case.sort not in known:
        raise UnknownCase(f"unknown sort {case.sort!r} of {case.system}")
    check_known(case.options, known[case.sort], f"{case.system} {case.sort}")
    for each in case.options.get("runs", ()):
        check_known(each, KNOWN_RUNS[case.sort], f"a run of {case.system} {case.sort}")
    RUNNERS[case.sort](case)
    case.assert_all_used()


def build_core(case: Case, stacks: int, **others: Any) -> CornerNet:
    options = {"num_classes": case.options["num_classes"], **others}
    return CLASSES[case.system]([256] * stacks, [4] * stacks, **options).eval()


def kinds(case: Case) -> tuple[str, ...]:
    return ("tl", "br", "ct") if case.system == "centernet_triplets" else ("tl", "br")


@torch.no_grad()
def run_forward(case: Case) -> None:
    options = case.options
    backbone = Hourglass(
        num_stacks=options["num_stacks"],
        channels=tuple(options["hg_channels"]),
        blocks=tuple(options["hg_blocks"]),
    )
    assert len(options["hg_channels"]) == options["hg_depth"] + 1
    core = build_core(case, options["num_stacks"], head_channels=options["head_channels"])
    network = Network(backbone, core).eval()
    load_into(network, convert(case.state_dict())[0])
    features = backbone(case.array("image"))
    last = core(features)
    core.training = True  # all stacks
    outputs = core(features)
    assert len(outputs) == options["num_stacks"] and len(last) == 1
    assert torch.equal(last[0].tl_heatmap, outputs[-1].tl_heatmap)
    for stack, maps in enumerate(outputs):
        for theirs, ours in FIELDS.items():
            if getattr(maps, ours) is not None:
                case.compare(f"stack{stack}_{theirs}", getattr(maps, ours))


def read_outputs(case: Case, prefix: str, requires_grad: bool = False) -> CornerOutputs:
    found = {}
    for theirs, ours in FIELDS.items():
        if f"{prefix}_{theirs}" in case:
            found[ours] = case.array(f"{prefix}_{theirs}").requires_grad_(requires_grad)
    return CornerOutputs(**found)


def run_loss(case: Case) -> None:
    options, weights = case.options, case.options["loss_weights"]
    core = build_core(
        case,
        options["num_stacks"],
        pull_weight=weights["pull"],
        push_weight=weights["push"],
        offset_weight=weights["regr"],
    )
    image, row = (case.array("mask") > 0).nonzero(as_tuple=True)
    targets = CornerTargets(
        tuple(case.array(f"target_{kind}_heat") for kind in kinds(case)),
        image,
        tuple(case.array(f"{kind}_ind")[image, row] for kind in kinds(case)),
        tuple(case.array(f"target_{kind}_regr")[image, row] for kind in kinds(case)),
    )
    stacks = [
        read_outputs(case, f"stack{n}", requires_grad=True) for n in range(options["num_stacks"])
    ]
    found = corner_losses(core, stacks, targets)
    assert weights["focal"] == 1.0
    values, count = case.about["values_f64"], options["num_stacks"]

    def expected(*words: str) -> float:
        terms = (value for name, value in values.items() if name.startswith("stack"))
        names = (name for name in values if name.startswith("stack"))
        return sum(v for n, v in zip(names, terms, strict=True) if any(w in n for w in words))

    total = sum(found.values())
    assert_close(float(total), values["total"])
    assert_close(float(found["loss_heatmap"]), expected("focal") / count)
    assert_close(float(found["loss_offset"]), expected("regr") / count)
    assert_close(float(found["loss_pull"]), weights["pull"] * expected("pull") / count)
    assert_close(float(found["loss_push"]), weights["push"] * expected("push") / count)
    total.backward()
    for stack, outputs in enumerate(stacks):
        for theirs, ours in FIELDS.items():
            key = f"grad_stack{stack}_{theirs}"
            if key in case:
                gradient = getattr(outputs, ours).grad
                case.compare(key, torch.zeros(1) if gradient is None else gradient)


def run_targets(case: Case) -> None:
    options = case.options
    boxes = case.array("detections").float()
    image = case.array("source_image").byte().numpy()[..., ::-1]
    record = Record(
        image=np.ascontiguousarray(image),
        boxes=boxes[:, :4].numpy(),
        labels=boxes[:, 4].long().numpy() - 1,
        is_crowd=np.zeros(len(boxes), bool),
    )
    size = tuple(options["input_size"])
    transform = CropTransform(
        size=size, scales=(), flip=0.0, jitter=0.0, lighting=0.0, color_order="bgr"
    )
    record = transform(record)
    step = options["image_step"]
    resized = torch.from_numpy(record.image).permute(2, 0, 1)
    case.compare("image_resized", resized[:, ::step, ::step])
    core = build_core(
        case,
        1,
        min_overlap=options["gaussian_iou"],
        radius_formula=options["radius_formula"],
    )
    target = Targets(
        image_size=size,
        boxes=torch.from_numpy(record.boxes),
        labels=torch.from_numpy(record.labels),
        is_crowd=torch.from_numpy(record.is_crowd),
    )
    found = make_targets(core, [target], tuple(options["output_size"]))
    for index, kind in enumerate(kinds(case)):
        case.compare(f"{kind}_heat", found.heatmaps[index][0])
        case.compare_exactly(f"{kind}_ind", found.cells[index])
        case.compare(f"{kind}_regr", found.offsets[index])
    assert int(case.array("mask").sum()) == len(found.image)
    sizes, formula = case.array("hw_table"), options["radius_formula"]
    radii = [gaussian_radius(sizes, iou, formula) for iou in options["radius_table_iou"]]
    case.compare("radius_table_f64", torch.stack(radii, 1))


def run_decode(case: Case) -> None:
    options = case.options
    height, width = options["image_size"]
    core = build_core(
        case,
        1,
        num_corners=options["top_k"],
        max_tag_distance=options["ae_threshold"],
        num_pairs=options["num_dets"],
        nms=METHODS[options["nms"]],
    )
    core.max_outside = options.get("center_border", core.max_outside)
    views = []
    for index, scale in enumerate(options["scales"]):
        maps = read_outputs(case, f"scale{index}")
        pairs, centres = find_pairs(core, maps), find_centres(core, maps)
        for name, found, place in zip(("orig", "flip"), pairs, centres, strict=True):
            case.compare(f"decoded_scale{index}_{name}", rows_of(found))
            if place is not None:
                case.compare(f"centers_scale{index}_{name}", centre_rows(place))
        size = int(height * scale), int(width * scale)
        warp = pad(size, options["pad"] + 1)
        (seen,) = core.candidates([maps], [warp.size], is_flipped=True)
        views.append(seen.finish(warp.geometry(size).of_resized((height, width))))
    found = Pairs.cat([view.pairs for view in views])
    if "center_scale" in options:
        centres = views[options["scales"].index(options["center_scale"])].centres
        assert centres is not None
        found = found[found.scores.sort(descending=True, stable=True).indices]
        parts = found.boxes, found.scores, found.labels
        scores, is_confirmed = confirm(core, *parts, centres)
        found = replace(found, scores=scores)[is_confirmed]
        found = found[found.scores.sort(descending=True, stable=True).indices]
    compare_final(case, found)


def rows_of(found: Pairs) -> Tensor:
    columns = (found.boxes, found.scores[:, None], found.corner_scores, found.labels[:, None])
    return torch.cat(columns, 1)


def centre_rows(found: Centres) -> Tensor:
    return torch.cat((found.points, found.labels[:, None], found.scores[:, None]), 1)


def compare_final(case: Case, found: Pairs) -> None:
    """Soft-NMS class by class as the authors do it, in their order."""
    options, parts = case.options, []
    for label in range(options["num_classes"]):
        part = found[found.labels == label]
        kept = soft_nms(
            part.boxes,
            part.scores,
            method=METHODS[options["nms"]],
            sigma=options["nms_sigma"],
            iou_threshold=options["nms_threshold"],
            score_threshold=options["nms_score_threshold"],
            votes=part.corner_scores if options["merge_bbox"] else None,
            vote_exponent=options["weight_exp"],
            is_compatible=True,
        )
        parts.append(replace(part[kept.rows], boxes=kept.boxes, scores=kept.scores))
    merged, limit = Pairs.cat(parts), options["max_per_image"]
    if len(merged) > limit:
        merged = merged[merged.scores >= merged.scores.sort(descending=True).values[limit - 1]]
    assert len(merged) == case.about["n_final"]
    columns = (merged.labels[:, None] + 1, merged.boxes, merged.scores[:, None])
    case.compare("final", torch.cat(columns, 1))


def run_nms(case: Case) -> None:
    options, boxes = case.options, case.array("boxes").float()
    for each in options["runs"]:
        kept = soft_nms(
            boxes[:, :4],
            boxes[:, 4],
            method=each["method"],
            sigma=options["sigma"],
            iou_threshold=options["iou_threshold"],
            score_threshold=options["score_threshold"],
            votes=boxes[:, 5:7] if each["merge"] else None,
            vote_exponent=each["weight_exp"] or 10,
            is_compatible=True,
        )
        found = torch.cat((kept.boxes, kept.scores[:, None], boxes[:, 5:7]), 1)
        case.compare(f"{each['prefix']}array", found)
        ours = soft_nms(boxes[:, :4], boxes[:, 4], method=each["method"])
        if not each["merge"]:
            assert len(ours.rows) == case.about["result"][f"{each['prefix']}n_kept"]


def run_pool(case: Case) -> None:
    maps, grad = case.array("x"), case.array("g")
    for each in case.options["runs"]:
        direction, prefix = each["direction"], each["prefix"]
        for is_compatible in (True, False):
            x = maps.clone().requires_grad_()
            pooled = corner_pool(x, direction, is_compatible=is_compatible)
            case.compare_exactly(f"{prefix}out", pooled)
            if is_compatible:
                pooled.backward(grad)
                case.compare(f"{prefix}grad", x.grad)
        x = maps.clone().requires_grad_()
        running_max(x, *DIRECTIONS[direction]).backward(grad)
        case.compare(f"{prefix}grad_cummax", x.grad)


RUNNERS = {
    "forward": run_forward,
    "loss": run_loss,
    "targets": run_targets,
    "decode": run_decode,
    "nms": run_nms,
    "pool": run_pool,
}
