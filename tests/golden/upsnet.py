"""The golden cases of UPSNet."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.hosts.installed import HOSTS
from torch import Tensor
from torchvision.ops import roi_align

from metaheads.architectures.upsnet import UPSNet
from metaheads.architectures.upsnet.decode import (
    Decision,
    SemanticScores,
    clean_up,
    decide,
    dummy,
    prune,
    to_original,
)
from metaheads.architectures.upsnet.losses import (
    NOTHING,
    panoptic_target,
    region_cross_entropy,
    semantic_loss,
)
from metaheads.architectures.upsnet.panoptic_head import UNKNOWN, panoptic_logits
from metaheads.architectures.upsnet.regions import to_inclusive
from metaheads.structures import Geometry
from metaheads.weights import load_into
from metaheads.weights.upsnet import convert

from .cases import Case, UnknownCase, check_known
from .upsnet_options import KNOWN


def run(case: Case) -> None:
    if case.sort not in RUN:
        raise UnknownCase(f"unknown sort {case.sort!r} of UPSNet")
    check_known(case.options, KNOWN[case.sort], case.sort)
    RUN[case.sort](case)
    case.assert_all_used()


def build_core(options: dict[str, Any], **changes: Any) -> UPSNet:
    return UPSNet(
        [256] * 4,
        [4, 8, 16, 32],
        num_things=options["num_things"],
        num_stuff=options["num_stuff"],
        inclusive_boxes=True,
        **changes,
    ).eval()


@torch.no_grad()
def run_semantic_head(case: Case) -> None:
    options = case.options
    core = build_core(options, head_widths=tuple(options["layer_channels"]))
    assert len(options["layer_channels"]) == options["deform_layers"]
    converted, _ = convert(case.state_dict(), complete=False)
    load_into(torch.nn.ModuleDict({"core": core}), converted)
    outputs = core([case.array(f"p{level}") for level in (2, 3, 4, 5)])
    case.compare("fcn_score", outputs.semantic)
    case.compare("fcn_feat", outputs.semantic_features)
    size = [side * options["upsample"] for side in outputs.semantic.shape[-2:]]
    case.compare("fcn_output", F.interpolate(outputs.semantic, size, mode="bilinear"))
    if options["roi_branch"]:
        rois = roi_align(
            outputs.semantic_features,
            case.array("rois"),
            options["roi_resolution"],
            0.25,
            options["roi_sampling_ratio"],
        )
        case.compare("fcn_roi_score", core.semantic_head.score(rois))


def run_panoptic_loss(case: Case) -> None:
    options, truth = case.options, case.about["scalars_float64"]
    weights, stuff = options["loss_weights"], options["num_stuff"]
    scores = case.array("fcn_score").double().requires_grad_()
    keep, labels = case.array("keep"), case.array("gt_classes") - 1
    masks = case.array("mask_logits")[:, 0].double()
    kept = masks[keep].requires_grad_()
    boxes = case.array("gt_boxes")[:, 1:] * options["box_scale"]
    semantic, covered = case.array("seg_gt_4x")[0], case.array("mask_gt")
    is_mask = (covered != 0) & (covered != options["ignore_label"])

    logits = panoptic_logits(scores[0], boxes[keep], labels[keep], kept, stuff)
    case.compare("panoptic_logits", logits[None])
    wanted = panoptic_target(semantic, is_mask[keep], stuff, use_unknown=True)
    case.compare_exactly("panoptic_gt", spell_ignored(wanted)[None])
    loss = region_cross_entropy(logits[None], wanted[None])
    assert_near(loss, truth["panoptic_loss"])
    assert_near(weights["panoptic"] * loss, truth["panoptic_loss_weighted"])
    each = F.cross_entropy(logits[None], wanted[None], ignore_index=NOTHING, reduction="none")
    case.compare("loss_map", each)
    valid = wanted != NOTHING
    assert int(valid.sum()) == truth["valid_pixels"] and wanted.numel() == truth["all_pixels"]
    accuracy = (logits.argmax(0) == wanted)[valid].double().mean()
    assert_near(accuracy, truth["panoptic_accuracy"])
    gradients = torch.autograd.grad(loss, (scores, kept))
    case.compare("grad_fcn_score", gradients[0])
    case.compare("grad_mask_logits", gradients[1][:, None])
    for gradient, name in zip(gradients, ("fcn_score", "mask_logits"), strict=True):
        assert_near(gradient.norm(), truth[f"grad_norm_{name}_of_panoptic_loss"])

    logits = panoptic_logits(scores[0], boxes, labels, masks, stuff, use_unknown=False)
    wanted = panoptic_target(semantic, is_mask, stuff, use_unknown=False)
    case.compare_exactly("panoptic_gt_without_unknown", spell_ignored(wanted)[None])
    without = region_cross_entropy(logits[None], wanted[None])
    assert_near(without, truth["panoptic_loss_without_unknown"])
    check_semantic_losses(case, scores, semantic)


def check_semantic_losses(case: Case, scores: Tensor, semantic: Tensor) -> None:
    options, truth = case.options, case.about["scalars_float64"]
    weights = options["loss_weights"]
    full = semantic.repeat_interleave(4, 0).repeat_interleave(4, 1)
    loss = semantic_loss(scores, full[None])
    assert_near(loss, truth["fcn_loss"])
    assert_near(weights["semantic"] * loss, truth["fcn_loss_weighted"])
    (gradient,) = torch.autograd.grad(loss, scores)
    assert_near(gradient.norm(), truth["grad_norm_fcn_score_of_fcn_loss"])
    if not options["semantic_roi_loss"]:
        return
    rois, wanted = case.array("fcn_roi_score").double().requires_grad_(), case.array("seg_roi_gt")
    loss = region_cross_entropy(rois, wanted.masked_fill(wanted == 255, NOTHING))
    assert_near(loss, truth["fcn_roi_loss"])
    weight = weights["semantic"] * weights["semantic_roi"]
    assert_near(weight * loss, truth["fcn_roi_loss_weighted"])
    (gradient,) = torch.autograd.grad(loss, rois)
    assert_near(gradient.norm(), truth["grad_norm_fcn_roi_score"])


def spell_ignored(wanted: Tensor) -> Tensor:
    return wanted.masked_fill(wanted == NOTHING, 255)


def assert_near(ours: Tensor, theirs: float) -> None:
    assert ours.item() == pytest.approx(theirs, rel=1e-5)


@torch.no_grad()
def run_inference(case: Case) -> None:
    options, truth = case.options, case.about["scalars_float64"]
    core = build_core(
        options,
        score_threshold=options["score_threshold"],
        nms_threshold=options["nms_threshold"],
        max_detections=options["max_detections"],
        max_overlap=options["prune_overlap"],
        stuff_majority=options["stuff_majority"],
        stuff_area_limit=options["stuff_area_limit"],
        dummy_instance=True,
    )
    height, width, scale = case.array("im_info")[0].tolist()
    decoded = decode_boxes(case)
    size = int(height), int(width)
    found = core.select(decoded, case.array("cls_score").softmax(1)[:, 1:], size)
    full = SemanticScores(case.array("fcn_output")[0], 1)
    masks = case.array("mask_logits")[:, 0]
    boxes, labels, scores = to_inclusive(found.boxes), found.labels, found.scores
    if not len(found):
        boxes, labels, masks = dummy(boxes, masks)
        scores = torch.ones(1)
        kept = [0]
    else:
        kept = prune(boxes, labels, masks, full.size, core.max_overlap)
    case.compare("det_prob", scores)
    case.compare("det_rois", F.pad(boxes, (1, 0)))
    case.compare_exactly("det_cls", labels + 1)
    assert len(labels) == truth.get("n_detections", len(labels))
    assert len(kept) == truth.get("n_kept", len(kept))
    case.compare_exactly("keep", torch.tensor(kept))
    parts = boxes[kept], labels[kept], masks[kept]

    logits = panoptic_logits(full.scores, *parts, core.num_stuff)
    case.compare("panoptic_logits", logits[None])
    decision = decide(full, *parts, core.num_stuff)
    unknown = options["unknown_label"]
    winners = decision.winners.masked_fill(decision.winners == UNKNOWN, unknown)
    case.compare_exactly("panoptic_output", winners[None])
    case.compare_exactly("semantic_output", decision.semantic[None])
    original = round(height / scale), round(width / scale)
    geometry = Geometry.from_resize((int(height), int(width)), original)
    decision = Decision(*(to_original(each, geometry) for each in decision))
    cleaned = clean_up(core, decision, parts[1], core.stuff_majority)
    channels = cleaned.channels
    case.compare_exactly("pan_segment", channels.masked_fill(channels < 0, unknown))
    case.compare_exactly("pan_instance", cleaned.numbers)


def decode_boxes(case: Case) -> Tensor:
    """(R, T, 4) boxes of proposals and thing classes: the host's box coder does it in a model."""
    x1, y1, x2, y2 = from_inclusive(case.array("rois")[:, 1:]).unbind(1)
    width, height = x2 - x1, y2 - y1
    deltas = case.array("bbox_pred").unflatten(1, (-1, 4))[:, 1:]
    deltas = deltas / torch.tensor(case.options["bbox_weights"])
    dx, dy, dw, dh = deltas.unbind(2)
    limit = math.log(1000 / 16)
    width, height = width[:, None], height[:, None]
    x, y = dx * width + x1[:, None] + width / 2, dy * height + y1[:, None] + height / 2
    width, height = dw.clamp(max=limit).exp() * width, dh.clamp(max=limit).exp() * height
    return torch.stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2), 2)


