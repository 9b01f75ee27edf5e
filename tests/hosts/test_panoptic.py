"""UPSNet on the RPN and RoI heads of both hosts."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tests.hosts import pair
from tests.hosts.installed import each_host, needs_both
from torch.testing import assert_close

from metaheads.architectures.upsnet.regions import to_inclusive
from metaheads.commands.train import RunOptions, train
from metaheads.export import flatten_outputs
from metaheads.structures import Geometry, Targets

NAME = "upsnet/upsnet_r18_160_shapes"
BOXES = [torch.tensor([[5.0, 5, 60, 70], [20, 30, 100, 120]]), torch.tensor([[10.0, 10, 50, 50]])]


def build(host: str, *overrides):
    return (pair.mmdet_model if host == "mmdet" else pair.detectron2_model)(NAME, *overrides)


@pytest.fixture
def data(shapes_data, monkeypatch):
    monkeypatch.setenv("METAHEADS_DATA", str(shapes_data))


@pytest.fixture
def models(data):
    torch.manual_seed(0)
    mmdet, detectron2 = build("mmdet"), build("detectron2")
    for name, parameter in mmdet.named_parameters():
        if "offset" in name or "semantic_head.score" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    pair.same_weights(mmdet, detectron2)
    return mmdet.eval(), detectron2.eval()


def features_of(model, images):
    return model.extract_feat(images) if hasattr(model, "extract_feat") else model.backbone(images)


@needs_both
@torch.no_grad()
def test_raw_outputs_are_equal(models):
    images = torch.randn(2, 3, 160, 192, generator=torch.Generator().manual_seed(1))
    outputs = [dict(flatten_outputs(model.raw_outputs(images, BOXES))) for model in models]
    assert outputs[0].keys() == outputs[1].keys() and len(outputs[0]) == 15
    for name, ours in outputs[0].items():
        assert_close(ours, outputs[1][name], rtol=1e-5, atol=1e-5)
        assert ours.abs().max() > 0


INCLUSIVE = {
    "mmdet": ("model.core.inclusive_boxes", "true"),
    "detectron2": ("MODEL.UPSNET.INCLUSIVE_BOXES", "True"),
}


def decode_as_the_authors(anchors: torch.Tensor, deltas: torch.Tensor, size) -> torch.Tensor:
    """(N, 4) boxes that hold both corners' pixels; UPSNet's bbox_transform and clip_boxes, from
    their formulas."""
    sides = anchors[:, 2:] - anchors[:, :2] + 1
    centres = deltas[:, :2] * sides + anchors[:, :2] + 0.5 * sides
    sides = deltas[:, 2:].exp() * sides
    boxes = torch.cat((centres - 0.5 * sides, centres + 0.5 * sides - 1), 1)
    limit = torch.tensor([size[1] - 1, size[0] - 1] * 2)
    return boxes.clamp(min=0).minimum(limit)


def authors_proposals(model, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (N, 4) and scores (N,) of all anchors of an image; the config's scale is 4."""
    raw = model.raw_outputs(images)
    boxes, scores = [], []
    for level, (logits, deltas) in enumerate(zip(raw.rpn_logits, raw.rpn_deltas, strict=True)):
        stride = 4 * 2**level
        cells = []
        for ratio in (0.5, 1.0, 2.0):
            width = round(math.sqrt(stride**2 / ratio))
            side = 4 * torch.tensor([width, round(width * ratio)])
            corner = (stride - 1) / 2 - (side - 1) / 2
            cells.append(torch.cat((corner, corner + side - 1)))
        y, x = torch.meshgrid(*(torch.arange(n) * stride for n in logits.shape[-2:]), indexing="ij")
        shifts = torch.stack((x, y, x, y), -1).view(-1, 1, 4)
        anchors = (shifts + torch.stack(cells)).view(-1, 4)
        deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
        boxes.append(decode_as_the_authors(anchors, deltas, images.shape[-2:]))
        scores.append(logits[0].permute(1, 2, 0).flatten().sigmoid())
    return torch.cat(boxes), torch.cat(scores)


