"""Shared by all tests."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(
    1
)  # the networks here are small: threads only cost, and hosts start processes


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Every test draws the same numbers, alone or among others."""
    torch.manual_seed(0)
