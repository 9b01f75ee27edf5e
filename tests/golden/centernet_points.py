"""The golden cases of CenterNet, objects as points (xingyizhou/CenterNet)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from metaheads.architectures.centernet_points import CenterNetPoints, PointOutputs
from metaheads.architectures.centernet_points.losses import point_losses
from metaheads.architectures.centernet_points.targets import PointTargets, make_targets
from metaheads.backbones import DLA, DeconvResNet, Hourglass
from metaheads.datasets.transforms import Record
from metaheads.datasets.warps import WarpTransform, fit, keep_resolution, warp_record
from metaheads.ops.soft_nms import soft_nms
from metaheads.structures import Detections, Targets
from metaheads.weights import load_into
from metaheads.weights.centernet_points import convert

from .cases import Case, UnknownCase, check_known, load_fill
from .centernet_points_options import KNOWN
from .yolact import Network

HEADS = {
    "hm": "heatmap",
    "wh": "sizes",
    "reg": "offsets",
    "hps": "joints",
    "hm_hp": "joint_heatmap",
    "hp_offset": "joint_offsets",
}
PAIRS = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))
TERMS = {
    "hm_loss": ("loss_heatmap", "hm"),
    "wh_loss": ("loss_size", "wh"),
    "off_loss": ("loss_offset", "off"),
    "hp_loss": ("loss_joint", "hps"),
    "hm_hp_loss": ("loss_joint_heatmap", "hm_hp"),
    "hp_offset_loss": ("loss_joint_offset", "off"),
}


def run(case: Case) -> None:
    """Runs a case of any sort and compares all of its arrays."""
    if case.sort not in KNOWN:
        raise UnknownCase(f"unknown sort {case.sort!r} of centernet_points")
    check_known(case.options, KNOWN[case.sort], f"{case.system} {case.sort}")
    RUNNERS[case.sort](case)
    case.assert_all_used()


def build_core(options: dict[str, Any], in_channels: list[int], **others: Any) -> CenterNetPoints:
    return CenterNetPoints(
        in_channels,
        [options.get("down_ratio", 4)] * len(in_channels),
        num_classes=others.pop("num_classes", None) or options["num_classes"],
        class_specific_sizes=options.get("cat_spec_wh", False),
        **others,
    ).eval()


def build_backbone(options: dict[str, Any]) -> nn.Module:
    name = options["backbone"]
    if name == "dla34":
        return DLA()
    if name == "hourglass104":
        return Hourglass(num_stacks=options["num_stacks"])
    convolution = "deformable" if name.startswith("resnetdcn") else "none"
    depth = int(name.removeprefix("resnet").removeprefix("dcn"))
    channels = tuple(options["deconv_channels"])
    return DeconvResNet(depth=depth, deconv_channels=channels, convolution=convolution)


@torch.no_grad()
def run_forward(case: Case) -> None:
    options, heads = case.options, case.options["heads"]
    backbone = build_backbone(options)
    core = build_core(
        options,
        backbone.channels,
        num_classes=heads["hm"],
        num_keypoints=heads.get("hm_hp", 0),
        head_channels=options["head_conv"],
    )
    network = Network(backbone, core).eval()
    load_into(network, convert(case.state_dict())[0])
    features = backbone(case.array("image"))
    last = core(features)
    core.training = True  # all stacks
    outputs = core(features)
    assert len(outputs) == options["num_stacks"] and len(last) == 1
    assert torch.equal(last[0].heatmap, outputs[-1].heatmap)
    for stack, maps in enumerate(outputs):
        for name in heads:
            case.compare(f"stack{stack}_{name}", getattr(maps, HEADS[name]))


def read_outputs(case: Case, prefix: str, requires_grad: bool = False) -> PointOutputs:
    found = {}
    for name, field in HEADS.items():
        if f"{prefix}_{name}" in case:
            found[field] = case.array(f"{prefix}_{name}").requires_grad_(requires_grad)
    return PointOutputs(**found)


def read_targets(case: Case) -> PointTargets:
    """The case's padded arrays as a flat list of objects; all of them, trained or not."""
    masks = {n: case.array(f"t_{n}") > 0 for n in ("reg_mask", "hps_mask") if f"t_{n}" in case}
    used = masks["reg_mask"].clone()
    if "hps_mask" in masks:
        used |= masks["hps_mask"].any(2)
    image, row = used.nonzero(as_tuple=True)
    extra: dict[str, Tensor] = {}
    labels = torch.zeros_like(image)
    if "t_cat_spec_mask" in case:
        spread = case.array("t_cat_spec_mask")[image, row] > 0
        labels = spread.unflatten(1, (-1, 2)).any(2).long().argmax(1)
        sizes = case.array("t_cat_spec_wh")[image, row].unflatten(1, (-1, 2))
        sizes = sizes[torch.arange(len(labels)), labels]
        if "t_wh" in case:
            case.array("t_wh")
    else:
        sizes = case.array("t_wh")[image, row]
    if "hps_mask" in masks:
        joint = case.array("t_hp_mask") > 0
        joint_image, place = joint.nonzero(as_tuple=True)
        extra = {
            "joints": case.array("t_hps")[image, row].unflatten(1, (-1, 2)),
            "has_joint": masks["hps_mask"][image, row].unflatten(1, (-1, 2)).all(2),
            "joint_heatmap": case.array("t_hm_hp"),
            "joint_image": joint_image,
            "joint_cell": case.array("t_hp_ind")[joint_image, place],
            "joint_offsets": case.array("t_hp_offset")[joint_image, place],
        }
    return PointTargets(
        case.array("t_hm"),
        image,
        case.array("t_ind")[image, row],
        labels,
        sizes,
        case.array("t_reg")[image, row],
        masks["reg_mask"][image, row],
        **extra,
    )


