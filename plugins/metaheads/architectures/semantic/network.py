"""A semantic head on a backbone: FCN's (arXiv 1411.4038) or UPSNet's (arXiv 1901.03784, Sec. 3.2).

Classes are the panoptic labels as they are: things first, then stuff. Scores go to the pixels of
the network input by a fixed bilinear upsampling, as in both papers.

Letters: B images, C classes, h, w cells of the finest level, H, W pixels of the network input.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaheads.architectures.semantic.fcn_head import FCNHead
from metaheads.architectures.upsnet.semantic_head import SemanticHead
from metaheads.losses import IGNORED, known_cross_entropy
from metaheads.structures import Geometry, Targets

HEADS = ("fcn", "deformable")


class SemanticOutputs(NamedTuple):
    """semantic (B, C, h, w): logits."""

    semantic: Tensor


class SemanticSegmenter(nn.Module):
    """Semantic segmentation: a label for every pixel.

    Args:
        in_channels: channels of the features; of equal width for "deformable".
        strides: their strides, each twice the one before.
        num_classes: C, things and stuff.
        head: "fcn" for `FCNHead`, "deformable" for UPSNet's `SemanticHead`.
        head_widths: of the deformable layers.
        semantic_weight: of the loss.

    Raises:
        ValueError: other strides, no class, an unknown head, or levels that do not fit it.
    """

    def __init__(
        self,
        in_channels: list[int],
        strides: list[int],
        *,
        num_classes: int = 133,
        head: str = "fcn",
        head_widths: tuple[int, ...] = (256, 128, 128),
        semantic_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if list(strides) != [strides[0] * 2**level for level in range(len(strides))]:
            raise ValueError(f"each stride must be twice the one before, got strides={strides}")
        if not 1 <= num_classes <= IGNORED:
            raise ValueError(f"num_classes must be 1 to {IGNORED}, got {num_classes}")
        if head not in HEADS:
            raise ValueError(f"head must be one of {HEADS}, got {head!r}")
        self.stride, self.num_classes = strides[0], num_classes
        self.semantic_weight = semantic_weight
        self.head: FCNHead | SemanticHead
        if head == "fcn":
            self.head = FCNHead(list(in_channels), num_classes)
            layers = [f"scores.{level}" for level in range(len(strides))]
            layers += [f"upsamplings.{level}" for level in range(len(strides) - 1)]
        else:
            self.head = SemanticHead(list(in_channels), num_classes, head_widths)
            layers = ["score"]
        # Layers whose size follows the number of classes, without a background.
        self.CLASS_LAYERS = tuple((f"head.{layer}", 0) for layer in layers)

    def forward(self, features: list[Tensor]) -> SemanticOutputs:
        """Features (B, channels, h / 2^i, w / 2^i), finest first -> raw outputs."""
        found = self.head(features)
        return SemanticOutputs(found if isinstance(found, Tensor) else found[0])

    def losses(self, outputs: SemanticOutputs, targets: list[Targets]) -> dict[str, Tensor]:
        """loss_semantic: mean cross-entropy over the known pixels of the batch; 0 if there is none.

        Raises:
            ValueError: targets without semantic labels, or with more classes than C.
        """
        labels = self._stack_labels(targets)
        size = (labels.shape[-2], labels.shape[-1])
        loss = known_cross_entropy(self._upsample(outputs.semantic, size), labels)
        return {"loss_semantic": self.semantic_weight * loss}

    def decode(self, outputs: SemanticOutputs, geometries: list[Geometry]) -> list[Tensor]:
        """Of each image the label map (height, width) int64 in its original size.

        As both hosts do it, the logits go to the original size, not the labels: see
        `decode_scores`.
        """
        parts = zip(outputs.semantic, geometries, strict=True)
        return [self._finish(scores, geometry).argmax(0) for scores, geometry in parts]

    def decode_scores(self, outputs: SemanticOutputs, geometries: list[Geometry]) -> list[Tensor]:
        """Of each image the logits (C, height, width) in its original size.

        Bilinear to the network input, cut to the image, bilinear to the original.

        Args:
            geometries: how the network inputs lie in the original images.

        Raises:
            ValueError: an image that is not just stretched.
        """
        parts = zip(outputs.semantic, geometries, strict=True)
        return [self._finish(scores, geometry) for scores, geometry in parts]

    @torch.no_grad()
    def _finish(self, scores: Tensor, geometry: Geometry) -> Tensor:
        """(C, h, w) -> (C, height, width)."""
        stretch = Geometry.from_resize(geometry.input_size, geometry.original_size)
        given, expected = torch.tensor(geometry.to_original), torch.tensor(stretch.to_original)
        if not torch.allclose(given, expected):
            raise ValueError(
                "SemanticSegmenter needs images that are stretched (metaheads.FixedResize, "
                "INPUT.TEST_SIZE), not warped or bordered (TestView)"
            )
        full = self._upsample(scores[None], geometry.input_size)
        if geometry.original_size != geometry.input_size:
            full = F.interpolate(full, geometry.original_size, mode="bilinear", align_corners=False)
        return full[0]

    def _upsample(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, C, h, w) -> (B, C, *size) pixels of the network input, without what lies beyond."""
        height, width = size
        if self.stride > 1:
            scores = F.interpolate(
                scores, scale_factor=self.stride, mode="bilinear", align_corners=False
            )
        return scores[..., :height, :width]

    def _stack_labels(self, targets: list[Targets]) -> Tensor:
        """(B, H, W) int64."""
        maps = [target.semantic for target in targets if target.semantic is not None]
        if len(maps) < len(targets):
            raise ValueError(
                "SemanticSegmenter needs semantic ground truth: the data of the config give none "
                "(metaheads.LoadPanoptic, DATASETS.REGISTER_PANOPTIC)"
            )
        labels = torch.stack(maps)
        highest = int(labels.masked_fill(labels == IGNORED, 0).max())
        if highest >= self.num_classes:
            raise ValueError(
                f"the data have label {highest}, the model has num_classes={self.num_classes}; "
                "things and stuff count together"
            )
        return labels
