"""Configs of the same name mean the same in both hosts."""

import pytest
import torch
from torch.testing import assert_close

pytest.importorskip("mmdet", reason="MMDetection is not installed")
pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from tests.hosts import pair  # noqa: E402

from metaheads.configs import list_configs  # noqa: E402

NAMES = list_configs(["mmdet"])
OURS = [name for name in NAMES if not name.startswith(("mask_rcnn/", "panoptic_fpn/"))]
# Detectron2's own modules (MMDetection's are renamed), which each host draws in its own way.
THEIRS = ("backbone.fpn_", "proposal_generator.", "roi_heads.")
# ImageNet weights as each host calls them.
TORCHVISION = "https://download.pytorch.org/models/"
PRETRAINED = {
    "torchvision://resnet50": {
        "detectron2://ImageNetPretrained/torchvision/R-50.pkl",
        f"{TORCHVISION}resnet50-0676ba61.pth?matching_heuristics=True",
    },
    "torchvision://resnet18": {f"{TORCHVISION}resnet18-f37072fd.pth?matching_heuristics=True"},
    "torchvision://resnet101": {
        f"{TORCHVISION}resnet101-63fe2227.pth",
        f"{TORCHVISION}resnet101-63fe2227.pth?matching_heuristics=True",
    },
    "torchvision://resnet152": {f"{TORCHVISION}resnet152-394f9c45.pth"},
    "open-mmlab://detectron2/resnet50_caffe": {"detectron2://ImageNetPretrained/MSRA/R-50.pkl"},
    "open-mmlab://detectron2/resnet101_caffe": {"detectron2://ImageNetPretrained/MSRA/R-101.pkl"},
    None: {""},
}


ONLY_DETECTRON2 = {"keypoint_rcnn/keypoint_rcnn_r18_shapes"}  # MMDetection has no such model


def test_every_config_has_its_twin():
    assert set(list_configs(["detectron2"])) - ONLY_DETECTRON2 == set(NAMES)


@pytest.mark.parametrize("name", OURS)
def test_core_options_are_equal(name):
    from metaheads import architectures
    from metaheads.hosts.detectron2.config import options_of

    ours, theirs = pair.mmdet_config(name).model, pair.detectron2_config(name)
    core_class = getattr(architectures, theirs.MODEL.META_ARCHITECTURE)
    assert ours.type == f"metaheads.{core_class.__name__}"
    core = dict(ours.core)
    del core["in_channels"], core["strides"]
    assert_options_equal(core_class, core, options_of(theirs, core_class))


@pytest.mark.parametrize("name", OURS)
def test_our_backbones_are_equal(name):
    from metaheads import backbones
    from metaheads.hosts.detectron2.config import options_of

    backbone, theirs = dict(pair.mmdet_config(name).model.backbone), pair.detectron2_config(name)
    kind = backbone.pop("type")
    if not kind.startswith("metaheads."):
        assert kind == "ResNet" and "resnet" in theirs.MODEL.BACKBONE.NAME
        return
    assert kind == f"metaheads.{theirs.MODEL.BACKBONE.NAME}"
    backbone.pop("init_cfg", None)
    backbone_class = getattr(backbones, theirs.MODEL.BACKBONE.NAME)
    padded = pair.mmdet_config(name).model.data_preprocessor.get("pad_size_divisor", 1)
    assert padded == getattr(backbone_class, "size_divisor", 1), "as Detectron2 pads for it"
    assert_options_equal(backbone_class, backbone, options_of(theirs, backbone_class))


def assert_options_equal(builder, in_mmdet: dict, in_detectron2: dict) -> None:
    from metaheads.options import check_options, option_defaults

    in_mmdet = {**option_defaults(builder), **check_options(builder, in_mmdet)}
    scales = in_mmdet.pop("anchor_scales", None), in_detectron2.pop("anchor_scales", None)
    if scales[0] is not None:
        assert_close(torch.tensor(scales[0]), torch.tensor(scales[1]))
    assert in_mmdet == in_detectron2


@pytest.mark.parametrize("name", NAMES)
def test_normalisation_and_channel_order_are_equal(name):
    ours, theirs = pair.mmdet_config(name).model.data_preprocessor, pair.detectron2_config(name)
    assert ("RGB" if ours.get("bgr_to_rgb", False) else "BGR") == theirs.INPUT.FORMAT
    assert list(ours.mean) == list(theirs.MODEL.PIXEL_MEAN)
    assert list(ours.std) == list(theirs.MODEL.PIXEL_STD)


@pytest.mark.parametrize("name", OURS)
def test_geometry_and_augmentation_are_equal(name):
    from metaheads.datasets.warps import TestView
    from metaheads.hosts.detectron2.config import TRANSFORMS, options_of
    from metaheads.options import check_options, option_defaults

    ours, theirs = pair.mmdet_config(name), pair.detectron2_config(name)
    dataset = ours.train_dataloader.dataset
    (pipeline,) = {
        str(part.pipeline): part.pipeline for part in dataset.get("datasets", [dataset])
    }.values()
    steps = {step.type: dict(step) for step in pipeline}
    transform_class = TRANSFORMS[theirs.INPUT.MAPPER]
    transform = steps[f"metaheads.{transform_class.__name__}"]
    del transform["type"]
    in_mmdet = {**option_defaults(transform_class), **check_options(transform_class, transform)}
    assert in_mmdet.pop("color_order") == "bgr", "MMDetection loads BGR"
    assert in_mmdet == options_of(theirs, transform_class)
    steps = {step.type: dict(step) for step in ours.val_dataloader.dataset.pipeline}
    assert ("metaheads.TestView" in steps) == theirs.INPUT.USE_TEST_VIEW
    if theirs.INPUT.USE_TEST_VIEW:
        view = steps["metaheads.TestView"]
        del view["type"]
        in_mmdet = {**option_defaults(TestView), **check_options(TestView, view)}
        assert in_mmdet == options_of(theirs, TestView)
    else:
        assert tuple(steps["metaheads.FixedResize"]["size"]) == tuple(theirs.INPUT.TEST_SIZE)
    assert (ours.model.get("test_cfg") or {}).get("flip", False) == theirs.TEST.FLIP