def from_inclusive(boxes: Tensor) -> Tensor:
    """The authors' boxes (N, 4) as ours, which end behind their last pixel."""
    return boxes + torch.tensor([0.0, 0.0, 1.0, 1.0])


@torch.no_grad()
def run_forward(case: Case) -> None:
    """In each installed host; the background, which has no box and no mask there, is left out."""
    assert HOSTS, "forward cases of region architectures run inside the hosts"
    converted, _ = convert(case.state_dict())
    images, rois = case.array("data"), case.array("rois")
    assert (rois[:, 0] == 0).all()
    for host in HOSTS:
        model = BUILD[host](case.options).eval()
        load_into(model, converted)
        stages, levels = FEATURES[host](model, images)
        for number, stage in enumerate(stages):
            case.compare(f"res{number + 2}", stage)
        for number, level in enumerate(levels):
            case.compare(f"p{number + 2}", level)
        found = model.raw_outputs(images, [from_inclusive(rois[:, 1:])])
        pairs = zip(found.rpn_logits, found.rpn_deltas, strict=True)
        for number, (logits, deltas) in enumerate(pairs):
            case.compare(f"rpn_cls_p{number + 2}", logits)
            case.compare(f"rpn_box_p{number + 2}", deltas)
        case.compare("fcn_score", found.core.semantic)
        case.compare("rcnn_cls", found.class_logits.roll(1, 1))
        case.compare("rcnn_box", found.box_deltas, skip=4)
        case.compare("mask_logits", found.mask_logits, skip=1)


