"""Makes the environment of `make setup`: pinned versions, mmcv's compiled ops, Detectron2 if found.

Standard library only. Started by any Python, it creates `.venv` and goes on inside it; with
`--in-place` it installs into the environment of the Python that runs it. When nothing changed since
last time it returns at once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = Path(sys.prefix) / "metaheads-setup.json"
TESTED = ((3, 11), (3, 12))
GUIDE = "https://detectron2.readthedocs.io/en/latest/tutorials/install.html"
DETECTRON2_NEEDS = (
    *(
        "fvcore",
        "iopath",
        "yacs",
        "omegaconf",
        "hydra-core",
        "cloudpickle",
        "tabulate",
        "termcolor",
    ),
    *("black", "tensorboard", "matplotlib", "pycocotools", "packaging", "tqdm", "pillow"),
)
MMCV_CPU_MINUTES = 27  # of one core, for the CPU ops
# Torch, and what mmcv is compiled for: its CUDA ops only where a GPU and a matching nvcc are there.
TORCH_FACTS = """
import json, re, shutil, subprocess, torch
cuda = "cpu"
if torch.cuda.is_available() and shutil.which("nvcc"):
    said = subprocess.run(["nvcc", "--version"], capture_output=True, text=True).stdout
    nvcc = re.search(r"release (\\d+)", said)
    if nvcc and nvcc.group(1) == torch.version.cuda.split(".")[0]:
        cuda = "cuda%s-sm%d%d" % (torch.version.cuda, *torch.cuda.get_device_capability())
