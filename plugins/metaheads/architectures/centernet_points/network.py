"""The heads of CenterNet. Letters: B images, C classes, J joints, h, w cells."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from metaheads.architectures.centernet_points.decode import decode, decode_fixed, merge_flipped
from metaheads.architectures.centernet_points.losses import losses
from metaheads.augment import merge_by_soft_nms
from metaheads.heatmaps import RADIUS_FORMULAS
from metaheads.structures import Detections, FixedDetections, Targets

COCO_PAIRS = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))


class PointOutputs(NamedTuple):
    """Raw outputs of a stack; all lengths in cells.

    heatmap (B, C, h, w) logits of object centres; sizes (B, 2, h, w) or with class-specific sizes
    (B, 2C, h, w): width and height; offsets (B, 2, h, w) from the cell's corner to the centre.
    With joints: joints (B, 2J, h, w) from the centre's cell to each joint; joint_heatmap
    (B, J, h, w) logits; joint_offsets (B, 2, h, w) from the cell's corner to any joint.
    """

    heatmap: Tensor
    sizes: Tensor
    offsets: Tensor
    joints: Tensor | None = None
    joint_heatmap: Tensor | None = None
    joint_offsets: Tensor | None = None


class CenterNetPoints(nn.Module):
    """CenterNet (objects as points) on one feature, or on one for each stack of an hourglass.

    Args:
        in_channels: channels of the features, of an hourglass one per stack.
        strides: their strides in pixels, all equal.
        num_classes: classes.
        num_keypoints: joints of each object, 0 for boxes only.
        keypoint_pairs: joints that a mirror swaps; by default COCO's.
        head_channels: width of the hidden convolution of every head; 0: none.
        class_specific_sizes: predict a size for each class.
        min_overlap: IoU that sets the gaussians' radius.
        radius_formula: "original" or "corrected", see `metaheads.heatmaps.gaussian_radius`.
        size_weight, offset_weight, joint_weight, joint_heatmap_weight: weights of the losses; the
            heatmap's is 1, the joints' offsets have offset_weight.
        max_detections: detections of an image.
        joint_threshold: lowest score of a joint's peak that corrects a joint.

    Raises:
        ValueError: features of different strides, an unknown formula, or a number out of range.
    """

    def __init__(
        self,
        in_channels: list[int],
        strides: list[int],
        *,
        num_classes: int = 80,
        num_keypoints: int = 0,
        keypoint_pairs: tuple[tuple[int, int], ...] = COCO_PAIRS,
        head_channels: int = 64,
        class_specific_sizes: bool = False,
        min_overlap: float = 0.7,
        radius_formula: str = "original",
        size_weight: float = 0.1,
        offset_weight: float = 1.0,
        joint_weight: float = 1.0,
        joint_heatmap_weight: float = 1.0,
        max_detections: int = 100,
        joint_threshold: float = 0.1,
    ) -> None:
        super().__init__()
        if len(set(strides)) != 1 or len(strides) != len(in_channels):
            raise ValueError(
                "CenterNetPoints needs features of one stride: give it the finest one, or the "
                f"stacks of an hourglass; got in_channels={in_channels}, strides={strides}"
            )
        if radius_formula not in RADIUS_FORMULAS:
            raise ValueError(
                f"radius_formula must be one of {RADIUS_FORMULAS}, got {radius_formula!r}"
            )
        if num_classes < 1 or num_keypoints < 0 or max_detections < 1:
            raise ValueError(
                "num_classes and max_detections must be positive, num_keypoints not negative; got "
                f"{num_classes}, {max_detections}, {num_keypoints}"
            )
        if (
            num_keypoints
            and max((max(pair) for pair in keypoint_pairs), default=0) >= num_keypoints
        ):
            raise ValueError(
                f"keypoint_pairs {keypoint_pairs} name joints that are not among the {num_keypoints}"
            )
        self.stride = strides[0]
        self.num_classes, self.num_keypoints = num_classes, num_keypoints
        self.keypoint_pairs = keypoint_pairs if num_keypoints else ()
        self.class_specific_sizes = class_specific_sizes
        self.min_overlap, self.radius_formula = min_overlap, radius_formula
        self.size_weight, self.offset_weight = size_weight, offset_weight
        self.joint_weight, self.joint_heatmap_weight = joint_weight, joint_heatmap_weight
        self.max_detections, self.joint_threshold = max_detections, joint_threshold
        widths = {"hm": num_classes, "wh": 2 * (num_classes if class_specific_sizes else 1)}
        widths["reg"] = 2
        if num_keypoints:
            widths |= {"hps": 2 * num_keypoints, "hm_hp": num_keypoints, "hp_offset": 2}
        self.heads = nn.ModuleList(
            nn.ModuleDict({name: _head(name, c, head_channels, n) for name, n in widths.items()})
            for c in in_channels
        )
        # Layers whose size follows num_classes, with the outputs they add for the background.
        by_class = ("hm", "wh") if class_specific_sizes else ("hm",)
        last = 2 if head_channels else 0
        self.CLASS_LAYERS = tuple(
            (f"heads.{stack}.{name}.{last}", 0)
            for stack in range(len(in_channels))
            for name in by_class
        )

    def forward(self, features: list[Tensor]) -> list[PointOutputs]:
        """Features (B, channels, h, w) -> raw outputs of every stack, in evaluation of the last."""
        stacks = range(len(self.heads)) if self.training else [len(self.heads) - 1]
        found = []
        for index in stacks:
            heads: Any = self.heads[index]
            found.append(PointOutputs(*(head(features[index]) for head in heads.values())))
        return found

    def losses(self, outputs: list[PointOutputs], targets: list[Targets]) -> dict[str, Tensor]:
        """loss_heatmap, loss_size, loss_offset and, with joints, loss_joint, loss_joint_heatmap,
        loss_joint_offset.

        Heatmaps are divided by their positives, the others are means over coordinates; all are
        means over the stacks. Always finite, and every parameter has a gradient.
        """
        return losses(self, outputs, targets)

    def decode(
        self, outputs: list[PointOutputs], image_sizes: list[tuple[int, int]]
    ) -> list[Detections]:
        """The best `max_detections` of each image, whatever their scores, in pixels of the network
        input, boxes not clipped; joints, if there are any, as keypoints with scores."""
        return decode(self, outputs)

    def candidates(
        self,
        outputs: list[PointOutputs],
        image_sizes: list[tuple[int, int]],
        is_flipped: bool = False,
    ) -> list[Detections]:
        """What `merge_views` merges; see `metaheads.augment`."""
        return decode(self, merge_flipped(self, outputs) if is_flipped else outputs)

    def merge_views(self, views: list[Detections]) -> Detections:
        """All views of an image -> its detections: of several by soft-NMS."""
        if len(views) == 1:
            return views[0]
        return merge_by_soft_nms(Detections.cat(views), self.max_detections)

    def decode_fixed(
        self, outputs: list[PointOutputs], image_size: tuple[int, int]
    ) -> FixedDetections:
        """As `decode`, in tensors of fixed size, for exported graphs."""
        return decode_fixed(self, outputs)


def _head(name: str, in_channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    """Biases begin at zero, those of heatmaps at a probability of 0.1."""
    last = nn.Conv2d(hidden or in_channels, out_channels, 1)
    layers = [nn.Conv2d(in_channels, hidden, 3, padding=1), nn.ReLU()] if hidden else []
    for layer in (*layers[:1], last):
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    if name in ("hm", "hm_hp"):
        nn.init.constant_(last.bias, -2.19)  # type: ignore[arg-type]
    return nn.Sequential(*layers, last)
