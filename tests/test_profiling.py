"""Exclusive times, operations and memory."""

import pytest
import torch

from metaheads.profiling import StageClock, giga_multiply_adds, peak_memory


class Work:
    """Lets a clock of its own tick: 2 + 5 + 2."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("metaheads.profiling.time.perf_counter", lambda: self.now)

    def outer(self):
        self.now += 2
        self.inner()
        self.now += 2

    def inner(self):
        self.now += 5


def test_inner_stages_are_not_counted_twice(monkeypatch):
    work = Work(monkeypatch)
    clock = StageClock()
    with clock.watch([(work, "outer", "outer"), (work, "inner", "inner")]):
        work.outer()
    work.now += 50  # belongs to no stage
    with clock.stage("inner"):
        work.now += 1
    assert list(clock.seconds().items()) == [("outer", 4), ("inner", 6)]
    work.outer()
    assert clock.seconds() == {}, "the probes are gone"


def test_a_stage_that_fails_is_closed():
    clock = StageClock()
    with pytest.raises(ZeroDivisionError), clock.stage("fails"):
        _ = 1 / 0
    with clock.stage("next"):
        pass
    assert set(clock.seconds()) == {"fails", "next"}


def test_multiply_adds_of_convolutions():
    from torchvision.ops import deform_conv2d

    image, weight = torch.ones(2, 3, 8, 8), torch.ones(4, 3, 3, 3)
    expected = 2 * 64 * 4 * 27 / 1e9
    plain = giga_multiply_adds(lambda: torch.conv2d(image, weight, padding=1))
    offsets = torch.zeros(2, 18, 8, 8)
    deformable = giga_multiply_adds(lambda: deform_conv2d(image, offsets, weight, padding=1))
    assert plain == deformable == pytest.approx(expected)


def test_peak_memory_counts_what_is_freed_again():
    def work():
        torch.ones(16, 2**20).sum()  # 64 MiB
        return None

    if "host" not in (found := peak_memory(work)):
        pytest.skip("reads /proc, which only Linux has")
    assert 60 < found["host"] < 100
