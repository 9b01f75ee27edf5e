"""What is wrong with an installation and the remedy, judged from the facts that `doctor` collects.

Pure: no import of what is judged, no look at the machine. Each known trap is one branch here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

GUIDE = "https://detectron2.readthedocs.io/en/latest/tutorials/install.html"
TESTED_PYTHONS = ("3.11", "3.12")


class Finding(NamedTuple):
    """One thing that is wrong: which part, what about it, and the command or step that mends it."""

    part: str
    problem: str
    remedy: str


def diagnose(facts: dict) -> list[Finding]:
    """What is wrong and how to mend it; empty where everything installed works.

    Causes come before their consequences: a broken torch breaks everything else, so nothing else is
    judged before torch works.
    """
    version = ".".join(facts["python"].split(".")[:2])
    findings = []
    if version not in TESTED_PYTHONS:
        findings.append(_untested_python(version))
    torch = _diagnose_torch(facts)
    if torch:
        return [*findings, *torch]
    findings += _diagnose_gpu(facts)
    findings += _diagnose_shared(facts)
    findings += _diagnose_mmdet(facts)
    findings += _diagnose_detectron2(facts)
    findings += [
        Finding(
            name,
            f"the current folder holds a folder {name}, which hides the installed package from "
            "scripts that run here",
            "change to another folder, or rename it",
        )
        for name in facts["folder"]
    ]
    versions = facts["versions"]
    if not versions["mmdet"] and not versions["detectron2"]:
        findings.append(_no_host(facts))
    return findings


def _untested_python(version: str) -> Finding:
    return Finding(
        "python",
        f"{version} is untested with Metaheads, {' and '.join(TESTED_PYTHONS)} are tested",
        "python3.12 -m venv .venv, or conda create -n metaheads python=3.12",
    )


def _no_host(facts: dict) -> Finding:
    remedy = f"{mmcv_command(facts)} && pip install mmdet==3.3.0; or Detectron2, see {GUIDE}"
    return Finding("hosts", "neither MMDetection nor Detectron2 is installed", remedy)


def _diagnose_torch(facts: dict) -> list[Finding]:
    if not facts["versions"]["torch"]:
        return [Finding("torch", "is not installed", "pip install torch torchvision")]
    failure = _failure(facts, "torch")
    if not failure:
        return []
    remedy = "pip install --force-reinstall torch torchvision"
    if "libcu" in failure or "libnv" in failure:
        failure += " (a CUDA library is missing or of another version)"
    return [Finding("torch", f"does not load: {failure}", remedy)]


def _diagnose_gpu(facts: dict) -> list[Finding]:
    """A GPU that torch does not see."""
    said = facts["probes"]["torch"]["output"]
    if not facts["gpu"] or "no GPU" not in said:
        return []
    if "CPU build" in said:
        problem = "is a CPU build, but this machine has a GPU"
        return [Finding("torch", problem, "pip install --force-reinstall torch torchvision")]
    remedy = "update NVIDIA's driver; if it is recent, unset CUDA_VISIBLE_DEVICES"
    return [Finding("torch", "sees no GPU, but this machine has one", remedy)]


def _diagnose_shared(facts: dict) -> list[Finding]:
    findings = []
    if not facts["versions"]["torchvision"]:
        findings.append(_torchvision(facts, "is not installed"))
    if failure := _failure(facts, "torchvision ops"):
        findings.append(_torchvision(facts, f"does not fit torch: {failure}"))
    if not facts["versions"]["opencv"]:
        findings.append(Finding("opencv", "is not installed", "pip install opencv-python"))
    if failure := _failure(facts, "opencv"):
        findings.append(_opencv(facts, failure))
    if not facts["versions"]["pycocotools"]:
        findings.append(Finding("pycocotools", "is not installed", "pip install pycocotools"))
    if failure := _failure(facts, "pycocotools"):
        findings.append(_numpy_or_other("pycocotools", "pycocotools", failure))
    host = facts["versions"]["mmdet"] or facts["versions"]["detectron2"]
    probe = facts["probes"].get("setuptools pkg_resources")
    if host and (probe is None or not probe["ok"]):
        findings.append(_pkg_resources(facts["versions"]["setuptools"]))
    return findings


def _torchvision(facts: dict, problem: str) -> Finding:
    torch = facts["versions"]["torch"]
    wanted = matching_torchvision(torch)
    index = ""
    if "+" in torch:  # PyTorch's own index holds the builds with a local version
        index = f" --index-url https://download.pytorch.org/whl/{torch.split('+')[1]}"
    remedy = f"pip install --force-reinstall --no-deps 'torchvision=={wanted}'{index}"
    return Finding("torchvision", f"{problem} (torch is {torch})", remedy)


def matching_torchvision(torch_version: str) -> str:
    """The torchvision series made for a torch 2.x: 0.27.* for 2.12."""
    major, minor = (int(part) for part in torch_version.split(".")[:2])
    return f"0.{minor + 15}.*" if major == 2 else "*"


def _opencv(facts: dict, failure: str) -> Finding:
    library = re.search(r"lib(GL|EGL|gthread|glib|SM|Xext|Xrender)[^\s:]*", failure)
    if library:
        distribution = facts["distributions"]["opencv"]
        problem = f"the system library {library.group()} is missing"
        remedy = "sudo apt-get install libgl1 libglib2.0-0"
        if "headless" not in distribution:
            headless = distribution + "-headless"
            remedy += (
                f"; or, without root: pip uninstall -y {distribution} && pip install {headless}"
            )
        return Finding("opencv", problem, remedy)
    return _numpy_or_other("opencv", facts["distributions"]["opencv"], failure)


def _numpy_or_other(part: str, distribution: str, failure: str) -> Finding:
    """A compiled package that does not load: built for another numpy, or broken otherwise."""
    command = f"pip install --upgrade --force-reinstall --no-deps --no-cache-dir {distribution}"
    if _is_numpy_mismatch(failure):
        return Finding(part, f"was built for another version of numpy: {failure}", command)
    missing = _missing_module(failure)
    if missing:
        return Finding(part, f"needs {missing}, which is not installed", f"pip install {missing}")
    return Finding(part, f"does not load: {failure}", command)


def _pkg_resources(version: str | None) -> Finding:
    have = f"setuptools {version} has" if version else "without setuptools there is"
    problem = f"{have} no pkg_resources, which MMEngine and Detectron2's model zoo import"
    return Finding("setuptools", problem, "pip install 'setuptools<82'")


def _diagnose_mmdet(facts: dict) -> list[Finding]:
    versions = facts["versions"]
    if not versions["mmdet"] and not versions["mmcv"]:
        return []
    findings = []
    if versions["mmdet"] and not versions["mmengine"]:
        findings.append(Finding("mmengine", "is not installed", "pip install mmengine==0.10.7"))
    elif failure := _failure(facts, "mmengine"):
        findings.append(_numpy_or_other("mmengine", facts["distributions"]["mmengine"], failure))
    ours = not (facts["distributions"]["mmcv"] or "").startswith("onedl")
    if not versions["mmcv"]:
        findings.append(Finding("mmcv", "is not installed", mmcv_command(facts)))
    elif ours and (versions["mmdet"] or "").startswith("3.") and not _mmdet_accepts(facts):
        problem = f"MMDetection {versions['mmdet']} wants mmcv >=2.0.0rc4,<2.2.0"
        findings.append(Finding("mmcv", f"{problem}, not {versions['mmcv']}", mmcv_command(facts)))
    elif failure := _failure(facts, "mmcv ops"):
        findings.append(_mmcv(facts, failure))
    elif not versions["mmdet"]:
        findings.append(
            Finding("mmdet", "is not installed, but mmcv is", "pip install mmdet==3.3.0")
        )
    elif not findings and (failure := _failure(facts, "mmdet")):
        findings.append(_numpy_or_other("mmdet", facts["distributions"]["mmdet"], failure))
    findings += _cpu_only(facts, "mmcv ops", "FORCE_CUDA=1 " + mmcv_command(facts))
    return findings


def _mmdet_accepts(facts: dict) -> bool:
    """Whether MMDetection 3.x's own assertion lets this mmcv pass."""
    numbers = [int(part) for part in re.findall(r"\d+", facts["versions"]["mmcv"])[:2]]
    return [2, 0] <= numbers < [2, 2]


