"""The parts of `make setup` that need no installation: refusals, pins, keys, progress."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "setup_environment.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("setup_environment", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_requirement_is_pinned_once(script):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    names = [line.split("==")[0].lower() for line in lines if not line.startswith("#")]
    pins = script.read_pins()
    assert len(names) == len(set(names)) == len(pins)
    needed = ("torch", "torchvision", "mmdet", "mmcv", "mmengine", "detectron2", "numpy", "pytest")
    assert not {*needed, "setuptools", "ruff", "mypy", *script.DETECTRON2_NEEDS} - set(pins)


def test_untested_python_is_refused_in_one_line(script):
    message = script.untested_message((3, 13), "python3.12")
    assert "\n" not in message and "3.13 is untested" in message
    assert "python3.12 -m venv" in message
    assert "3.12" in script.untested_message((3, 9), "")


def test_finds_a_python_that_works(script, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert script.find_tested_python() == ""
    for name, code in (("python3.12", 1), ("python3.11", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    assert script.find_tested_python() == "python3.11"


def test_missing_compiler_is_named(script, monkeypatch):
    monkeypatch.setattr(script.shutil, "which", lambda name: None)
    with pytest.raises(script.SetupError, match=r"apt-get install g\+\+"):
        script.refuse_missing_compiler()


def test_wheel_key_tells_builds_apart(script):
    keys = {
        script.wheel_key({"torch": torch, "cuda": cuda})
        for torch in ("2.12.1+cpu", "2.12.1+cu130")
        for cuda in ("cpu", "cuda13.0-sm90")
    }
    assert len(keys) == 4
    assert all(f"cp3{sys.version_info[1]}" in key and "/" not in key for key in keys)


def test_progress_and_failure_of_a_build(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "show_progress", lambda *values: print(*values[:3]))
    ticks = iter(range(0, 10000, 60))
    monkeypatch.setattr(script.time, "monotonic", lambda: next(ticks))
    code = "print('[1/2] c++'); print('other'); print('[2/2] c++'); raise SystemExit({})"
    log = tmp_path / "build.log"
    script.run_with_progress([sys.executable, "-c", code.format(0)], dict(os.environ), log, "x")
    assert capsys.readouterr().out.splitlines() == ["x 1 2", "x 2 2"]
    assert "other" in log.read_text()
    with pytest.raises(script.SetupError, match="build.log"):
        script.run_with_progress([sys.executable, "-c", code.format(3)], dict(os.environ), log, "x")


def test_jobs_fit_into_memory(script, monkeypatch):
    monkeypatch.setattr(script.os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1}.get(name, 8e9))
    assert script.build_jobs(2) == 2
    assert script.build_jobs(64) == 3


def test_help_of_the_makefile_names_all_targets():
    printed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert all(f"make {target}" in printed for target in targets if target != "help")
