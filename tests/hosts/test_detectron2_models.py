"""The adapter of instance architectures in Detectron2."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.config import get_cfg  # noqa: E402
from detectron2.layers import ShapeSpec  # noqa: E402
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, build_model  # noqa: E402
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks  # noqa: E402

from metaheads import architectures, backbones  # noqa: E402
from metaheads.hosts.detectron2 import Yolact, add_metaheads_config, models  # noqa: E402
from metaheads.hosts.detectron2.config import options_of  # noqa: E402

SMALL = [
    *("MODEL.META_ARCHITECTURE", "Yolact", "MODEL.DEVICE", "cpu", "MODEL.BACKBONE.FREEZE_AT", 0),
    *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
    *("MODEL.RESNETS.NORM", "BN", "MODEL.RESNETS.OUT_FEATURES", ["res2", "res3"]),
    *("MODEL.YOLACT.FPN_CHANNELS", 16, "MODEL.YOLACT.NUM_PROTOTYPES", 4),
    *("MODEL.YOLACT.NUM_EXTRA_LEVELS", 0, "MODEL.YOLACT.ANCHOR_SCALES", [[16], [32]]),
    *("MODEL.YOLACT.NUM_CLASSES", 3, "MODEL.YOLACT.MAX_SIZE", 64, "INPUT.FORMAT", "RGB"),
    *("MODEL.PIXEL_MEAN", [123.68, 116.78, 103.94], "MODEL.PIXEL_STD", [58.4, 57.12, 57.38]),
]


def build(*options):
    cfg = get_cfg()
    add_metaheads_config(cfg)
    cfg.merge_from_list([*SMALL, *options])
    return build_model(cfg)


def ground_truth(boxes, size=(64, 64), crowds=None) -> Instances:
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.arange(len(boxes)) % 3
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[max(int(y1), 0) : int(y2), max(int(x1), 0) : int(x2)] = True
    instances.gt_masks = BitMasks(masks)
    if crowds is not None:
        instances.gt_is_crowd = torch.tensor(crowds, dtype=torch.bool)
    return instances


def picture(size=(64, 64)) -> torch.Tensor:
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8)


@pytest.mark.parametrize("name", ["DeformableResNet", "Darknet53", "MobileNetV1", "SlimNet"])
def test_registered_backbones_tell_their_shapes(name):
    cfg = get_cfg()
    add_metaheads_config(cfg)
    node = "MODEL.DEFORMABLE_RESNET"
    cfg.merge_from_list([f"{node}.DEPTH", 18, f"{node}.DCN_BLOCKS", (0, 1, 0, 0)])
    backbone = BACKBONE_REGISTRY.get(name)(cfg, ShapeSpec(channels=3)).eval()
    assert isinstance(backbone, getattr(backbones, name))
    core_class = getattr(backbones, name)
    assert set(backbone.state_dict()) == set(core_class(**options_of(cfg, core_class)).state_dict())
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, 64, 64))
    for feature, shape in backbone.output_shape().items():
        assert features[feature].shape == (
            1,
            shape.channels,
            64 // shape.stride,
            64 // shape.stride,
        )
    with pytest.raises(TypeError, match="MODEL.DEFORMABLE_RESNET.DEPTH"):
        cfg.merge_from_list(["MODEL.DEFORMABLE_RESNET.DEPTH", "deep"])


def test_registered_architecture_is_ours():
    assert META_ARCH_REGISTRY.get("Yolact") is Yolact
    assert isinstance(build().core, architectures.Yolact)


@pytest.mark.parametrize(
    "objects",
    [
        ground_truth([]),
        ground_truth([[10, 10, 50, 50]], crowds=[True]),
        ground_truth([[20, 20, 21, 21], [30, 30, 30, 40], [70, 70, 90, 90], [-20, 5, 30, 40]]),
    ],
    ids=["empty", "only crowds", "tiny, flat, outside, half outside"],
)
def test_difficult_images_train_every_parameter(objects):
    model = build().train()
    losses = model([{"image": picture(), "instances": objects}])
    assert all(name.startswith("loss_") for name in losses)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    without = [
        n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()
    ]
    assert without == []


def test_missing_masks_of_an_image_without_objects_are_no_error():
    empty = Instances((64, 64))
    empty.gt_boxes, empty.gt_classes = Boxes(torch.zeros(0, 4)), torch.zeros(0, dtype=torch.long)
    assert models.to_targets(empty, (64, 64), (64, 96)).masks.shape == (0, 64, 96)


def test_ground_truth_follows_the_image():
    """Polygons and bitmaps, stretched to the network's size and padded."""
    boxes = [[8.0, 8.0, 24.0, 40.0]]
    bitmaps = ground_truth(boxes, (48, 32))
    polygons = ground_truth(boxes, (48, 32))
    polygons.gt_masks = PolygonMasks([[[8.0, 8.0, 24.0, 8.0, 24.0, 40.0, 8.0, 40.0]]])
    for instances in (bitmaps, polygons):
        targets = models.to_targets(instances, (96, 64), (100, 70))
        assert targets.image_size == (100, 70) and not targets.is_crowd.any()
        assert targets.boxes.tolist() == [[16, 16, 48, 80]]
        expected = torch.zeros(1, 100, 70, dtype=torch.bool)
        expected[:, 16:80, 16:48] = True
        assert torch.equal(targets.masks, expected)