def proposals_of(model, images: torch.Tensor) -> torch.Tensor:
    """(R, 4), best first."""
    size, features = tuple(images.shape[-2:]), features_of(model, images)
    if hasattr(model, "rpn_head"):
        from mmdet.structures import DetDataSample

        sample = DetDataSample(metainfo={"img_shape": size})
        (found,) = model.rpn_head.predict(features, [sample], rescale=False)
        return found.bboxes
    from detectron2.structures import ImageList

    (found,), _ = model.proposal_generator(ImageList(images, [size]), features, None)
    return found.proposal_boxes.tensor


@pytest.fixture
def inclusive_models(data):
    """RPN and box head with large deltas, so that conventions of boxes show."""
    torch.manual_seed(0)
    models = [build(host, change) for host, change in INCLUSIVE.items()]
    for name, parameter in models[0].named_parameters():
        if any(layer in name for layer in ("rpn_cls", "rpn_reg", "fc_reg", "fc_cls")):
            torch.nn.init.normal_(parameter, std=0.05)
    pair.same_weights(*models)
    return [model.eval() for model in models]


@needs_both
@torch.no_grad()
def test_inclusive_proposals_are_the_authors(inclusive_models):
    images = torch.randn(1, 3, 160, 192, generator=torch.Generator().manual_seed(1))
    found = [proposals_of(model, images) for model in inclusive_models]
    assert len(found[0]) > 100
    assert_close(*found, rtol=1e-5, atol=1e-3)
    expected, scores = authors_proposals(inclusive_models[0], images)
    assert_close(to_inclusive(found[0][0]), expected[scores.argmax()], rtol=1e-5, atol=1e-3)
    nearest = torch.cdist(to_inclusive(found[0]), expected, p=1).amin(1)
    assert nearest.max() < 1e-2


@needs_both
@torch.no_grad()
def test_inclusive_detections_are_the_authors(inclusive_models):
    images = torch.randn(2, 3, 160, 192, generator=torch.Generator().manual_seed(1))
    geometries, found = [Geometry.from_resize((150, 190), (75, 95))] * 2, []
    for model in inclusive_models:
        model.core.score_threshold, model.core.nms_threshold = 0.0, 1.0
        found.append(model._detect(features_of(model, images), BOXES, geometries))
        raw = model.raw_outputs(images, BOXES)
        classes = raw.class_logits.shape[1] - 1
        deltas = raw.box_deltas.view(-1, classes, 4) / torch.tensor([10.0, 10, 5, 5])
        rois = to_inclusive(torch.cat(BOXES)).repeat_interleave(classes, 0)
        expected = decode_as_the_authors(rois, deltas.view(-1, 4), (150, 190))
        ours = to_inclusive(torch.cat([each.boxes for each in found[-1]]))
        assert len(ours) == len(expected) == 3 * classes
        assert torch.cdist(ours, expected, p=1).amin(1).max() < 1e-2
        assert torch.cdist(expected, ours, p=1).amin(1).max() < 1e-2
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours.boxes, theirs.boxes, rtol=1e-5, atol=1e-3)
        assert_close(ours.scores, theirs.scores)


@each_host
def test_inclusive_models_train(host, data):
    torch.manual_seed(0)
    model = build(host, INCLUSIVE[host]).train()
    losses = train_step(host, model)
    assert sum(losses.values()).isfinite()


@needs_both
@torch.no_grad()
def test_the_same_proposals_give_the_same_segmentation(models):
    images = torch.randn(2, 3, 160, 192, generator=torch.Generator().manual_seed(1))
    geometries = [Geometry.from_resize((150, 190), (75, 95))] * 2
    found = []
    for model in models:
        model.core.score_threshold, model.core.stuff_area_limit = 0.1, 4
        features = features_of(model, images)
        detected = model._detect(features, BOXES, geometries)
        masks = model.masks_of(features, detected)
        outputs = model.raw_outputs(images).core
        found.append(model.core.decode(outputs, detected, masks, geometries))
    for ours, theirs in zip(*found, strict=True):
        assert ours.ids.shape == (75, 95) and len(ours.ids.unique()) > 2
        assert (ours.ids != theirs.ids).sum() <= 2
        assert [each[:3] for each in ours.segments] == [each[:3] for each in theirs.segments]