def _mmcv(facts: dict, failure: str) -> Finding:
    if facts["distributions"]["mmcv"] == "mmcv-lite":
        problem = "mmcv-lite has no compiled ops"
    elif "mmcv._ext" in failure and "No module named" in failure:
        problem = (
            "was installed without its compiled ops (pip builds it in isolation, without torch)"
        )
    elif "undefined symbol" in failure or "crashed" in failure or "cannot open" in failure:
        problem = f"was compiled for another torch than {facts['versions']['torch']}: {failure}"
    elif _is_numpy_mismatch(failure) or _missing_module(failure):
        return _numpy_or_other("mmcv", "mmcv", failure)
    else:
        problem = f"its ops do not run: {failure}"
    return Finding("mmcv", problem, mmcv_command(facts))


def mmcv_command(facts: dict) -> str:
    """The shell command that compiles mmcv's ops against the installed torch."""
    installed = facts["distributions"]["mmcv"]
    remove = f"pip uninstall -y {installed}; " if installed else ""
    options = "--no-build-isolation --no-cache-dir --no-binary mmcv"
    return f"{remove}pip install 'setuptools<81' wheel ninja && pip install {options} mmcv==2.1.0"


def _diagnose_detectron2(facts: dict) -> list[Finding]:
    if not facts["versions"]["detectron2"]:
        return []
    compile_it = (
        "pip install --force-reinstall --no-deps --no-build-isolation --no-cache-dir "
        "'git+https://github.com/facebookresearch/detectron2'"
    )
    if failure := _failure(facts, "detectron2 ops"):
        missing = _missing_module(failure)
        if "_C" in failure and ("No module" in failure or "cannot import name" in failure):
            return [Finding("detectron2", "is installed without its compiled part _C", compile_it)]
        if missing:
            return [_numpy_or_other("detectron2", "detectron2", failure)]
        problem = f"was compiled for another torch than {facts['versions']['torch']}: {failure}"
        return [Finding("detectron2", problem, compile_it)]
    if failure := _failure(facts, "detectron2"):
        if _missing_module(failure):
            return [_numpy_or_other("detectron2", "detectron2", failure)]
        return [Finding("detectron2", f"does not import: {failure}", f"see {GUIDE}")]
    return _cpu_only(facts, "detectron2 ops", "FORCE_CUDA=1 " + compile_it)


