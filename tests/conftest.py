"""Shared by all tests."""

from __future__ import annotations

import pytest
import torch

# The networks here are small: threads only cost, and the hosts start processes.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Every test draws the same numbers, alone or among others."""
    torch.manual_seed(0)
