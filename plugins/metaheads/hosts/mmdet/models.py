"""Our architectures as MMDetection detectors.

    model = dict(type="metaheads.Yolact", data_preprocessor=..., backbone=...,
                 core=dict(in_channels=..., strides=..., num_classes=...))

`in_channels` and `strides` describe the features that the backbone (or the neck, if there is one)
gives; everything else in `core` is an option of the architecture.
"""

from __future__ import annotations

import torch
from mmdet.models.detectors.base import BaseDetector
from mmdet.structures import SampleList
from mmdet.structures.bbox import get_box_tensor
from mmengine.model import BaseTTAModel, initialize
from mmengine.structures import InstanceData
from torch import Tensor, nn

from metaheads import architectures, backbones
from metaheads.augment import check_views, predict_views
from metaheads.datasets.views import VOID
from metaheads.hosts.mmdet.registry import MODELS
from metaheads.losses import check_finite
from metaheads.options import check_options
from metaheads.structures import Detections, Geometry, Targets


class HostedInstances(BaseDetector):
    """A single-stage instance architecture on MMDetection's backbone, data and evaluators.

    Args:
        backbone, neck, data_preprocessor, init_cfg: as in any MMDetection detector.
        core: `in_channels` and `strides` of the features, and options of `core_class`.
        test_cfg: dict(flip=True) predicts from the image and its mirror, where the architecture
            can merge them.

    Raises:
        KeyError, TypeError: an option that the architecture does not know, or of another type.
    """

    core_class: type[nn.Module]

    def __init__(
        self,
        backbone: dict,
        core: dict,
        neck: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        test_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        options = check_options(_test_options, dict(test_cfg or {}), "test_cfg.")
        self.flip_test = options.get("flip", False)
        self.backbone = MODELS.build(backbone)
        if neck is not None:
            self.neck = MODELS.build(neck)
        self.core = build_core(self.core_class, core)
        check_views(self.core, flip=self.flip_test, scales=(1.0,))

    def extract_feat(self, batch_inputs: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> features, finest first."""
        features = self.backbone(batch_inputs)
        return list(self.neck(features) if self.with_neck else features)

    def raw_outputs(self, images: Tensor):
        """(B, 3, H, W) already normalised images -> the architecture's raw outputs."""
        return self.core(self.extract_feat(images))

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """The weighted losses of a batch.

        Raises:
            FloatingPointError: a loss is not finite; names the term, the images and their boxes.
        """
        size = tuple(batch_inputs.shape[-2:])
        targets = [to_targets(sample, size, batch_inputs.device) for sample in batch_data_samples]
        losses = self.core.losses(self.raw_outputs(batch_inputs), targets)
        check_finite(losses, [sample.img_path for sample in batch_data_samples], targets)
        return losses

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Adds `pred_instances` to the samples, in the original image (with `rescale`) or the
        input."""
        geometries = [to_geometry(sample, rescale) for sample in batch_data_samples]
        found = predict_views(self, [(batch_inputs, geometries)], flip=self.flip_test)
        results = [to_instance_data(each) for each in found]
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None):
        return self.raw_outputs(batch_inputs)


@MODELS.register_module()
class TestTimeAugmentation(BaseTTAModel):
    """MMEngine's wrapper for tests at several sizes.

    `tta_model = dict(type="metaheads.TestTimeAugmentation")` goes with a `tta_pipeline` whose
    TestTimeAug has one `metaheads.TestView` (or `FixedResize`) for each scale. All views are merged
    by the architecture, that of the images' own size first; with `test_cfg.flip` of the model each
    comes with its mirror.

    Args:
        module: one of our models.
        num_views: how many sizes there will be.

    Raises:
        ValueError: an architecture that cannot merge views.
    """

    __test__ = False  # its name looks like a test to pytest
    module: HostedInstances

    def __init__(
        self,
        module: dict | nn.Module,
        data_preprocessor: dict | None = None,
        num_views: int = 2,
    ) -> None:
        super().__init__(module, data_preprocessor)
        check_views(self.module.core, flip=False, scales=(1.0,) * num_views)

    def test_step(self, data: dict) -> SampleList:
        """A batch as TestTimeAug and pseudo_collate leave it -> the samples of the first view, with
        `pred_instances` in the original images."""
        views = [
            self.module.data_preprocessor({"inputs": images, "data_samples": samples}, False)
            for images, samples in zip(data["inputs"], data["data_samples"], strict=True)
        ]
        views.sort(key=lambda view: abs(view["data_samples"][0].get("view_scale", 1.0) - 1))
        seen = (
            (view["inputs"], [to_geometry(sample, True) for sample in view["data_samples"]])
            for view in views
        )
        found = predict_views(self.module, seen, flip=self.module.flip_test)
        results = [to_instance_data(each) for each in found]
        return self.module.add_pred_to_datasample(views[0]["data_samples"], results)

    def merge_preds(self, data_samples_list: list) -> SampleList:
        raise NotImplementedError("test_step merges before there are predictions")


def build_core(core_class: type[nn.Module], core: dict) -> nn.Module:
    """Builds the architecture from the `core` dict of a config."""
    options = dict(core)
    try:
        in_channels, strides = list(options.pop("in_channels")), list(options.pop("strides"))
    except KeyError as missing:
        raise KeyError(
            f"core of {core_class.__name__} lacks {missing}: channels and strides of the features "
            "that the backbone gives, e.g. in_channels=[512, 1024, 2048], strides=[8, 16, 32]"
        ) from None
    return core_class(in_channels, strides, **check_options(core_class, options, where="core."))


def to_targets(sample, image_size: tuple[int, int], device: torch.device) -> Targets:
    """A data sample of the training pipeline -> targets in pixels of the network input.

    `ignored_instances` (crowds and what else MMDetection ignores) become crowd regions;
    `gt_sem_seg` is padded with 255 (nothing known).
    """
    parts = []
    for instances, is_crowd in ((sample.gt_instances, False), (sample.ignored_instances, True)):
        boxes = get_box_tensor(instances.bboxes).to(device, torch.float32).reshape(-1, 4)
        points = [instances.get(name) for name in ("keypoints", "vertices")]
        points = [None if each is None else each.to(device) for each in points]
        masks = instances.get("masks")
        if masks is not None:
            masks = masks.to_tensor(torch.bool, device)
            masks = _pad_masks(masks, image_size)
        crowd = torch.full((len(boxes),), is_crowd, device=device)
        labels = instances.labels.to(device).long()
        parts.append(Targets(image_size, boxes, labels, crowd, masks, *points))
    targets = Targets.cat(parts)
    if "gt_sem_seg" in sample:
        semantic = sample.gt_sem_seg.sem_seg[0].to(device).long()
        targets.semantic = _pad_masks(semantic, image_size, VOID)
    return targets


def _pad_masks(masks: Tensor, image_size: tuple[int, int], value: int = 0) -> Tensor:
    """(..., h, w) -> (..., H, W), padded right and below like the images."""
    bottom, right = image_size[0] - masks.shape[-2], image_size[1] - masks.shape[-1]
    if not (bottom or right):
        return masks
    return torch.nn.functional.pad(masks, (0, right, 0, bottom), value=value)


def to_geometry(sample, rescale: bool) -> Geometry:
    """How the network input lies in the original image of a data sample.

    Stretched, unless `TestView` says another way.
    """
    input_size = tuple(sample.img_shape[:2])
    if rescale and "to_original" in sample.metainfo:
        return Geometry(input_size, tuple(sample.ori_shape[:2]), sample.to_original)
    return Geometry.from_resize(input_size, tuple(sample.ori_shape[:2]) if rescale else input_size)


def to_instance_data(detections: Detections) -> InstanceData:
    """Finished detections -> MMDetection's predictions."""
    fields = {
        "bboxes": detections.boxes,
        "scores": detections.scores,
        "labels": detections.labels,
        "masks": detections.masks,
        "mask_scores": detections.mask_scores,
        "keypoints": detections.keypoints,
        "vertices": detections.vertices,
    }
    return InstanceData(**{name: value for name, value in fields.items() if value is not None})


def _test_options(*, flip: bool = False) -> None:
    """What `test_cfg` may say."""


@MODELS.register_module()
class Yolact(HostedInstances):
    core_class = architectures.Yolact


@MODELS.register_module()
class CenterNetPoints(HostedInstances):
    core_class = architectures.CenterNetPoints


@MODELS.register_module()
class CornerNet(HostedInstances):
    core_class = architectures.CornerNet


@MODELS.register_module()
class CenterNetTriplets(HostedInstances):
    core_class = architectures.CenterNetTriplets


@MODELS.register_module()
class RetinaFace(HostedInstances):
    core_class = architectures.RetinaFace


@MODELS.register_module()
class YolactFPN(architectures.yolact.YolactFPN):
    """The authors' feature pyramid as a neck for other detectors."""


class _HostedBackbone(nn.Module):
    """Lets MMDetection's `init_cfg` (pretrained weights) work on a backbone of ours."""

    init_cfg: dict | None

    def init_weights(self) -> None:
        if self.init_cfg:
            initialize(self, self.init_cfg)


def _register_backbone(backbone_class: type[nn.Module]) -> type[nn.Module]:
    """Under its own name; options are checked, `init_cfg` loads pretrained weights."""

    def __init__(self, init_cfg: dict | None = None, **options) -> None:
        checked = check_options(backbone_class, options, where="backbone.")
        backbone_class.__init__(self, **checked)
        self.init_cfg = init_cfg

    members = {"__init__": __init__, "__doc__": backbone_class.__doc__, "__module__": __name__}
    hosted = type(backbone_class.__name__, (backbone_class, _HostedBackbone), members)
    return MODELS.register_module(module=hosted)


DLA = _register_backbone(backbones.DLA)
Darknet53 = _register_backbone(backbones.Darknet53)
DeconvResNet = _register_backbone(backbones.DeconvResNet)
DeformableResNet = _register_backbone(backbones.DeformableResNet)
Hourglass = _register_backbone(backbones.Hourglass)
MobileNetV1 = _register_backbone(backbones.MobileNetV1)
SlimNet = _register_backbone(backbones.SlimNet)
