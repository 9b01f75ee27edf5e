"""The core needs no host, and `import metaheads` needs next to nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import metaheads

PACKAGE = Path(metaheads.__file__).parent
HOSTS = {"detectron2", "fvcore", "mmdet", "mmcv", "mmengine"}
HEAVY = {
    *HOSTS,
    "torch",
    "torchvision",
    "numpy",
    "cv2",
    "PIL",
    "pycocotools",
    "matplotlib",
    "scipy",
}


def imported_by(statement: str) -> set[str]:
    """Top-level packages in memory after the statement, in a new interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    path = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def core_modules() -> list[str]:
    """Every module of the package that may not touch a host."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] not in ("hosts", "registry"):
            names.append(".".join(("metaheads", *parts)).removesuffix(".__init__"))
    return names


def test_import_metaheads_imports_nothing_heavy():
    assert not imported_by("import metaheads") & HEAVY


def test_core_imports_no_host():
    modules = core_modules()
    assert "metaheads.architectures.yolact.network" in modules and "metaheads.weights" in modules
    assert not imported_by("import " + ", ".join(modules)) & HOSTS


def test_backbones_import_torchvision_only_when_built():
    assert "torchvision" not in imported_by("import metaheads.backbones, metaheads.weights")