def run_loss(case: Case) -> None:
    options, weights = case.options, case.options["loss_weights"]
    core = build_core(
        options,
        [8] * options["num_stacks"],
        num_keypoints=options["num_joints"],
        size_weight=weights["wh"],
        offset_weight=weights["off"],
        joint_weight=weights.get("hps", 1.0),
        joint_heatmap_weight=weights.get("hm_hp", 1.0),
    )
    stacks = [
        read_outputs(case, f"stack{n}", requires_grad=True) for n in range(options["num_stacks"])
    ]
    found = point_losses(core, stacks, read_targets(case))
    total = sum(found.values())
    assert weights["hm"] == 1.0
    values = case.about["values_f64"]
    assert_close(float(total), values["loss"])
    for theirs, (ours, weight) in TERMS.items():
        if theirs in values:
            assert_close(float(found[ours]) / weights[weight], values[theirs])
    total.backward()
    for stack, outputs in enumerate(stacks):
        for name, field in HEADS.items():
            if f"grad_stack{stack}_{name}" in case:
                case.compare(f"grad_stack{stack}_{name}", getattr(outputs, field).grad)


def assert_close(ours: float, theirs: float) -> None:
    assert abs(ours - theirs) <= 1e-5 * max(abs(theirs), 1e-3), (ours, theirs)


class Draws:
    """numpy's generator with the draws of the authors' code."""

    def __init__(self, case: Case) -> None:
        self._rng = np.random.RandomState(max(case.options["random_seed"], 0))
        self._rotates = case.options["task"] == "multi_pose"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rng, name)

    def random(self) -> float:
        if self._rotates:
            self._rng.random_sample()  # whether to rotate, which they never do by default
        return self._rng.random_sample()


