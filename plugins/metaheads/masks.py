"""Masks: cropping to boxes, and carrying low-resolution masks to the original image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from metaheads.structures import Geometry


def crop_masks(masks: Tensor, boxes: Tensor, padding: float = 1.0) -> Tensor:
    """Sets masks to zero outside of their boxes (authors of YOLACT: box_utils.crop).

    A cell stays if x1 - padding <= column < x2 + padding, compared as floats; boxes are not
    rounded.

    Args:
        masks: (N, h, w).
        boxes: (N, 4) in [0, 1] of the frame that the masks cover; corners in any order.
    """
    rows, columns = _cells_inside(masks, boxes, padding)
    return masks * (rows[:, :, None] & columns[:, None, :])


def crop_masks_(masks: Tensor, boxes: Tensor, padding: float = 1.0) -> Tensor:
    """`crop_masks` in place: no second array of the masks' size."""
    rows, columns = _cells_inside(masks, boxes, padding)
    return masks.mul_(rows[:, :, None]).mul_(columns[:, None, :])


def _cells_inside(masks: Tensor, boxes: Tensor, padding: float) -> tuple[Tensor, Tensor]:
    """(N, h) and (N, w) bool: the rows and columns of each mask that its box keeps."""
    height, width = masks.shape[-2:]
    low = torch.minimum(boxes[:, :2], boxes[:, 2:])
    high = torch.maximum(boxes[:, :2], boxes[:, 2:])
    size = boxes.new_tensor([width, height])
    low = low * size - padding  # (N, 2)
    high = torch.minimum(high * size + padding, size)  # (N, 2)
    columns = torch.arange(width, device=masks.device, dtype=boxes.dtype)
    rows = torch.arange(height, device=masks.device, dtype=boxes.dtype)
    inside_x = (columns >= low[:, :1]) & (columns < high[:, :1])
    inside_y = (rows >= low[:, 1:]) & (rows < high[:, 1:])
    return inside_y, inside_x


@torch.no_grad()
def paste_masks(
    masks: Tensor, frames: Tensor, geometry: Geometry, threshold: float = 0.5
) -> Tensor:
    """Carries masks to the original image: bilinear (align_corners=False), then `> threshold`.

    Equal to resizing every mask to the whole image, but only the part of each mask that can exceed
    the
    threshold is resized, one detection at a time: besides the result, no float mask of the image's
    size ever exists unless one object fills the image.

    Args:
        masks: (N, h, w) probabilities.
        frames: (N, 4) boxes that the masks cover, in pixels of the network input.
        geometry: from the network input to the original image; upright (no rotation or mirror).

    Returns:
        (N, H, W) bool, pixels of the original image; False outside of the frame.

    Raises:
        ValueError: the geometry rotates or mirrors.
    """
    (a, b, c), (d, e, f) = geometry.to_original
    if b or d or a <= 0 or e <= 0:
        raise ValueError(
            f"masks can only be resized upright, got to_original={geometry.to_original}"
        )
    height, width = geometry.original_size
    pasted = torch.zeros(len(masks), height, width, dtype=torch.bool, device=masks.device)
    if not len(masks):
        return pasted
    masks = masks.float()
    hot = masks > threshold
    spans_y = _hot_spans(hot.any(2))
    spans_x = _hot_spans(hot.any(1))
    axes: dict[tuple, tuple[_Axis, _Axis]] = {}
    for index, (x1, y1, x2, y2) in enumerate(frames.tolist()):
        if spans_y[index][0] > spans_y[index][1] or x1 >= x2 or y1 >= y2:
            continue  # nothing above the threshold, or an empty frame
        if (x1, y1, x2, y2) not in axes:
            axes[x1, y1, x2, y2] = (
                _Axis(height, masks.shape[1], a=e, c=f, low=y1, high=y2, device=masks.device),
                _Axis(width, masks.shape[2], a=a, c=c, low=x1, high=x2, device=masks.device),
            )
        axis_y, axis_x = axes[x1, y1, x2, y2]
        rows, columns = axis_y.pixels(*spans_y[index]), axis_x.pixels(*spans_x[index])
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        part = axis_x.mix(masks[index, axis_y.cells(rows)], 1, columns)
        part = axis_y.mix(part, 0, rows, offset=axis_y.cells(rows).start)
        torch.gt(part, threshold, out=pasted[index, rows, columns])
    return pasted


def _hot_spans(hot: Tensor) -> list[list[int]]:
    """(N, n) bool -> first and last True of each row; (n, -1) for a row without any."""
    cells = torch.arange(hot.shape[1], device=hot.device)
    first = torch.where(hot, cells, hot.shape[1]).amin(1)
    last = torch.where(hot, cells, -1).amax(1)
    return torch.stack((first, last), 1).tolist()


class _Axis:
    """Bilinear interpolation along one axis: which two cells each output pixel mixes, and how."""

    def __init__(
        self,
        size: int,
        cells: int,
        *,
        a: float,
        c: float,
        low: float,
        high: float,
        device: torch.device,
    ) -> None:
        pixels = torch.arange(size, device=device, dtype=torch.float32) + 0.5
        scale = cells / (a * (high - low))
        position = pixels * scale - ((c / a + low) * cells / (high - low) + 0.5)
        inside = (position >= -0.5) & (position <= cells - 0.5)
        position = position.clamp(0, cells - 1)
        lower = position.floor()
        self.weight = position - lower
        self.lower = lower.long()
        self.upper = (self.lower + 1).clamp(max=cells - 1)
        self._lower = self.lower.cpu().numpy()
        self._upper = self.upper.cpu().numpy()
        where = inside.nonzero()
        self._inside = (int(where[0]), int(where[-1]) + 1) if len(where) else (0, 0)

    def pixels(self, first: int, last: int) -> slice:
        """The output pixels inside the frame that touch the cells first..last."""
        start = max(int(self._upper.searchsorted(first)), self._inside[0])
        stop = min(int(self._lower.searchsorted(last, side="right")), self._inside[1])
        return slice(start, stop)

    def cells(self, pixels: slice) -> slice:
        """The cells that these output pixels mix."""
        return slice(int(self._lower[pixels.start]), int(self._upper[pixels.stop - 1]) + 1)

    def mix(self, cells: Tensor, axis: int, pixels: slice, offset: int = 0) -> Tensor:
        """Interpolates `cells`, which begin at cell `offset`, along `axis` to these output
        pixels."""
        weight = self.weight[pixels] if axis == 1 else self.weight[pixels, None]
        lower = cells.index_select(axis, self.lower[pixels] - offset)
        upper = cells.index_select(axis, self.upper[pixels] - offset)
        return lower * (1 - weight) + upper * weight
