"""Soft-NMS (arXiv 1704.04503): overlapped boxes lose score instead of going. N boxes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

METHODS = ("gaussian", "linear", "hard")


class SoftNms(NamedTuple):
    """What soft-NMS leaves, best first.

    rows (D,): places of the boxes in the input; boxes (D, 4), changed by box voting only; scores
    (D,), lowered.
    """

    rows: Tensor
    boxes: Tensor
    scores: Tensor


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    method: str = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.001,
    votes: Tensor | None = None,
    vote_exponent: int = 10,
    is_compatible: bool = False,
) -> SoftNms:
    """Takes the best box, lowers the scores of those it overlaps, takes the best of the rest, ...

    Args:
        boxes: (N, 4) xyxy of one class.
        scores: (N,).
        method: "gaussian" multiplies by exp(-IoU^2 / sigma); "linear" by 1 - IoU, "hard" by 0, both
            above `iou_threshold` only.
        score_threshold: overlapped boxes whose score falls below it are dropped.
        votes: (N, 2) weights of the upper left and the lower right corner, with which every box
            draws the better ones that it overlaps to itself (CornerNet's soft_nms_merge).
        vote_exponent: a vote counts (1 - the factor of its score) to this power.
        is_compatible: as the code of CornerNet's and both CenterNets' authors: sides one pixel
            longer; dropped boxes leave copies of others behind the kept ones; votes stay at their
            place when boxes move.

    Raises:
        ValueError: another method.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    state = _State(boxes, scores, votes, is_compatible)
    first = 0
    while first < state.kept:
        state.bring_best_to(first)
        rest = slice(first + 1, state.kept)
        ious = _iou(state.boxes[first], state.boxes[rest], float(is_compatible))
        factors = _decay(ious, method, sigma, iou_threshold)
        state.weaken(first, ious > 0, factors, score_threshold, vote_exponent)
        first += 1
    end = None if is_compatible else state.kept
    return SoftNms(
        torch.from_numpy(state.rows[:end]).to(boxes.device),
        torch.from_numpy(state.boxes[:end]).to(boxes),
        torch.from_numpy(state.scores[:end]).to(scores),
    )


def soft_nms_fixed(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    count: int,
    *,
    method: str = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.001,
) -> tuple[Tensor, Tensor]:
    """`soft_nms` class by class of a batch, by operators alone that exported graphs know.

    Args:
        boxes: (B, N, 4); scores: (B, N), below 0 for none; labels: (B, N).
        count: D, at most N are found.
        others: as in `soft_nms`.

    Returns:
        rows (B, D) of the best, and their lowered scores (B, D), -1 where nothing is left.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    areas = (high - low).prod(-1)
    rows, found = [], []
    for _ in range(min(count, scores.shape[1])):
        best, row = scores.max(1, keepdim=True)  # (B, 1)
        rows.append(row)
        found.append(best.clamp(min=-1))
        corner = row[..., None].expand(-1, -1, 2)
        overlap = high.minimum(high.gather(1, corner)) - low.maximum(low.gather(1, corner))
        intersection = overlap.clamp(min=0).prod(-1)
        union = (areas + areas.gather(1, row) - intersection).clamp(min=torch.finfo().tiny)
        ious = intersection / union  # (B, N)
        if method == "gaussian":
            factors = (-ious.square() / sigma).exp()
        else:
            weaker = 1 - ious if method == "linear" else torch.zeros_like(ious)
            factors = torch.where(ious > iou_threshold, weaker, 1.0)
        touched = (ious > 0) & (labels == labels.gather(1, row)) & (scores >= 0)
        weakened = scores * factors
        weakened = weakened.where(weakened >= score_threshold, -1.0)
        scores = weakened.where(touched, scores).scatter(1, row, -1.0)
    return torch.cat(rows, 1), torch.cat(found, 1)


class _State:
    """Boxes in the order in which soft-NMS takes them; those from `kept` on have been dropped."""

    def __init__(
        self, boxes: Tensor, scores: Tensor, votes: Tensor | None, is_compatible: bool
    ) -> None:
        self.boxes: ndarray = boxes.detach().cpu().float().numpy().copy()
        self.scores: ndarray = scores.detach().cpu().float().numpy().copy()
        self.votes = None if votes is None else votes.detach().cpu().float().numpy().copy()
        self.rows: ndarray = np.arange(len(boxes))
        self.kept = len(boxes)
        self._votes_move = not is_compatible

    def bring_best_to(self, place: int) -> None:
        best = place + int(self.scores[place : self.kept].argmax())
        pair, swapped = [place, best], [best, place]
        for each in self._moving():
            each[pair] = each[swapped]

    def weaken(
        self, first: int, touched: ndarray, factors: ndarray, threshold: float, exponent: int
    ) -> None:
        """Lowers the scores behind `first`, drops what falls below the threshold, and votes."""
        start = first + 1
        before = self.scores.copy()
        self.scores[start : self.kept] *= factors
        falls = np.zeros(len(self.scores), bool)
        falls[start : self.kept] = touched & (self.scores[start : self.kept] < threshold)
        strength = np.zeros(len(self.scores), np.float32)
        strength[start : self.kept] = np.where(touched, (1 - factors) ** exponent, 0)
        voters = self.boxes.copy()
        votes = None if self.votes is None else self.votes.copy()
        seats = np.arange(len(self.scores))  # where each box stands when its turn comes
        turn = start
        while falls[start : self.kept].any() and turn < self.kept:
            if not falls[turn]:
                turn += 1
                continue
            last = self.kept - 1
            for each in (*self._moving(), falls):
                each[turn] = each[last]
            if last != turn:
                self.scores[last] = before[last]  # it was moved before its turn
                seats[last] = last if self._votes_move else turn
            falls[last] = False
            self.kept -= 1
        if votes is not None:
            self._vote(first, voters, votes[seats], strength)

    def _vote(self, first: int, voters: ndarray, votes: ndarray, strength: ndarray) -> None:
        weights = votes * strength[:, None]
        weights[first] = votes[first]
        total = weights.sum(0)
        self.boxes[first, :2] = (voters[:, :2] * weights[:, :1]).sum(0) / total[0]
        self.boxes[first, 2:] = (voters[:, 2:] * weights[:, 1:]).sum(0) / total[1]

    def _moving(self) -> list[ndarray]:
        moving = [self.boxes, self.scores, self.rows]
        return [*moving, self.votes] if self.votes is not None and self._votes_move else moving


def _iou(box: ndarray, others: ndarray, extra: float) -> ndarray:
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    intersection = (high - low + extra).clip(min=0).prod(1)
    area = (box[2:] - box[:2] + extra).prod()
    union = area + (others[:, 2:] - others[:, :2] + extra).prod(1) - intersection
    return intersection / np.maximum(union, np.finfo(np.float32).tiny)


def _decay(ious: ndarray, method: str, sigma: float, threshold: float) -> ndarray:
    if method == "gaussian":
        return np.exp(-(ious * ious) / sigma)
    return np.where(ious > threshold, 1 - ious if method == "linear" else 0.0, 1.0)
