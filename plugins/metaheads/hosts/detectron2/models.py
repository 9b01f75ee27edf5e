"""Our architectures as Detectron2 meta-architectures.

One adapter serves all single-stage instance models. It owns what Detectron2 leaves to a model:
stretching to a fixed size, normalising, padding, batching; `Instances` to `Targets`, `Detections`
to `Instances`.
Letters: B images, N objects, H, W pixels of the batched input, padding included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.structures.masks import polygons_to_bitmask
from torch import Tensor, nn

from metaheads import architectures
from metaheads.augment import check_views, predict_views
from metaheads.datasets.transforms import resize_tensor, scale_size
from metaheads.datasets.views import VOID, nearest_cells
from metaheads.datasets.warps import TestView
from metaheads.hosts.detectron2.config import options_of, test_size
from metaheads.losses import check_finite
from metaheads.structures import Detections, Geometry, Targets


class HostedInstances(nn.Module):
    """A single-stage instance architecture in Detectron2; subclasses name it in `core_class`.

    Args:
        backbone: Detectron2 backbone.
        features: its outputs that go to the core, finest first; by default all.
        core: the architecture, with forward, losses and decode.
        pixel_mean, pixel_std: per channel, in the channel order that the data mapper delivers
            (INPUT.FORMAT).
        image_size: (height, width) to which images of another size are stretched, together with
            their ground truth; None leaves images as they come. Those of our own training mapper
            have their size ("is_sized") and stay.
        test_view: what the network sees of an image in tests, instead.
        flip_test, scales: predict from the image and its mirror, and at several sizes, where the
            core can merge them.
    """

    core_class: type[nn.Module]

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        core: nn.Module,
        pixel_mean: tuple[float, ...],
        pixel_std: tuple[float, ...],
        image_size: tuple[int, int] | None = None,
        test_view: TestView | None = None,
        flip_test: bool = False,
        scales: tuple[float, ...] = (1.0,),
        features: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.backbone, self.core = backbone, core
        self.image_size = None if image_size is None else tuple(image_size)
        self.test_view, self.flip_test = test_view, flip_test
        self.scales = check_views(core, flip=flip_test, scales=scales)
        self.features = list(features or _by_stride(backbone))
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = build_backbone(cfg)
        features = cls.feature_names(cfg) or _by_stride(backbone)
        shapes = [backbone.output_shape()[name] for name in features]
        channels, strides = [s.channels for s in shapes], [s.stride for s in shapes]
        return {
            "backbone": backbone,
            "features": features,
            "core": cls.core_class(channels, strides, **options_of(cfg, cls.core_class)),
            "pixel_mean": tuple(cfg.MODEL.PIXEL_MEAN),
            "pixel_std": tuple(cfg.MODEL.PIXEL_STD),
            "image_size": test_size(cfg),
            "test_view": (
                TestView(**options_of(cfg, TestView)) if cfg.INPUT.USE_TEST_VIEW else None
            ),
            "flip_test": cfg.TEST.FLIP,
            "scales": tuple(cfg.TEST.SCALES),
        }

    @staticmethod
    def feature_names(cfg: CfgNode) -> list[str]:
        """The backbone's outputs that go to the core, finest first; none means all."""
        return []

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Detectron2's inputs -> losses in training, else one {"instances": Instances} per image.

        Args:
            batched_inputs: per image "image" (3, h, w) in 0..255 and, in training, "instances" with
                gt_boxes, gt_classes, gt_masks and, if crowds are kept, gt_is_crowd, and of panoptic
                data "semantic" (h, w); else optionally "height" and "width" of the original image,
                in which the results are given.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        if self.training:
            batch, geometries = self._batch(batched_inputs)
            batch_size = tuple(batch.shape[-2:])
            outputs = self.raw_outputs(batch)
            targets = [
                to_targets(
                    each["instances"].to(self.device),
                    geometry.input_size,
                    batch_size,
                    each.get("semantic"),
                )
                for each, geometry in zip(batched_inputs, geometries, strict=True)
            ]
            losses = self.core.losses(outputs, targets)
            check_finite(losses, [spell_image(each) for each in batched_inputs], targets)
            return losses
        return [
            {"instances": to_instances(found, original_size(each))}
            for each, found in zip(batched_inputs, self.predict(batched_inputs), strict=True)
        ]

    def predict(
        self, batched_inputs: list[dict[str, Any]], scales: Sequence[float] = ()
    ) -> list[Detections]:
        """Detectron2's inputs -> finished detections, at these scales or at the model's own."""
        scales = check_views(self.core, flip=self.flip_test, scales=scales or self.scales)
        views = (self._batch(batched_inputs, scale) for scale in scales)
        return predict_views(self, views, flip=self.flip_test)

    def raw_outputs(self, images: Tensor) -> NamedTuple:
        """(B, 3, H, W) normalised images -> the core's raw outputs, before any decoding."""
        features = self.backbone(images)
        return self.core([features[name] for name in self.features])

    def _batch(
        self, batched_inputs: list[dict[str, Any]], scale: float = 1.0
    ) -> tuple[Tensor, list[Geometry]]:
        """Normalised images (B, 3, H, W), and how each lies in its original."""
        views = [
            self._network_image(each["image"], scale, is_sized=each.get("is_sized", False))
            for each in batched_inputs
        ]
        geometries = [
            geometry.of_resized(original_size(each))
            for each, (_, geometry) in zip(batched_inputs, views, strict=True)
        ]
        return self._pad([image for image, _ in views]), geometries

    def _network_image(
        self, image: Tensor, scale: float = 1.0, *, is_sized: bool = False
    ) -> tuple[Tensor, Geometry]:
        """(3, h, w) in 0..255 -> (3, H, W) normalised, and how it lies in the image."""
        original = tuple(image.shape[-2:])
        if self.test_view is not None and not self.training:
            pixels, geometry = self.test_view(
                image.permute(1, 2, 0).contiguous().cpu().numpy(), scale
            )
            image = torch.from_numpy(pixels).permute(2, 0, 1).to(self.device)
        else:
            image = image.to(self.device).float()
            size = self.image_size or (original if scale != 1 else None)
            if size is not None and not is_sized:
                image = resize_tensor(image, scale_size(size, scale))
            geometry = Geometry.from_resize(tuple(image.shape[-2:]), original)
        return (image - self.pixel_mean) / self.pixel_std, geometry

    def _pad(self, images: list[Tensor]) -> Tensor:
        """Images of different sizes -> (B, 3, H, W), zeros (the mean) on the right and below."""
        divisor = max(self.backbone.size_divisibility, 1)
        height, width = (
            -(-max(image.shape[axis] for image in images) // divisor) * divisor for axis in (-2, -1)
        )
        return torch.stack([_pad_to(image, (height, width)) for image in images])


@META_ARCH_REGISTRY.register()
class Yolact(HostedInstances):
    core_class = architectures.Yolact


@META_ARCH_REGISTRY.register()
class CenterNetPoints(HostedInstances):
    core_class = architectures.CenterNetPoints


@META_ARCH_REGISTRY.register()
class CornerNet(HostedInstances):
    core_class = architectures.CornerNet


@META_ARCH_REGISTRY.register()
class CenterNetTriplets(HostedInstances):
    core_class = architectures.CenterNetTriplets


@META_ARCH_REGISTRY.register()
class RetinaFace(HostedInstances):
    core_class = architectures.RetinaFace


def to_targets(
    instances: Instances,
    size: tuple[int, int],
    batch_size: tuple[int, int],
    semantic: Tensor | None = None,
) -> Targets:
    """Detectron2's ground truth of an image -> ours.

    Args:
        instances: in pixels of `instances.image_size`.
        size: (height, width) of the network's image, to which everything is stretched.
        batch_size: (H, W) of the batch that it is padded to.
        semantic: (h, w) int64 labels in pixels of `instances.image_size`; padded with 255.
    """
    boxes = instances.gt_boxes.tensor.float()
    device, count = boxes.device, len(instances)
    height, width = instances.image_size
    if (height, width) != size:
        scale_x, scale_y = size[1] / width, size[0] / height
        boxes = boxes * boxes.new_tensor([scale_x, scale_y, scale_x, scale_y])
    keypoints = None
    if instances.has("gt_keypoints"):
        keypoints = instances.gt_keypoints.tensor.float()
        if (height, width) != size:
            keypoints = keypoints * keypoints.new_tensor([scale_x, scale_y, 1])
    vertices = None
    if instances.has("gt_vertices"):
        vertices = instances.gt_vertices.float()
        if (height, width) != size:
            scales = [scale_x, scale_y, (scale_x * scale_y) ** 0.5][: vertices.shape[-1]]
            vertices = vertices * vertices.new_tensor(scales)
    masks = None
    if instances.has("gt_masks"):
        masks = _to_bitmap(instances.gt_masks, (height, width)).to(device)
    elif not count:  # Detectron2's mapper sets no masks on an image without objects.
        masks = torch.zeros((0, height, width), dtype=torch.bool, device=device)
    if masks is not None and (height, width) != size:
        masks = _resize_masks(masks, size)
    if semantic is not None:
        semantic = _resize_labels(semantic.to(device), size)
    crowds = torch.zeros(count, dtype=torch.bool, device=device)
    return Targets(
        image_size=batch_size,
        boxes=boxes,
        labels=instances.gt_classes,
        is_crowd=instances.gt_is_crowd if instances.has("gt_is_crowd") else crowds,
        masks=None if masks is None else _pad_to(masks, batch_size),
        keypoints=keypoints,
        vertices=vertices,
        semantic=None if semantic is None else _pad_to(semantic, batch_size, VOID),
    )


def to_instances(detections: Detections, image_size: tuple[int, int]) -> Instances:
    """Finished detections -> Detectron2's result for an original image of this (height, width)."""
    instances = Instances(image_size)
    instances.pred_boxes = Boxes(detections.boxes)
    instances.scores = detections.scores
    instances.pred_classes = detections.labels
    if detections.masks is not None:
        instances.pred_masks = detections.masks
    if detections.mask_scores is not None:
        instances.mask_scores = detections.mask_scores
    if detections.keypoints is not None:  # Detectron2 counts from the corner of a pixel
        instances.pred_keypoints = detections.keypoints + detections.keypoints.new_tensor(
            [0.5, 0.5, 0]
        )
    if detections.vertices is not None:
        instances.pred_vertices = detections.vertices
    return instances


def _to_bitmap(masks: PolygonMasks | BitMasks | Tensor, size: tuple[int, int]) -> Tensor:
    """(N, height, width) bool."""
    if isinstance(masks, PolygonMasks):
        bitmaps = [torch.from_numpy(polygons_to_bitmask(p, *size)) for p in masks.polygons]
        return torch.stack(bitmaps) if bitmaps else torch.zeros((0, *size), dtype=torch.bool)
    return (masks.tensor if isinstance(masks, BitMasks) else masks).bool()


def _resize_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """The rule of metaheads.datasets.transforms.resize_masks, on the masks' device."""
    if not len(masks):
        return masks.new_zeros((0, *size))
    return F.interpolate(masks[:, None].float(), size, mode="bilinear")[:, 0] > 0.5


def _resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """(h, w) -> `size`, the nearest pixel's, by the rule of the host-free transforms."""
    if labels.shape == size:
        return labels
    rows, columns = (
        torch.from_numpy(nearest_cells(cells, results)).to(labels.device)
        for cells, results in zip(labels.shape, size, strict=True)
    )
    return labels[rows[:, None], columns]


def _pad_to(maps: Tensor, size: tuple[int, int], value: int = 0) -> Tensor:
    height, width = maps.shape[-2:]
    if (height, width) == size:
        return maps
    return F.pad(maps, (0, size[1] - width, 0, size[0] - height), value=value)


def original_size(inputs: dict[str, Any]) -> tuple[int, int]:
    """(height, width) in which Detectron2 wants the results."""
    height, width = inputs["image"].shape[-2:]
    return inputs.get("height", height), inputs.get("width", width)


def _by_stride(backbone: nn.Module) -> list[str]:
    shapes = backbone.output_shape()
    return sorted(shapes, key=lambda name: shapes[name].stride)


def spell_image(inputs: dict[str, Any]) -> str:
    return str(inputs.get("file_name", inputs.get("image_id", "image without a name")))