print(json.dumps(dict(torch=torch.__version__, cuda=cuda, gpu=torch.cuda.is_available())))
"""


class SetupError(Exception):
    """What the user has to do before the set-up can go on, in one line."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-place", action="store_true", help="use this Python's environment")
    parser.add_argument("--torch-index", default="", help="package index for torch, torchvision")
    parser.add_argument("--detectron2", default="", help="anything pip accepts")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        if args.in_place or args.inside:
            return set_up(args)
        return enter_venv()
    except SetupError as error:
        print("make setup: " + str(error), file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        command = " ".join(map(str, error.cmd))
        print(f"make setup: this command failed, see above: {command}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make setup: interrupted; run it again to go on", file=sys.stderr)
        return 130


def set_up(args: argparse.Namespace) -> int:
    """Installs what is missing into this environment and shows what `metaheads doctor` finds."""
    refuse_unusable_python(args.in_place)
    old = read_stamp()
    new = {
        "digest": digest(),
        "torch_index": args.torch_index or old.get("torch_index", ""),
        "detectron2": args.detectron2 or old.get("detectron2", ""),
        "mmcv": old.get("mmcv", ""),
    }
    if new == old and installed_as_pinned():
        say(f"{sys.prefix} is up to date")
        return 0
    started = time.monotonic()
    say(f"installing into {sys.prefix}")
    announce_replacements()
    STAMP.unlink(missing_ok=True)
    install_torch(new["torch_index"], switched=new["torch_index"] != old.get("torch_index", ""))
    new["mmcv"] = install_mmcv(new["mmcv"])
    say("installing Metaheads and everything else that is pinned")
    pip(
        "install", "-c", "constraints.txt", "--no-build-isolation", "-e", ".[mmdet,export,test,dev]"
    )
    install_detectron2(new["detectron2"], said_now=bool(args.detectron2))
    code = subprocess.run([sys.executable, "-m", "metaheads.cli", "doctor"], cwd=ROOT).returncode
    if code == 0:
        STAMP.write_text(json.dumps(new, indent=1), encoding="utf-8")
        say(f"done in {clock(time.monotonic() - started)}")
    return code


# The interpreter


def enter_venv() -> int:
    """Creates `.venv` where it is missing and continues in it; does not return otherwise."""
    inside = VENV / "bin" / "python"
    if not VENV.exists():
        refuse_unusable_python(in_place=False)
        say(f"creating {VENV} with Python {platform.python_version()}")
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    if not inside.exists():
        raise SetupError(f"{VENV} is broken (no {inside}): remove it with make clean, then again")
    os.execv(str(inside), [str(inside), __file__, "--inside", *sys.argv[1:]])


def refuse_unusable_python(in_place: bool) -> None:
    """Raises SetupError for an untested version, a Python without venv, a system's own Python."""
    if sys.version_info[:2] not in TESTED:
        raise SetupError(untested_message(sys.version_info[:2], find_tested_python()))
    in_venv = sys.prefix != sys.base_prefix
    if not in_venv and not in_place:
        try:
            import ensurepip  # noqa: F401  # Debian packs it apart
            import venv  # noqa: F401
        except ImportError:
            version = "{}.{}".format(*sys.version_info)
            packages = f"python{version}-venv" + ("" if shutil.which("g++") else " g++")
            raise SetupError(
                f"this Python cannot make environments: sudo apt-get install {packages}"
            ) from None
    managed = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"
    if not in_venv and in_place and managed.exists():
        raise SetupError(
            f"{sys.executable} belongs to the system, which forbids pip to change it: "
            "leave PYTHON= out (make setup then creates .venv), or name an environment's Python"
        )


def untested_message(version: tuple[int, int], tested: str) -> str:
    """One line that refuses `version` and names a Python that works, or where to get one."""
    refusal = "Python {}.{} is untested, 3.11 and 3.12 are tested: ".format(*version)
    if tested:
        return refusal + f"{tested} -m venv --clear .venv && make setup"
    return refusal + (
        "sudo apt-get install python3.12-venv && python3.12 -m venv --clear .venv && make setup, "
        "or conda create -n metaheads python=3.12 and make setup PYTHON=<its python>"
    )


def find_tested_python() -> str:
    """A command on PATH that is a tested Python and can make environments; empty if none is."""
    for major, minor in reversed(TESTED):
        command = f"python{major}.{minor}"
        path = shutil.which(command)
        if path:
            check = [path, "-c", "import ensurepip, venv"]
            if subprocess.run(check, capture_output=True).returncode == 0:
                return command
    return ""


# What is installed already


def digest() -> str:
    """A hash of everything that decides what is installed, and of where this checkout stands."""
    sha = hashlib.sha256(f"{ROOT} {sys.version}".encode())
    for path in (ROOT / "constraints.txt", ROOT / "setup.py", Path(__file__)):
        sha.update(path.read_bytes())
    return sha.hexdigest()


def read_stamp() -> dict[str, str]:
    try:
        return json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def read_pins() -> dict[str, str]:
    """Name (lower case) to version, from constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.lower().split("==") for line in lines if line and not line.startswith("#"))


def installed_version(name: str) -> str:
    """The installed version without its local part (2.12.1 for 2.12.1+cpu); empty if missing."""
    try:
        return metadata.version(name).split("+")[0]
    except metadata.PackageNotFoundError:
        return ""


def installed_as_pinned() -> bool:
    pins = read_pins()
    names = ("torch", "torchvision", "mmcv", "mmengine", "mmdet", "numpy", "setuptools")
    names += ("pytest", "pytest-xdist")
    same = all(installed_version(name) == pins[name] for name in names)
    return same and bool(installed_version("metaheads"))


def announce_replacements() -> None:
    """Says which versions of an existing environment give way to the pinned ones."""
    pins = read_pins()
    changes = []
    for name in ("torch", "torchvision", "numpy", "opencv-python", "mmcv", "mmengine", "mmdet"):
        version = installed_version(name)
        if version and version != pins[name]:
            changes.append(f"{name} {version} -> {pins[name]}")
    if changes:
        say("this environment changes to the pinned versions: " + ", ".join(changes))


# torch, mmcv, Detectron2


def install_torch(index: str, switched: bool) -> None:
    pins = read_pins()
    say("installing build tools and torch")
    if not index and not installed_version("torch"):
        say("PyPI's torch for Linux is the CUDA build, gigabytes; for a CPU only:")
        say("    make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu")
    pip("install", "-c", "constraints.txt", "setuptools", "wheel", "ninja", "packaging", "numpy")
    if index:
        pinned = [f"{name}=={pins[name]}" for name in ("torch", "torchvision")]
        force = ["--force-reinstall"] if switched else []
        pip("install", "--no-deps", "--index-url", index, *force, *pinned)
    pip("install", "-c", "constraints.txt", "torch", "torchvision")


def install_mmcv(recorded_key: str) -> str:
    """Installs mmcv with its ops, from the user's cache or compiled now; returns its key."""
    version = read_pins()["mmcv"]
    answer = python("-c", TORCH_FACTS)
    if answer.returncode != 0:
        raise SetupError("torch does not work: " + answer.stderr.strip().splitlines()[-1])
    facts = json.loads(answer.stdout)
    key = wheel_key(facts)
    kept = recorded_key in ("", key) and installed_version("mmcv") == version
    if kept and not import_error("mmcv._ext"):
        return key
    if facts["gpu"] and facts["cuda"] == "cpu":
        say("no nvcc of torch's CUDA version on PATH: mmcv's ops will run on the CPU only")
    folder = cache_folder() / key
    error = "no wheel"
    for wheel in sorted(folder.glob(f"mmcv-{version}-*.whl")):
        say(f"installing mmcv from {wheel}")
        error = install_mmcv_wheel(wheel)
    if error:
        error = install_mmcv_wheel(build_mmcv(version, folder, facts["cuda"]))
    if error:
        raise SetupError(f"mmcv was compiled, but its ops do not load: {error}")
    return key


def install_mmcv_wheel(wheel: Path) -> str:
    """Installs `wheel`; returns why its ops do not load, empty if they do."""
    pip("install", "-c", "constraints.txt", "mmengine", "addict", "yapf", "pyyaml", "opencv-python")
    pip("install", "--no-deps", "--no-index", "--force-reinstall", str(wheel))
    return import_error("mmcv._ext")


def wheel_key(facts: dict) -> str:
    """What a compiled mmcv depends on: torch's build, Python, machine, CPU or CUDA."""
    interpreter = "cp{}{}".format(*sys.version_info)
    machine = sysconfig.get_platform().replace("-", "_")
    return f"torch{facts['torch']}-{interpreter}-{machine}-{facts['cuda']}"


def cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "metaheads" / "wheels"


def build_mmcv(version: str, folder: Path, cuda: str) -> Path:
    """Compiles mmcv against the installed torch and keeps the wheel in `folder`."""
    refuse_missing_compiler()
    folder.mkdir(parents=True, exist_ok=True)
    cores = os.cpu_count() or 1
    jobs = build_jobs(cores)
    minutes = max(2, round(MMCV_CPU_MINUTES / jobs))
    if cuda == "cpu":
        say(f"compiling mmcv {version}: about {minutes} minutes on {jobs} cores, once")
    else:
        say(f"compiling mmcv {version} with CUDA ops on {jobs} cores: half an hour or more, once")
    environment = dict(os.environ, MMCV_WITH_OPS="1", FORCE_CUDA="0" if cuda == "cpu" else "1")
    environment.setdefault("MAX_JOBS", str(jobs))
    # ninja is found, and with it all cores used, only through PATH
    environment["PATH"] = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    if cuda == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory(dir=folder) as target:
        command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-binary", "mmcv"]
        command += ["--no-build-isolation", "--no-cache-dir", "-w", target, f"mmcv=={version}"]
        run_with_progress(command, environment, folder / "build.log", "mmcv")
        built = next(Path(target).glob("mmcv-*.whl"))
        os.replace(built, folder / built.name)
    return folder / built.name


def build_jobs(cores: int) -> int:
    """Parallel compilations: one per core, each of which wants up to 2.5 GB."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return cores
    return max(1, min(cores, int(memory / 2.5e9)))


def refuse_missing_compiler() -> None:
    missing = []
    if not shutil.which(os.environ.get("CXX", "g++").split()[0]):
        missing.append("g++")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        missing.append("python{}.{}-dev".format(*sys.version_info))
    if missing:
        raise SetupError("compiling mmcv needs: sudo apt-get install " + " ".join(missing))


def install_detectron2(source: str, said_now: bool) -> None:
    """Installs Detectron2 from `source`, or if pip finds a wheel; says what came of it."""
    if installed_version("detectron2") and not said_now and not import_error("detectron2._C"):
        return
    if source:
        say(f"installing Detectron2 from {source} (from source: about 3 minutes on two cores)")
        pip("install", "-c", "constraints.txt", "--no-build-isolation", *DETECTRON2_NEEDS)
        options = ["--no-deps", "--no-build-isolation", "--no-cache-dir", "--force-reinstall"]
        pip("install", *options, os.path.expanduser(source))
    else:
        quiet = ["-q", "-c", "constraints.txt", "--no-build-isolation"]
        found = python("-m", "pip", "install", *quiet, "--only-binary=detectron2", "detectron2")
        if found.returncode != 0:
            say(f"only the MMDetection half is set up; Detectron2's installation guide: {GUIDE}")
            return
    error = import_error("detectron2._C")
    if not error:
        say(f"Detectron2 {installed_version('detectron2')} is installed, its compiled ops load")
        return
    problem = f"this Detectron2 was not compiled for the installed torch ({error})"
    if source:
        raise SetupError(f"{problem}: name a source to compile, or another wheel; guide: {GUIDE}")
    pip("uninstall", "-q", "-y", "detectron2")
    say(f"{problem}: only the MMDetection half is set up; installation guide: {GUIDE}")


# Running commands


def python(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def pip(*arguments: str) -> None:
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
    command = [sys.executable, "-m", "pip", *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def import_error(module: str) -> str:
    """The last line of what importing `module` (after torch) says; empty if it succeeds."""
    result = python("-c", f"import torch, {module}")
    if result.returncode == 0:
        return ""
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else f"crashed with signal {-result.returncode}"


def run_with_progress(command: list[str], environment: dict, log: Path, name: str) -> None:
    """Runs a build that ninja counts ("[3/120]"), shows its progress, keeps its output in `log`."""
    started = shown = time.monotonic()
    interval = 1 if sys.stdout.isatty() else 30
    tail: list[str] = []
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    with process, log.open("w", encoding="utf-8") as file:
        for line in process.stdout:
            file.write(line)
            tail = [*tail[-29:], line]
            step = re.match(r"\s*\[(\d+)/(\d+)\]", line)
            if step and time.monotonic() - shown >= interval:
                shown = time.monotonic()
                show_progress(name, int(step[1]), int(step[2]), shown - started)
    if sys.stdout.isatty():
        print()
    if process.returncode != 0:
        print("".join(tail), file=sys.stderr)
        raise SetupError(f"compiling {name} failed; the whole output is in {log}")


def show_progress(name: str, done: int, total: int, seconds: float) -> None:
    text = f"  {name}: {done} of {total} files compiled in {clock(seconds)}"
    if 4 * done >= total:  # the slowest files come first: earlier guesses are far too long
        text += f", about {clock(seconds / done * (total - done))} left"
    if sys.stdout.isatty():
        print("\r" + text.ljust(76), end="", flush=True)
    else:
        print(text, flush=True)


def clock(seconds: float) -> str:
    return "{}:{:02d}".format(*divmod(round(seconds), 60))


def say(text: str) -> None:
    print("setup: " + text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