# MMDetection's names of what Detectron2 calls otherwise.
BEST = {
    "coco/bbox_mAP": "bbox/AP",
    "coco/segm_mAP": "segm/AP",
    "coco/keypoints_mAP": "keypoints/AP",
    "coco_panoptic/PQ": "panoptic_seg/PQ",
}


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("_voc")])
def test_the_best_checkpoint_is_that_of_the_same_metric(name):
    from metaheads.hosts.detectron2.trainer import best_metric

    saved = pair.mmdet_config(name).default_hooks.checkpoint
    theirs = pair.detectron2_config(name)
    assert BEST.get(saved.save_best, saved.save_best) == best_metric(theirs)
    assert saved.get("rule") == "greater" or saved.save_best.startswith("coco/")


@pytest.mark.parametrize("name", NAMES)
def test_schedules_are_equal(name):
    """Rates of a parameter at many iterations, batch, length, optimiser."""
    ours, theirs = pair.mmdet_config(name), pair.detectron2_config(name)
    assert ours.train_dataloader.batch_size == theirs.SOLVER.IMS_PER_BATCH
    length = ours.train_cfg.max_iters
    assert length == theirs.SOLVER.MAX_ITER
    optimizer = ours.optim_wrapper.optimizer
    assert optimizer.type == theirs.SOLVER.OPTIMIZER
    assert optimizer.weight_decay == theirs.SOLVER.WEIGHT_DECAY == theirs.SOLVER.WEIGHT_DECAY_NORM
    clipped = ours.optim_wrapper.get("clip_grad")
    assert bool(clipped) == theirs.SOLVER.CLIP_GRADIENTS.ENABLED
    if clipped:
        assert clipped.max_norm == theirs.SOLVER.CLIP_GRADIENTS.CLIP_VALUE
    assert optimizer.get("momentum", theirs.SOLVER.MOMENTUM) == theirs.SOLVER.MOMENTUM
    assert warm_up(ours) == theirs.SOLVER.WARMUP_ITERS
    if "milestones" in ours.param_scheduler[-1]:
        steps = list(theirs.SOLVER.STEPS)
        assert ours.param_scheduler[-1].milestones == steps
        ours, theirs = shorten(ours, theirs, length // 1000)
    assert mmdet_rates(ours) == pytest.approx(detectron2_rates(theirs), rel=1e-3, abs=1e-9)


def shorten(ours, theirs, factor):
    """Both long schedules, `factor` times as short, so that every rate can be computed."""
    for scheduler in ours.param_scheduler:
        scheduler.end = max(scheduler.get("end", 10**9) // factor, 3)
        if "milestones" in scheduler:
            scheduler.milestones = [step // factor for step in scheduler.milestones]
    ours.train_cfg.max_iters //= factor
    theirs.SOLVER.MAX_ITER //= factor
    theirs.SOLVER.STEPS = tuple(step // factor for step in theirs.SOLVER.STEPS)
    theirs.SOLVER.WARMUP_ITERS = warm_up(ours)
    return ours, theirs


def warm_up(cfg) -> int:
    first = cfg.param_scheduler[0]
    return first.end - 1 if first.type == "LinearLR" else 0


def mmdet_rates(cfg) -> list[float]:
    from mmengine.registry import PARAM_SCHEDULERS, init_default_scope

    init_default_scope("mmdet")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [
        PARAM_SCHEDULERS.build({**s, "optimizer": optimizer}) for s in cfg.param_scheduler
    ]
    rates = []
    for _ in range(cfg.train_cfg.max_iters):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return rates


def detectron2_rates(cfg) -> list[float]:
    from detectron2.solver import build_lr_scheduler

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = []
    for _ in range(cfg.SOLVER.MAX_ITER):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("name", OURS)
def test_pretrained_weights_are_equal(name):
    init = pair.mmdet_config(name).model.backbone.get("init_cfg") or {}
    assert pair.detectron2_config(name).MODEL.WEIGHTS in PRETRAINED[init.get("checkpoint")]


@pytest.mark.parametrize("name", [name for name in OURS if "_r18_" in name or "_small_" in name])
def test_weights_from_scratch_are_drawn_alike(name):
    from metaheads.weights.convert import to_host

    ours, theirs = pair.mmdet_model(name), pair.detectron2_model(name)
    ours.init_weights()
    expected = theirs.state_dict()
    for key, drawn in to_host(ours.state_dict(), expected).items():
        if key.startswith(THEIRS):
            continue
        if drawn.is_floating_point() and drawn.numel() > 16:  # chance has little to say in few
            other, chance = expected[key], 6 * drawn.std(correction=0) / drawn.numel() ** 0.5
            assert_close(drawn.mean(), other.mean(), rtol=0, atol=1e-6 + chance.item(), msg=key)
            assert_close(
                drawn.std(correction=0), other.std(correction=0), rtol=0.2, atol=1e-6, msg=key
            )
