"""Options as they are typed."""

import pytest

from metaheads.commands.train import parse_overrides


@pytest.mark.parametrize(
    "words",
    [
        ["a.b=1", "C.D=x=y"],
        ["a.b", "1", "C.D", "x=y"],
        ["--", "a.b", "1", "C.D=x=y"],
    ],
    ids=["mmdet", "detectron2", "mixed"],
)
def test_both_ways_of_writing_options(words):
    assert parse_overrides(words) == [("a.b", "1"), ("C.D", "x=y")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["SOLVER.BASE_LR"], "'SOLVER.BASE_LR' has no value"),
        (["A", "1", "--resume"], "--resume stands behind"),
    ],
)
def test_incomplete_options_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        parse_overrides(words)
