"""The golden test itself: what it does not know fails, and never passes or skips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from . import test_golden, yolact
from .cases import ANY, Case, UnknownCase, check_known, find_cases


def make_case(folder: Path, options: dict, **about) -> Case:
    about = {"system": "yolact", "sort": "preprocess", "parameters": {}, **about}
    (folder / "case.json").write_text(json.dumps({**about, "options": options}))
    image = np.full((2, 2, 3), 100, np.uint8)
    normalised = np.full((1, 3, 4, 4), 100 / 255, np.float32)
    np.savez(folder / "case.npz", image_rgb=image, fast=normalised)
    return Case(folder / "case.json")


@pytest.fixture
def options() -> dict:
    return {
        "config": "yolact_darknet53_config",
        "backbone": "darknet53",
        "max_size": 4,
        "keep_ratio": False,
        "color_order": "rgb",
        "input_range": 255.0,
        "mean": [0.0, 0.0, 0.0],
        "std": [255.0, 255.0, 255.0],
        "runs": [{"output": "fast", "resize": "torch_bilinear"}],
    }


def test_a_case_in_another_folder_runs(tmp_path, options, monkeypatch):
    case = make_case(tmp_path, options)
    yolact.run(case)
    monkeypatch.setenv("METAHEADS_GOLDEN", str(tmp_path))
    assert find_cases() == [case.path]


@pytest.mark.parametrize(
    "change",
    [
        {"keep_ratio": True},
        {"backbone": "resnet34"},
        {"antialias": True},
        {"runs": [{"output": "fast", "resize": "area"}]},
        {"runs": [{"output": "fast"}]},
    ],
)
def test_unknown_options_fail(tmp_path, options, change):
    with pytest.raises(UnknownCase):
        yolact.run(make_case(tmp_path, {**options, **change}))


def test_missing_option_fails(tmp_path, options):
    del options["keep_ratio"]
    with pytest.raises(UnknownCase, match="keep_ratio"):
        yolact.run(make_case(tmp_path, options))


def test_unknown_sort_and_system_fail(tmp_path, options):
    with pytest.raises(UnknownCase, match="sort 'video'"):
        yolact.run(make_case(tmp_path, options, sort="video"))
    with pytest.raises(UnknownCase, match="system 'mask_rcnn'"):
        test_golden.test_port_equals_original(make_case(tmp_path, options, system="mask_rcnn").path)


def test_systems_to_come_are_expected_failures(tmp_path, options):
    assert not set(test_golden.RUN) & set(test_golden.NOT_YET)
    with pytest.raises(pytest.xfail.Exception, match="vpsnet"):
        test_golden.test_port_equals_original(make_case(tmp_path, options, system="vpsnet").path)


def test_absent_folder_skips_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("METAHEADS_GOLDEN", str(tmp_path / "nowhere"))
    assert find_cases() == []
    with pytest.raises(pytest.skip.Exception, match="nowhere"):
        test_golden.test_port_equals_original(None)


def test_array_that_nobody_compares_fails(tmp_path, options):
    with pytest.raises(UnknownCase, match="fast"):
        yolact.run(make_case(tmp_path, {**options, "runs": []}))


def test_true_is_not_one():
    check_known({"count": 7}, {"count": ANY}, "")
    with pytest.raises(UnknownCase):
        check_known({"count": True}, {"count": [1]}, "")


def test_tolerances(tmp_path, options):
    case = make_case(
        tmp_path, options, float32_vs_float64={"fast": {"max_abs_diff": 1e-4, "std": 5}}
    )
    theirs = torch.full((1, 3, 4, 4), 100 / 255)
    case.compare("fast", theirs + 9e-4)
    with pytest.raises(AssertionError, match="differs by"):
        case.compare("fast", theirs + 11e-4)
    with pytest.raises(AssertionError, match="not"):
        case.compare("fast", theirs[0])
    changed = theirs.clone()
    changed[0, 0, 0, :2] = 0
    case.compare_masks("fast", changed, 2)
    with pytest.raises(AssertionError, match="2 pixels"):
        case.compare_masks("fast", changed, 1)
    with pytest.raises(AssertionError, match="2 of 48"):
        case.compare_exactly("fast", changed)
