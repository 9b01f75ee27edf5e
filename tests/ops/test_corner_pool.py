from __future__ import annotations

import pytest
import torch

from metaheads.ops.corner_pool import DIRECTIONS, corner_pool, running_max

every_direction = pytest.mark.parametrize("direction", DIRECTIONS)


def loops(maps: torch.Tensor, direction: str) -> torch.Tensor:
    pooled = torch.empty_like(maps)
    height, width = maps.shape[-2:]
    for y in range(height):
        for x in range(width):
            part = {
                "top": maps[..., y:, x],
                "bottom": maps[..., : y + 1, x],
                "left": maps[..., y, x:],
                "right": maps[..., y, : x + 1],
            }[direction]
            pooled[..., y, x] = part.amax(-1)
    return pooled


@every_direction
@pytest.mark.parametrize("size", [(5, 8), (1, 7), (6, 1), (1, 1), (9, 9), (3, 17)])
def test_every_form_equals_loops(direction, size):
    maps = torch.randn(2, 3, *size)
    expected = loops(maps, direction)
    assert torch.equal(corner_pool(maps, direction), expected)
    turned = maps.transpose(-1, -2).contiguous().transpose(-1, -2)
    assert torch.equal(corner_pool(turned, direction), expected)
    with_gradient = corner_pool(maps.clone().requires_grad_(), direction)
    assert with_gradient.requires_grad and torch.equal(with_gradient, expected)
    assert torch.equal(corner_pool(maps, direction, is_compatible=True), expected)
    assert torch.equal(running_max(maps, *DIRECTIONS[direction]), expected)
    exported = torch.export.export(_Pool(direction), (maps,)).module()
    assert torch.equal(exported(maps), expected)


class _Pool(torch.nn.Module):
    def __init__(self, direction: str) -> None:
        super().__init__()
        self.direction = direction

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return corner_pool(maps, self.direction)


@every_direction
@pytest.mark.parametrize("is_compatible", [False, True])
def test_gradients_without_ties_are_those_of_loops(direction, is_compatible):
    maps, grad = torch.randn(2, 3, 6, 7, dtype=torch.double), torch.randn(2, 3, 6, 7).double()
    ours, theirs = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    corner_pool(ours, direction, is_compatible=is_compatible).backward(grad)
    loops_with_grad(theirs, direction).backward(grad)
    torch.testing.assert_close(ours.grad, theirs.grad)


def loops_with_grad(maps: torch.Tensor, direction: str) -> torch.Tensor:
    rows = []
    height, width = maps.shape[-2:]
    for y in range(height):
        cells = []
        for x in range(width):
            part = {
                "top": maps[..., y:, x],
                "bottom": maps[..., : y + 1, x],
                "left": maps[..., y, x:],
                "right": maps[..., y, : x + 1],
            }[direction]
            cells.append(part.max(-1).values)
        rows.append(torch.stack(cells, -1))
    return torch.stack(rows, -2)


@every_direction
def test_all_of_the_gradient_arrives(direction):
    maps = torch.zeros(1, 1, 4, 5).requires_grad_()  # all are equal
    corner_pool(maps, direction, is_compatible=True).sum().backward()
    assert maps.grad.sum() == 20
    first = {"top": (3, None), "bottom": (0, None), "left": (None, 4), "right": (None, 0)}
    row, column = first[direction]
    kept = maps.grad[0, 0, row] if row is not None else maps.grad[0, 0, :, column]
    assert kept.sum() == 20, "the one that is met first"