@needs_both
def test_losses_of_the_core_are_equal(models):
    images = torch.randn(2, 3, 160, 192, generator=torch.Generator().manual_seed(1))
    targets = [make_target(boxes) for boxes in BOXES]
    losses = []
    for model in models:
        features = features_of(model, images)
        masks = model.masks_of(features, targets)
        torch.manual_seed(3)
        losses.append(model.core.losses(model.raw_outputs(images).core, targets, masks))
    assert losses[0].keys() == losses[1].keys() == {"loss_semantic", "loss_panoptic"}
    for name, value in losses[0].items():
        assert_close(value, losses[1][name], rtol=1e-5, atol=0)


def make_target(boxes: torch.Tensor) -> Targets:
    masks = torch.zeros(len(boxes), 160, 192, dtype=torch.bool)
    semantic = torch.full((160, 192), 8)
    for number, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):
        masks[number, y1:y2, x1:x2] = True
        semantic[y1:y2, x1:x2] = number
    crowd = torch.zeros(len(boxes), dtype=torch.bool)
    return Targets((160, 192), boxes, torch.arange(len(boxes)), crowd, masks, semantic=semantic)


def train_step(host: str, model, *, without_things: bool = False) -> dict[str, torch.Tensor]:
    """The losses of the first batch of the host's own loader."""
    if host == "mmdet":
        from mmengine.runner import Runner

        cfg = pair.mmdet_config(NAME, ("train_dataloader.batch_size", "2"))
        batch = next(iter(Runner.build_dataloader(copy.deepcopy(cfg.train_dataloader))))
        if without_things:
            for sample in batch["data_samples"]:
                sample.gt_instances = sample.gt_instances[:0]
        batch = model.data_preprocessor(batch, training=True)
        found = model.loss(batch["inputs"], batch["data_samples"])
        return {n: sum(v) if isinstance(v, list) else v for n, v in found.items() if "loss" in n}
    from detectron2.utils.events import EventStorage

    from metaheads.hosts.detectron2.trainer import Trainer

    overrides = ("SOLVER.IMS_PER_BATCH", "2"), ("DATALOADER.NUM_WORKERS", "0")
    batch = next(iter(Trainer.build_train_loader(pair.detectron2_config(NAME, *overrides))))
    if without_things:
        for each in batch:
            each["instances"] = each["instances"][:0]
    with EventStorage():
        return model(batch)


@each_host
@pytest.mark.parametrize("without_things", [False, True])
def test_every_parameter_gets_a_gradient(host, data, without_things):
    torch.manual_seed(0)
    model = build(host).train()
    losses = train_step(host, model, without_things=without_things)
    assert {"loss_semantic", "loss_panoptic"} <= losses.keys() and len(losses) == 7
    total = sum(losses.values())
    assert total.isfinite()
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@each_host
def test_evaluation(host, data, tmp_path):
    """An untrained model finds nothing but stuff; PQ is a percentage."""
    torch.manual_seed(0)
    state = build(host).state_dict()
    key = "state_dict" if host == "mmdet" else "model"
    torch.save({key: state}, tmp_path / "fresh.pth")
    options = RunOptions(eval_only=True, checkpoint=str(tmp_path / "fresh.pth"))
    metrics = train(NAME, host, [], options, work_dir=str(tmp_path))
    prefix = "coco_panoptic/" if host == "mmdet" else "panoptic_seg/"
    assert 0 <= metrics[f"{prefix}PQ"] < 20 and metrics[f"{prefix}PQ_th"] == 0


@each_host
def test_images_of_any_size(host, data):
    torch.manual_seed(0)
    model = build(host).eval()
    model.core.score_threshold = 0.1
    from metaheads.api import load

    loaded = load(NAME, host=host, device="cpu")
    loaded.module.core.score_threshold = 0.1
    for height, width in ((1, 1), (33, 70), (7, 301)):
        image = torch.randint(0, 255, (height, width, 3), dtype=torch.uint8).numpy()
        found = loaded.predict(image)
        assert found.masks.shape[1:] == (height, width) and found.scores.isfinite().all()


@each_host
def test_mirrors_and_sizes_are_refused(host, data, tmp_path):
    """Before any image: nothing merges them."""
    (tmp_path / "any.pth").write_bytes(b"")
    for views in ({"flip": True}, {"scales": (1.0, 0.5)}):
        options = RunOptions(eval_only=True, checkpoint=str(tmp_path / "any.pth"), **views)
        with pytest.raises(ValueError, match="UPSNet cannot merge"):
            train(NAME, host, [], options, work_dir=str(tmp_path), check_data=False)