def _cpu_only(facts: dict, name: str, command: str) -> list[Finding]:
    """Ops without CUDA beside a torch that sees a GPU: fine until a model runs on it."""
    probe = facts["probes"].get(name)
    torch = facts["probes"].get("torch", {"output": "no GPU"})["output"]
    if not probe or not probe["ok"] or "CPU only" not in probe["output"] or "no GPU" in torch:
        return []
    problem = "its ops are compiled for the CPU only, but there is a GPU: models fail on it"
    remedy = f"install the CUDA toolkit (nvcc) of torch's CUDA version, then: {command}"
    return [Finding(name.split()[0], problem, remedy)]


def _failure(facts: dict, name: str) -> str:
    """The telling line of a failed probe; empty if it succeeded or did not run."""
    probe = facts["probes"].get(name)
    if probe is None or probe["ok"]:
        return ""
    lines = probe["output"].splitlines() or ["no message"]
    telling = [line for line in lines if _is_numpy_mismatch(line)]
    return (telling or lines)[-1].strip()


def _is_numpy_mismatch(text: str) -> bool:
    signs = ("numpy.dtype size changed", "compiled using NumPy 1", "_ARRAY_API not found")
    return any(sign in text for sign in (*signs, "multiarray failed to import"))


def _missing_module(failure: str) -> str:
    """The top-level package of "No module named 'x.y'"; empty if it says something else."""
    found = re.search(r"No module named '([^'.]+)", failure)
    return found.group(1) if found else ""