def test_crowds_are_told_apart():
    objects = ground_truth([[8, 8, 40, 40], [9, 9, 20, 20]], crowds=[False, True])
    assert models.to_targets(objects, (64, 64), (64, 64)).is_crowd.tolist() == [False, True]


def test_fixed_size_stretches_image_and_ground_truth_alike():
    """What Detectron2's own mapper leaves unresized trains as if it had been resized before."""
    torch.manual_seed(0)
    model = build("INPUT.TEST_SIZE", (64, 64)).train()
    image = picture((32, 128))
    stretched = models.resize_tensor(image, (64, 64))
    objects = ground_truth([[16, 8, 64, 24]], (32, 128))
    resized = ground_truth([[8, 16, 32, 48]])
    first = model([{"image": image, "instances": objects}])
    second = model([{"image": stretched, "instances": resized}])
    assert {k: v.item() for k, v in first.items()} == {k: v.item() for k, v in second.items()}


def test_results_are_in_the_original_image():
    model = build("INPUT.TEST_SIZE", (64, 64), "MODEL.YOLACT.SCORE_THRESHOLD", 0.1).eval()
    with torch.no_grad():
        result = model([{"image": picture((40, 60)), "height": 80, "width": 120}])[0]["instances"]
    assert result.image_size == (80, 120) and len(result) > 0
    assert (
        result.pred_masks.shape == (len(result), 80, 120) and result.pred_masks.dtype == torch.bool
    )
    boxes = result.pred_boxes.tensor
    assert boxes.min() >= 0 and boxes[:, 2].max() > 64, "boxes reach beyond the network's 64 pixels"
    assert not result.has("mask_scores")


def test_a_batch_gives_what_its_images_give_alone():
    model = build("MODEL.YOLACT.SCORE_THRESHOLD", 0.1).eval()
    inputs = [{"image": picture()}, {"image": picture()}]
    with torch.no_grad():
        together = model(inputs)
        alone = [model([each])[0] for each in inputs]
    for one, other in zip(together, alone, strict=True):
        assert len(one["instances"]) == len(other["instances"]) > 0
        torch.testing.assert_close(
            one["instances"].pred_boxes.tensor,
            other["instances"].pred_boxes.tensor,
            atol=1e-3,
            rtol=0,
        )


def test_images_of_different_sizes_are_padded():
    model = build().train()
    inputs = [
        {"image": picture((64, 64)), "instances": ground_truth([[8, 8, 40, 40]])},
        {"image": picture((48, 96)), "instances": ground_truth([[8, 8, 40, 40]], (48, 96))},
    ]
    assert all(loss.isfinite() for loss in model(inputs).values())


def test_raw_outputs_of_normalised_images():
    model = build().eval()
    image = picture()
    images = ((image.float() - model.pixel_mean) / model.pixel_std)[None]
    with torch.no_grad():
        outputs = model.raw_outputs(images)
        found = model.core.decode(outputs, [(64, 64)])[0]
        result = model([{"image": image}])[0]["instances"]
    assert isinstance(outputs, tuple) and outputs.class_logits.shape[::2] == (1, 4)
    assert torch.equal(result.scores, found.scores)
    assert "pixel_mean" not in model.state_dict()


def test_non_finite_loss_names_term_image_and_boxes():
    model = build().train()
    with torch.no_grad():
        model.core.semantic_seg_conv.bias.fill_(float("nan"))
    inputs = [
        {"image": picture(), "instances": ground_truth([[8, 8, 40, 40]]), "file_name": "a.png"}
    ]
    with pytest.raises(
        FloatingPointError, match=r"(?s)loss_semantic = nan.*a\.png: \[8.0, 8.0, 40"
    ):
        model(inputs)


def test_lazy_config_builds_the_same_class():
    from detectron2.config import LazyCall, instantiate
    from detectron2.modeling.backbone import BasicStem, ResNet

    lazy = LazyCall(Yolact)(
        backbone=LazyCall(ResNet)(
            stem=LazyCall(BasicStem)(norm="BN"),
            stages=LazyCall(ResNet.make_default_stages)(depth=18, norm="BN"),
            out_features=["res2", "res3"],
        ),
        core=LazyCall(architectures.Yolact)(
            in_channels=[64, 128],
            strides=[4, 8],
            num_classes=3,
            num_extra_levels=0,
            anchor_scales=((16.0,), (32.0,)),
            fpn_channels=16,
        ),
        pixel_mean=[123.68, 116.78, 103.94],
        pixel_std=[58.4, 57.12, 57.38],
        image_size=[64, 64],
    )
    model = instantiate(lazy).eval()
    with torch.no_grad():
        assert model([{"image": picture((30, 40))}])[0]["instances"].image_size == (30, 40)
