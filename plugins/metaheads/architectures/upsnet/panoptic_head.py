"""The panoptic head without parameters (UPSNet, Sec. 3.3; VPSNet uses it, too).

One logit per pixel for every stuff class, every instance, and "unknown". An instance's logit is the
semantic score of its class inside its box plus its mask logit, and zero outside of the box, where
it can win, too, if everything else is negative.

Letters: S stuff and T thing classes, C = S + T semantic channels, stuff first, N instances, m side
of the mask logits, h, w cells of the semantic scores, H, W pixels of the map that is decided.
Boxes here are x1, y1, x2, y2 with both corners inside of the box, as the authors' are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from metaheads.datasets.views import Window

UNKNOWN = -1
_CHUNK = 8  # semantic channels that are brought to full size at once


def panoptic_logits(
    scores: Tensor,
    boxes: Tensor,
    labels: Tensor,
    masks: Tensor,
    num_stuff: int,
    *,
    use_unknown: bool = True,
) -> Tensor:
    """All logits at once, with a graph, for the training's coarse maps.

    Args:
        scores: (C, h, w) semantic logits.
        boxes: (N, 4) in cells of `scores`.
        labels: (N,) thing classes from 0; -1 for an instance whose logits are zero.
        masks: (N, m, m) mask logits of the own class.

    Returns:
        (S + N, h, w): stuff, instances; with `use_unknown` one more.
    """
    size = scores.shape[-2], scores.shape[-1]
    class_parts, channels = [], []
    for box, label, mask in zip(boxes.tolist(), labels.tolist(), masks, strict=True):
        class_part = scores.new_zeros(size)
        if label >= 0:
            rows, columns = _slices(class_window(box, size))
            inside = torch.zeros(size, dtype=torch.bool, device=scores.device)
            inside[rows, columns] = True
            class_part = scores[num_stuff + label].where(inside, class_part)
        class_parts.append(class_part)
        channels.append(class_part + _place(mask, box, size) if label >= 0 else class_part)
    things = scores[:num_stuff], *(each[None] for each in channels)
    if not use_unknown:
        return torch.cat(things)
    unknown = scores[num_stuff:].amax(0)
    if class_parts:
        unknown = unknown - torch.stack(class_parts).amax(0)
    return torch.cat((*things, unknown[None]))


class Decision(NamedTuple):
    """Which channel wins in each pixel: (H, W) int64 each.

    winners: stuff 0..S-1, instance S + i, or `UNKNOWN`; semantic: channels of the semantic scores.
    """

    winners: Tensor
    semantic: Tensor


@torch.no_grad()
def decide(
    scores: SemanticScores,
    boxes: Tensor,
    labels: Tensor,
    masks: Tensor,
    num_stuff: int,
    *,
    use_unknown: bool = True,
) -> Decision:
    """The argmax of `panoptic_logits` over maps of full size, without ever holding them all.

    At most 8 channels and a few maps of full size exist at a time, however many instances there
    are. Arguments as in `panoptic_logits`, boxes in pixels of the full map.
    """
    best, winners = scores.best(0, num_stuff)
    thing, channel = scores.best(num_stuff, scores.count)
    semantic = torch.where(thing > best, channel, winners)
    present = torch.full_like(best, -torch.inf)  # the highest class part
    height, width = scores.size
    # Where no instance has had a zero yet: the part that all windows so far share.
    seen_zero, class_zero = Window(0, 0, width, height), Window(0, 0, width, height)
    for number, (box, label, mask) in enumerate(
        zip(boxes.tolist(), labels.tolist(), masks, strict=True)
    ):
        window, inside = Window(0, 0, 0, 0), Window(0, 0, 0, 0)
        if label >= 0:
            inside = class_window(box, scores.size)
            window = _around(inside, mask_window(box).overlap(Window(0, 0, width, height)))
            values = _instance_logits(scores, num_stuff + label, mask, box, window, inside)
            rows, columns = _slices(window)
            better = values > best[rows, columns]
            best[rows, columns] = values.where(better, best[rows, columns])
            winners[rows, columns] = winners[rows, columns].masked_fill(better, num_stuff + number)
            rows, columns = _slices(inside)
            own = scores.crop(num_stuff + label, inside)
            present[rows, columns] = present[rows, columns].maximum(own)
        for rows, columns in _without(seen_zero, window):
            better = best[rows, columns] < 0
            best[rows, columns] = best[rows, columns].masked_fill(better, 0)
            winners[rows, columns] = winners[rows, columns].masked_fill(better, num_stuff + number)
        for rows, columns in _without(class_zero, inside):
            present[rows, columns] = present[rows, columns].clamp(min=0)
        seen_zero, class_zero = seen_zero.overlap(window), class_zero.overlap(inside)
    if use_unknown:
        unknown = thing - present if len(boxes) else thing
        winners = winners.masked_fill(unknown > best, UNKNOWN)
    return Decision(winners, semantic)


@torch.no_grad()
def prune(
    boxes: Tensor, labels: Tensor, masks: Tensor, size: tuple[int, int], max_overlap: float
) -> list[int]:
    """Which instances stay, visited in their order (best first).

    Dropped are those whose mask is empty, or for more than `max_overlap` of its pixels covered by
    masks of its class that stay.

    Args:
        boxes, labels, masks: as in `panoptic_logits`, boxes in pixels of the full map.
        size: (H, W) of the full map.
    """
    taken: dict[int, Tensor] = {}
    kept = []
    for number, (box, label, mask) in enumerate(
        zip(boxes.tolist(), labels.tolist(), masks, strict=True)
    ):
        place, covered = mask_on(mask, box, size)
        area = int(covered.sum())
        if not area:
            continue
        canvas = taken.get(label)
        if canvas is None:
            canvas = torch.zeros(size, dtype=torch.bool, device=masks.device)
            taken[label] = canvas
        part = canvas[place]
        if int((part & covered).sum()) > max_overlap * area:
            continue
        part |= covered
        kept.append(number)
    return kept


def mask_on(
    mask: Tensor, box: list[float], size: tuple[int, int]
) -> tuple[tuple[slice, slice], Tensor]:
    """Where a mask (m, m) of logits lies on a map of this size, and (rows, columns) bool."""
    window = mask_window(box)
    seen = window.overlap(Window(0, 0, size[1], size[0]))
    return _slices(seen), _resized(mask, window, seen) > 0


class SemanticScores:
    """Semantic logits of an image that are brought to full size piece by piece.

    Args:
        scores: (C, h, w).
        factor: how much larger the full map is; bilinear, pixel centres at .5.
    """

    def __init__(self, scores: Tensor, factor: int = 4) -> None:
        self.scores, self.factor = scores.float(), factor
        self.count = len(scores)
        self.size = scores.shape[-2] * factor, scores.shape[-1] * factor

    def best(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """(H, W) highest value of these channels, and (H, W) the first channel that has it."""
        best = self.scores.new_full(self.size, -torch.inf)
        channel = torch.zeros(self.size, dtype=torch.long, device=self.scores.device)
        for first in range(start, stop, _CHUNK):
            values = self._enlarge(self.scores[first : min(first + _CHUNK, stop)])
            value, index = values.max(0)
            better = value > best
            best = value.where(better, best)
            channel = (index + first).where(better, channel)
        return best, channel

    def crop(self, channel: int, window: Window) -> Tensor:
        """A part of a channel at full size; the window lies within the map."""
        factor = self.factor
        top, left = max(window.top // factor - 1, 0), max(window.left // factor - 1, 0)
        bottom, right = -(-window.bottom // factor) + 1, -(-window.right // factor) + 1
        part = self._enlarge(self.scores[channel : channel + 1, top:bottom, left:right])[0]
        start = Window(left * factor, top * factor, 0, 0)
        return part[_slices(_within(window, start))]

    def _enlarge(self, scores: Tensor) -> Tensor:
        if self.factor == 1 or not scores.numel():
            return scores
        return F.interpolate(
            scores[None], scale_factor=self.factor, mode="bilinear", align_corners=False
        )[0]


def mask_window(box: list[float]) -> Window:
    """Where mask logits lie: the corners cut to whole pixels, both inside."""
    left, top, right, bottom = (int(edge) for edge in box)
    return Window(left, top, right + 1, bottom + 1)


def class_window(box: list[float], size: tuple[int, int]) -> Window:
    """Where the semantic score of an instance's class counts; half pixels round to even."""
    x1, y1, x2, y2 = box
    window = Window(int(x1), int(y1), int(round(x2) + 1), int(round(y2) + 1))
    return window.overlap(Window(0, 0, size[1], size[0]))


