"""`metaheads doctor`: what is installed, which compiled ops run, what is wrong and the remedy.

Every probe runs in a Python process of its own, so that one that crashes is a finding like any
other. Judging what was collected here is the work of `metaheads.commands.diagnosis`.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from metaheads.commands.diagnosis import GUIDE, diagnose

# What is imported, and the distributions that may provide it.
DISTRIBUTIONS = {
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "numpy": ("numpy",),
    "opencv": (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
    "pycocotools": ("pycocotools",),
    "setuptools": ("setuptools",),
    "mmengine": ("mmengine", "mmengine-lite", "onedl-mmengine"),
    "mmcv": ("mmcv", "mmcv-lite", "mmcv-full", "onedl-mmcv"),
    "mmdet": ("mmdet", "onedl-mmdetection"),
    "detectron2": ("detectron2",),
}
# Each prints one line about itself. A probe is skipped where its first word is not installed.
PROBES = {
    "torch": """
import torch
torch.ones(2).sum().item()
build = f"CUDA {torch.version.cuda} build" if torch.version.cuda else "CPU build"
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
print(f"{build}, {gpu}")
""",
    "torchvision ops": """
import torch
from torchvision.ops import deform_conv2d, nms, roi_align
boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.9]])
assert nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0]
image = torch.ones(1, 1, 6, 6)
assert roi_align(image, [boxes], 2).shape == (2, 1, 2, 2)
assert deform_conv2d(image, torch.zeros(1, 2, 6, 6), torch.ones(1, 1, 1, 1)).equal(image)
print("nms, roi_align, deform_conv2d run")
""",
    "opencv": """
import cv2, numpy
cv2.resize(numpy.zeros((4, 4, 3), numpy.uint8), (2, 2))
print("resizes")
""",
    "pycocotools": """
import numpy
from pycocotools import mask
assert mask.area(mask.encode(numpy.ones((2, 3), numpy.uint8, order="F"))) == 6
print("encodes masks")
""",
    "setuptools pkg_resources": """
import warnings
warnings.simplefilter("ignore")
import pkg_resources
print("pkg_resources is there")
""",
    "mmengine": "import mmengine.config; print('imports')",
    "mmcv ops": """
import torch
from mmcv.ops import get_compiling_cuda_version, nms
boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.9]])
assert nms(boxes, torch.tensor([0.9, 0.8]), 0.5)[1].tolist() == [0]
cuda = get_compiling_cuda_version()
print("compiled for the CPU only" if cuda == "not available" else f"compiled for CUDA {cuda}")
""",
    "mmdet": "import mmdet.models; print('imports')",
    "detectron2 ops": """
import torch
from detectron2 import _C
boxes = torch.tensor([[2.0, 2.0, 4.0, 4.0, 0.0], [2.0, 2.0, 4.0, 3.9, 0.0]])
assert torch.ops.detectron2.nms_rotated(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0]
cuda = _C.get_cuda_version()
print("compiled for the CPU only" if cuda == "not available" else f"compiled for {cuda}")
""",
    "detectron2": "import detectron2.modeling, detectron2.data; print('imports')",
}
SHARED = ("torch", "torchvision ops", "opencv", "pycocotools")
HOST_PROBES = {
    "mmdet": (*SHARED, "mmengine", "mmcv ops", "mmdet"),
    "detectron2": (*SHARED, "detectron2 ops", "detectron2"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verbose", action="store_true", help="whole output of failed probes")


def run(args: argparse.Namespace) -> int:
    """Prints the table, the findings and the verdict; 0 if at least one host is fully usable."""
    facts = collect_facts()
    sys.stdout.write(format_table(facts) + "\n")
    if args.verbose:
        for name, probe in facts["probes"].items():
            if not probe["ok"]:
                sys.stdout.write(f"\n--- {name}\n{probe['output']}\n")
    for finding in diagnose(facts):
        sys.stdout.write(
            f"\nPROBLEM  {finding.part}: {finding.problem}\n  remedy: {finding.remedy}\n"
        )
    hosts = usable_hosts(facts)
    sys.stdout.write(f"\nusable hosts: {', '.join(hosts) or 'none'}\n")
    if not facts["versions"]["detectron2"]:
        sys.stdout.write(f"Detectron2 is not installed; its installation guide: {GUIDE}\n")
    return 0 if hosts else 1


# Collecting


def collect_facts() -> dict:
    """What `diagnose` judges.

    Returns:
        `python`: version; `folder`: packages that the current folder would hide;
        `distributions`, `versions`: for each name in DISTRIBUTIONS what provides it, and in which
        version, None if nothing does; `probes`: name to `ok` and `output` of those that ran;
        `gpu`: whether NVIDIA's driver lists a GPU.
    """
    found = {name: _find_distribution(name) for name in DISTRIBUTIONS}
    versions = {name: version for name, (_, version) in found.items()}
    names = [name for name in PROBES if versions[name.split()[0]]]
    with ThreadPoolExecutor(max_workers=3) as pool:
        probes = {name: pool.submit(run_probe, PROBES[name]) for name in names}
    return {
        "python": platform.python_version(),
        "distributions": {name: distribution for name, (distribution, _) in found.items()},
        "versions": versions,
        "probes": {name: probe.result() for name, probe in probes.items()},
        "gpu": _has_gpu(),
        "folder": [name for name in ("detectron2", "mmcv", "mmdet") if _is_hidden_by_folder(name)],
    }


def run_probe(code: str, timeout: float = 180) -> dict:
    """Runs `code` in a fresh interpreter; `ok`, and its output or what stopped it."""
    # -P: the packages as the command `metaheads` sees them, whatever lies in the current folder
    command = [sys.executable, "-P", "-W", "ignore", "-c", code]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return {"ok": False, "output": f"no answer within {timeout:.0f} seconds"}
    if done.returncode == 0:
        return {"ok": True, "output": done.stdout.strip()}
    output = done.stderr.strip()
    if done.returncode < 0:
        output += f"\ncrashed with signal {-done.returncode}"
    return {"ok": False, "output": output.strip()}


def _find_distribution(name: str) -> tuple[str | None, str | None]:
    for distribution in DISTRIBUTIONS[name]:
        try:
            return distribution, metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None, None


def _has_gpu() -> bool:
    command = shutil.which("nvidia-smi")
    return (
        command is not None
        and b"GPU" in subprocess.run([command, "-L"], capture_output=True).stdout
    )


def _is_hidden_by_folder(name: str) -> bool:
    """Whether a folder `name` here would be imported instead of the installed package."""
    folder = Path.cwd() / name
    if not (folder / "__init__.py").is_file():
        return False
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None and Path(spec.origin).parent != folder


def usable_hosts(facts: dict) -> list[str]:
    """The hosts all of whose probes ran and succeeded."""
    probes = facts["probes"]
    return [
        host
        for host, needed in HOST_PROBES.items()
        if all(name in probes and probes[name]["ok"] for name in needed)
    ]


# Printing


def format_table(facts: dict) -> str:
    """One line each: part, version, what its probe said."""
    rows = [("python", facts["python"], sys.executable)]
    for name, version in facts["versions"].items():
        rows.append((facts["distributions"][name] or name, version or "-", ""))
        if not version:
            rows[-1] = (*rows[-1][:2], "not installed")
            continue
        states = [_state(probe) for key, probe in facts["probes"].items() if key.split()[0] == name]
        rows[-1] = (*rows[-1][:2], "; ".join(states))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows)


def _state(probe: dict) -> str:
    if probe["ok"]:
        return probe["output"]
    return "FAILS: " + (probe["output"].splitlines() or ["no message"])[-1].strip()