def build_in_mmdet(options: dict[str, Any]) -> torch.nn.Module:
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    from metaheads.configs import config_root
    from metaheads.hosts.mmdet import MODELS

    register_all_modules()
    model = Config.fromfile(config_root() / "mmdet/_base_/upsnet_r50.py").model
    model.core.update(core_options(options))
    if options["fpn_gap"]:
        model.neck.type = "metaheads.GapFPN"
    if options["backbone_deform_stages"]:
        model.backbone.dcn = dict(type="DCN", deform_groups=1, fallback_on_stride=False)
        model.backbone.stage_with_dcn = tuple(deformable_stages(options))
    for head in (model.roi_head.bbox_head, model.roi_head.mask_head):
        head.num_classes = options["num_things"]
    return MODELS.build(model)


def build_in_detectron2(options: dict[str, Any]) -> torch.nn.Module:
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    from metaheads.configs import config_root
    from metaheads.hosts.detectron2 import add_metaheads_config

    cfg = get_cfg()
    add_metaheads_config(cfg)
    cfg.merge_from_file(str(config_root() / "detectron2/_base_/upsnet_r50.yaml"))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = options["num_things"]
    cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE = deformable_stages(options)
    if options["fpn_gap"]:
        cfg.MODEL.BACKBONE.NAME = "build_resnet_gap_fpn_backbone"
    for name, value in core_options(options).items():
        cfg.MODEL.UPSNET[name.upper()] = value
    return build_model(cfg)


def deformable_stages(options: dict[str, Any]) -> list[bool]:
    return [f"res{stage}" in options["backbone_deform_stages"] for stage in (2, 3, 4, 5)]


def core_options(options: dict[str, Any]) -> dict[str, Any]:
    widths = {2: (128, 128), 3: (256, 128, 128)}[options["deform_layers"]]
    names = ("num_things", "num_stuff")
    counts = {name: options[name] for name in names}
    return {**counts, "head_widths": widths, "inclusive_boxes": True}


def features_in_mmdet(model: torch.nn.Module, images: Tensor) -> tuple[list, list]:
    stages = model.backbone(images)
    return list(stages), list(model.neck(stages))


def features_in_detectron2(model: torch.nn.Module, images: Tensor) -> tuple[list, list]:
    stages = model.backbone.bottom_up(images)
    levels = model.backbone(images)
    return [stages[f"res{n}"] for n in (2, 3, 4, 5)], [levels[f"p{n}"] for n in range(2, 7)]


BUILD = {"mmdet": build_in_mmdet, "detectron2": build_in_detectron2}
FEATURES = {"mmdet": features_in_mmdet, "detectron2": features_in_detectron2}
RUN = {
    "forward": run_forward,
    "inference": run_inference,
    "panoptic_loss": run_panoptic_loss,
    "semantic_head": run_semantic_head,
}