def run_targets(case: Case) -> None:
    options = case.options
    boxes = case.array("boxes").float()
    image = case.array("source_image").byte().numpy()[..., ::-1]
    record = Record(
        image=np.ascontiguousarray(image),
        boxes=boxes[:, :4].numpy(),
        labels=boxes[:, 4].long().numpy() - 1,
        is_crowd=np.zeros(len(boxes), bool),
        keypoints=case.array("keypoints").float().numpy() if "keypoints" in case else None,
    )
    if options["split"] == "val" and options["keep_res"]:
        record = warp_record(record, keep_resolution(image.shape[:2], options["pad"] + 1))
    else:
        is_train = options["split"] == "train"
        transform = WarpTransform(
            size=tuple(options["input_size"]),
            scales=tuple(options["crop_scales"]) if is_train else (),
            border=options["crop_border"],
            flip=options["flip_prob"] if is_train else 0.0,
            jitter=0.0,
            lighting=0.0,
            color_order="bgr",
            keypoint_flip_pairs=PAIRS,
        )
        record = transform(record, Draws(case))
    core = build_core(options, [8], num_keypoints=options["num_joints"])
    size = record.image.shape[:2]
    target = Targets(
        image_size=size,
        boxes=torch.from_numpy(record.boxes),
        labels=torch.from_numpy(record.labels),
        is_crowd=torch.from_numpy(record.is_crowd),
        keypoints=None if record.keypoints is None else torch.from_numpy(record.keypoints),
    )
    found = make_targets(core, [target], (size[0] // 4, size[1] // 4))
    step = options["input_step"]
    case.compare("input", normalise(record.image, options)[:, ::step, ::step])
    compare_targets(case, found)


def compare_targets(case: Case, found: PointTargets) -> None:
    case.compare("hm", found.heatmap[0])
    rows = (case.array("wh") > 0).all(1)  # objects that were dropped leave an empty row
    case.compare_exactly("reg_mask", fill(rows, found.has_box.long()))
    case.compare_exactly("ind", fill(rows, found.cell))
    case.compare("wh", fill(rows, found.sizes))
    case.compare("reg", fill(rows, found.offsets))
    case.array("gt_det")  # the same numbers once more
    if found.joints is None:
        return
    assert found.has_joint is not None and found.joint_heatmap is not None
    assert found.joint_cell is not None and found.joint_offsets is not None
    has_joint = found.has_joint[..., None].expand(-1, -1, 2)
    case.compare_exactly("hps_mask", fill(rows, has_joint.flatten(1).long()))
    case.compare("hps", fill(rows, (found.joints * has_joint).flatten(1)))
    case.compare("hm_hp", found.joint_heatmap[0])
    is_joint = fill(rows, found.has_joint.long()).flatten() > 0
    case.compare_exactly("hp_mask", is_joint.long())
    case.compare_exactly("hp_ind", fill(is_joint, found.joint_cell))
    case.compare("hp_offset", fill(is_joint, found.joint_offsets))


def fill(rows: Tensor, values: Tensor) -> Tensor:
    """Values at the rows that are True, zeros elsewhere."""
    padded = values.new_zeros(len(rows), *values.shape[1:])
    padded[rows] = values
    return padded


def normalise(image: np.ndarray, options: dict[str, Any]) -> Tensor:
    """(H, W, 3) BGR on 0..255 -> (3, H, W)."""
    mean, std = np.float32(options["mean"]), np.float32(options["std"])
    return torch.from_numpy((image.astype(np.float32) / 255 - mean) / std).permute(2, 0, 1)


def run_decode(case: Case) -> None:
    options = case.options
    height, width = options["image_size"]
    image = load_fill().image(height, width, seed=options["image_seed"])[..., ::-1]
    core = build_core(
        options, [8], num_keypoints=options["num_joints"], max_detections=options["top_k"]
    )
    found = []
    for index, scale in enumerate(options["scales"]):
        size = int(height * scale), int(width * scale)
        scaled = image if scale == 1 else cv2.resize(image, size[::-1])
        if options["fix_res"]:
            # Of the unscaled image, which is wrong but for a scale of 1.
            warp = replace(fit(size, tuple(options["input_size"])), extent=max(height, width))
        else:
            warp = keep_resolution(size, options["pad"] + 1)
        step = options["input_step"]
        pixels = normalise(warp.pixels(np.ascontiguousarray(scaled)), options)
        case.compare(f"input_scale{index}", pixels[:, ::step, ::step])
        outputs = [read_outputs(case, f"scale{index}")]
        (detections,) = core.candidates(outputs, [warp.size], is_flipped=options["flip"])
        case.compare(f"decoded_scale{index}", rows_of(detections, core.stride))
        geometry = warp.geometry((height, width))
        detections.boxes = geometry.boxes_to_original(detections.boxes) / scale
        if detections.keypoints is not None:
            points = geometry.points_to_original(detections.keypoints[..., :2]) / scale
            detections.keypoints = torch.cat((points, detections.keypoints[..., 2:]), -1)
        found.append(detections)
    merged = merge_scales(found, always=options["nms"], core=core)
    compare_final(case, merged, options)


def rows_of(detections: Detections, stride: int) -> Tensor:
    """x1 y1 x2 y2 score [joints] class, in cells."""
    parts = [detections.boxes / stride, detections.scores[:, None]]
    if detections.keypoints is not None:
        parts.append(detections.keypoints[..., :2].flatten(1) / stride)
    return torch.cat([*parts, detections.labels[:, None].float()], 1)


def merge_scales(found: list[Detections], *, always: bool, core: CenterNetPoints) -> Detections:
    """All scales, through the authors' soft-NMS class by class, in their order."""
    detections = Detections.cat(found)
    parts = []
    for label in range(core.num_classes):
        part = detections[detections.labels == label]
        if len(found) > 1 or always:
            kept = soft_nms(part.boxes, part.scores, is_compatible=True)
            part = replace(part[kept.rows], scores=kept.scores)
        parts.append(part)
    return Detections.cat(parts)


def compare_final(case: Case, merged: Detections, options: dict[str, Any]) -> None:
    limit = options["max_per_image"]
    if len(merged) > limit:
        merged = merged[merged.scores >= merged.scores.sort(descending=True).values[limit - 1]]
    assert len(merged) == case.about["n_final"]
    columns = [merged.boxes, merged.scores[:, None]]
    if merged.keypoints is None:
        columns.insert(0, merged.labels[:, None] + 1)
    else:
        columns.append(merged.keypoints[..., :2].flatten(1))
    case.compare("final", torch.cat(columns, 1))


RUNNERS = {
    "forward": run_forward,
    "loss": run_loss,
    "targets": run_targets,
    "decode": run_decode,
}
