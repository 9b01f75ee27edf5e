"""The heads of CornerNet and CenterNet (triplets). Letters: B images, C classes, T tag dimensions,
h, w cells."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from metaheads.architectures.cornernet.decode import (
    CornerCandidates,
    candidates,
    decode,
    decode_fixed,
    merge_views,
)
from metaheads.architectures.cornernet.losses import losses
from metaheads.backbones.hourglass import ConvNorm
from metaheads.heatmaps import RADIUS_FORMULAS
from metaheads.ops.corner_pool import corner_pool
from metaheads.structures import Detections, FixedDetections, Targets

# Which maxima meet in a keypoint: of each branch one after the other.
POOLS = {
    "tl": (("top",), ("left",)),
    "br": (("bottom",), ("right",)),
    "ct": (("top", "bottom"), ("left", "right")),
}


class CornerOutputs(NamedTuple):
    """Raw outputs of a stack for upper left and lower right corners, and centres if there are any.

    Heatmaps (B, C, h, w), logits; tags (B, T, h, w); offsets (B, 2, h, w), x and y in the cell.
    """

    tl_heatmap: Tensor
    br_heatmap: Tensor
    tl_tags: Tensor
    br_tags: Tensor
    tl_offsets: Tensor
    br_offsets: Tensor
    ct_heatmap: Tensor | None = None
    ct_offsets: Tensor | None = None


class CornerNet(nn.Module):
    """CornerNet on the stacks of an hourglass.

    Args:
        in_channels: channels of the features, one per stack.
        strides: their strides in pixels, all equal.
        num_classes: classes.
        pool_channels: width of the branches that are pooled.
        head_channels: width before and in the heads.
        tag_channels: dimensions of the tags that tell which corners belong together.
        min_overlap: IoU that sets the gaussians' radius.
        radius_formula: "original" or "corrected", see `metaheads.heatmaps.gaussian_radius`.
        pull_weight, push_weight, offset_weight: weights of the losses; the heatmaps' is 1.
        num_corners: best corners of each kind that are paired.
        max_tag_distance: of the tags of a pair.
        num_pairs: best pairs that are kept before the NMS.
        nms: kind of soft-NMS, "gaussian", "linear" or "hard".
        max_detections: detections of an image.

    Raises:
        ValueError: features of different strides, an unknown formula, or a number out of range.
    """

    has_centres = False
    is_cascade = False
    max_outside = float("inf")

    def __init__(
        self,
        in_channels: list[int],
        strides: list[int],
        *,
        num_classes: int = 80,
        pool_channels: int = 128,
        head_channels: int = 256,
        tag_channels: int = 1,
        min_overlap: float = 0.3,
        radius_formula: str = "corrected",
        pull_weight: float = 0.1,
        push_weight: float = 0.1,
        offset_weight: float = 1.0,
        num_corners: int = 100,
        max_tag_distance: float = 0.5,
        num_pairs: int = 1000,
        nms: str = "gaussian",
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if len(set(strides)) != 1 or len(strides) != len(in_channels):
            raise ValueError(
                f"{name} needs features of one stride, the stacks of an hourglass; got "
                f"in_channels={in_channels}, strides={strides}"
            )
        if radius_formula not in RADIUS_FORMULAS:
            raise ValueError(
                f"radius_formula must be one of {RADIUS_FORMULAS}, got {radius_formula!r}"
            )
        if min(num_classes, tag_channels, num_corners, num_pairs, max_detections) < 1:
            raise ValueError(
                "num_classes, tag_channels, num_corners, num_pairs and max_detections must be "
                "positive"
            )
        self.stride = strides[0]
        self.num_classes = num_classes
        self.min_overlap, self.radius_formula = min_overlap, radius_formula
        self.pull_weight, self.push_weight = pull_weight, push_weight
        self.offset_weight = offset_weight
        self.num_corners, self.max_tag_distance = num_corners, max_tag_distance
        self.num_pairs, self.nms, self.max_detections = num_pairs, nms, max_detections
        kinds = ("tl", "br", "ct") if self.has_centres else ("tl", "br")
        self.stacks = nn.ModuleList(
            nn.ModuleDict(
                {
                    kind: _Branch(
                        kind,
                        channels,
                        pool_channels,
                        head_channels,
                        num_classes,
                        tag_channels,
                        is_cascade=self.is_cascade and kind != "ct",
                    )
                    for kind in kinds
                }
            )
            for channels in in_channels
        )
        # Layers whose size follows num_classes, with the outputs they add for the background.
        self.CLASS_LAYERS = tuple(
            (f"stacks.{stack}.{kind}.heat.2", 0)
            for stack in range(len(in_channels))
            for kind in kinds
        )

    def forward(self, features: list[Tensor]) -> list[CornerOutputs]:
        """Features (B, channels, h, w) -> raw outputs of every stack, in evaluation of the last."""
        stacks = range(len(self.stacks)) if self.training else [len(self.stacks) - 1]
        found = []
        for index in stacks:
            branches: Any = self.stacks[index]
            maps = {kind: branch(features[index]) for kind, branch in branches.items()}
            (tl, tl_tags, tl_offsets), (br, br_tags, br_offsets) = maps["tl"], maps["br"]
            centre, _, centre_offsets = maps.get("ct", (None, None, None))
            found.append(
                CornerOutputs(
                    tl, br, tl_tags, br_tags, tl_offsets, br_offsets, centre, centre_offsets
                )
            )
        return found

    def losses(self, outputs: list[CornerOutputs], targets: list[Targets]) -> dict[str, Tensor]:
        """loss_heatmap, loss_pull, loss_push, loss_offset: sums over the kinds of keypoints, means
        over the stacks.

        Always finite, and every parameter has a gradient. As in the authors' code, pull and push
        are summed over the images of a process, so that their share grows with the batch.
        """
        return losses(self, outputs, targets)

    def decode(
        self, outputs: list[CornerOutputs], image_sizes: list[tuple[int, int]]
    ) -> list[Detections]:
        """Detections in pixels of the network input, clipped to it, best first, after soft-NMS."""
        return decode(self, outputs, image_sizes)

    def candidates(
        self,
        outputs: list[CornerOutputs],
        image_sizes: list[tuple[int, int]],
        is_flipped: bool = False,
    ) -> list[CornerCandidates]:
        """What `merge_views` merges; see `metaheads.augment`."""
        return candidates(self, outputs, image_sizes, is_flipped)

    def merge_views(self, views: list[CornerCandidates]) -> Detections:
        """All views of an image -> its detections; the first view is that of its own size."""
        return merge_views(self, views)

    def decode_fixed(
        self, outputs: list[CornerOutputs], image_size: tuple[int, int]
    ) -> FixedDetections:
        """As `decode`, in tensors of fixed size, for exported graphs."""
        return decode_fixed(self, outputs, image_size)


class CenterNetTriplets(CornerNet):
    """CenterNet (keypoint triplets): CornerNet with centres that confirm the pairs.

    Args:
        centre_parts: n of the n x n parts of a box in whose middle its centre must lie, of small
            and of large boxes.
        centre_area: boxes of at most so many square pixels of the original image are small.
        max_outside: boxes that reach so many pixels of the network input out of the image are
            dropped.
        others: as in `CornerNet`.
    """

    has_centres = True
    is_cascade = True

    def __init__(
        self,
        in_channels: list[int],
        strides: list[int],
        *,
        num_classes: int = 80,
        pool_channels: int = 128,
        head_channels: int = 256,
        tag_channels: int = 1,
        min_overlap: float = 0.7,
        radius_formula: str = "original",
        pull_weight: float = 0.1,
        push_weight: float = 0.1,
        offset_weight: float = 1.0,
        num_corners: int = 70,
        max_tag_distance: float = 0.5,
        num_pairs: int = 1000,
        nms: str = "gaussian",
        max_detections: int = 100,
        centre_parts: tuple[int, int] = (3, 5),
        centre_area: float = 22500.0,
        max_outside: float = 5.0,
    ) -> None:
        super().__init__(
            in_channels,
            strides,
            num_classes=num_classes,
            pool_channels=pool_channels,
            head_channels=head_channels,
            tag_channels=tag_channels,
            min_overlap=min_overlap,
            radius_formula=radius_formula,
            pull_weight=pull_weight,
            push_weight=push_weight,
            offset_weight=offset_weight,
            num_corners=num_corners,
            max_tag_distance=max_tag_distance,
            num_pairs=num_pairs,
            nms=nms,
            max_detections=max_detections,
        )
        self.centre_parts, self.centre_area = centre_parts, centre_area
        self.max_outside = max_outside


class _Branch(nn.Module):
    """One kind of keypoint: pooling, then heatmap, tags (of corners) and offsets."""

    def __init__(
        self,
        kind: str,
        in_channels: int,
        pool_channels: int,
        head_channels: int,
        num_classes: int,
        tag_channels: int,
        *,
        is_cascade: bool,
    ) -> None:
        super().__init__()
        self.pool = _PooledFeature(kind, in_channels, pool_channels, head_channels, is_cascade)
        self.heat = _head(head_channels, num_classes, bias=-2.19)
        self.tag = None if kind == "ct" else _head(head_channels, tag_channels)
        self.offset = _head(head_channels, 2)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        pooled = self.pool(feature)
        tags = None if self.tag is None else self.tag(pooled)
        return self.heat(pooled), tags, self.offset(pooled)


class _PooledFeature(nn.Module):
    """Two pooled branches, added to the feature (CornerNet, Fig. 7; triplets, Fig. 4 and 5).

    In cascade pooling each branch first adds what it sees in the other direction.
    """

    def __init__(
        self, kind: str, in_channels: int, width: int, out_channels: int, is_cascade: bool
    ) -> None:
        super().__init__()
        self.directions = POOLS[kind]
        self.p1_conv1 = ConvNorm(in_channels, width, 3)
        self.p2_conv1 = ConvNorm(in_channels, width, 3)
        self.p_conv1 = nn.Conv2d(width, out_channels, 3, padding=1, bias=False)
        self.p_bn1 = nn.BatchNorm2d(out_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = ConvNorm(out_channels, out_channels, 3)
        self.is_cascade = is_cascade
        if is_cascade:
            self.look_conv1 = ConvNorm(in_channels, width, 3)
            self.look_conv2 = ConvNorm(in_channels, width, 3)
            self.P1_look_conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.P2_look_conv = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, feature: Tensor) -> Tensor:
        first, second = self.p1_conv1(feature), self.p2_conv1(feature)
        if self.is_cascade:
            first = self.P1_look_conv(first + self._pool(1, self.look_conv1(feature)))
            second = self.P2_look_conv(second + self._pool(0, self.look_conv2(feature)))
        pooled = self.p_bn1(self.p_conv1(self._pool(0, first) + self._pool(1, second)))
        return self.conv2((pooled + self.bn1(self.conv1(feature))).relu())

    def _pool(self, branch: int, maps: Tensor) -> Tensor:
        for direction in self.directions[branch]:
            maps = corner_pool(maps, direction)
        return maps


def _head(channels: int, out_channels: int, bias: float | None = None) -> nn.Sequential:
    last = nn.Conv2d(channels, out_channels, 1)
    if bias is not None:  # a probability of 0.1
        nn.init.constant_(last.bias, bias)  # type: ignore[arg-type]
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), last)