def _instance_logits(
    scores: SemanticScores,
    channel: int,
    mask: Tensor,
    box: list[float],
    window: Window,
    inside: Window,
) -> Tensor:
    """An instance's logits within a window that holds both of its parts."""
    values = scores.scores.new_zeros(window.size)
    height, width = scores.size
    full = mask_window(box)
    seen = full.overlap(Window(0, 0, width, height))
    values[_slices(_within(seen, window))] += _resized(mask, full, seen)
    values[_slices(_within(inside, window))] += scores.crop(channel, inside)
    return values


def _place(mask: Tensor, box: list[float], size: tuple[int, int]) -> Tensor:
    """(m, m) mask logits of a box -> (h, w), zero outside."""
    window = mask_window(box)
    seen = window.overlap(Window(0, 0, size[1], size[0]))
    part = _resized(mask, window, seen)
    return F.pad(part, (seen.left, size[1] - seen.right, seen.top, size[0] - seen.bottom))


def _resized(mask: Tensor, window: Window, seen: Window) -> Tensor:
    """The part of a window that is seen, of mask logits (m, m) that are stretched over it."""
    height, width = window.size
    if min(height, width) < 1 or min(seen.size) < 1:
        return mask.new_zeros((max(seen.size[0], 0), max(seen.size[1], 0)))
    full = F.interpolate(
        mask[None, None].float(), (height, width), mode="bilinear", align_corners=False
    )
    return full[0, 0][_slices(_within(seen, window))]


def _within(part: Window, whole: Window) -> Window:
    return Window(
        part.left - whole.left,
        part.top - whole.top,
        part.right - whole.left,
        part.bottom - whole.top,
    )


def _around(first: Window, second: Window) -> Window:
    return Window(
        min(first.left, second.left),
        min(first.top, second.top),
        max(first.right, second.right),
        max(first.bottom, second.bottom),
    )


def _slices(window: Window) -> tuple[slice, slice]:
    return slice(window.top, window.bottom), slice(window.left, window.right)


def _without(whole: Window, part: Window) -> Iterator[tuple[slice, slice]]:
    """Up to four pieces of a window that are not in another one."""
    part = whole.overlap(part)
    if min(part.size) < 1:
        part = Window(whole.left, whole.top, whole.left, whole.top)
    yield slice(whole.top, part.top), slice(whole.left, whole.right)
    yield slice(part.bottom, whole.bottom), slice(whole.left, whole.right)
    yield slice(part.top, part.bottom), slice(whole.left, part.left)
    yield slice(part.top, part.bottom), slice(part.right, whole.right)
