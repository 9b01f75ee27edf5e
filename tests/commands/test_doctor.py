"""`metaheads doctor`: each known trap, from made-up facts, and the probes on tiny programs."""

import argparse
import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metaheads.commands import doctor
from metaheads.commands.diagnosis import diagnose, matching_torchvision

HEALTHY = {
    "python": "3.11.7",
    "folder": [],
    "gpu": False,
    "versions": {
        "torch": "2.12.1",
        "torchvision": "0.27.1",
        "numpy": "2.4.6",
        "opencv": "5.0.0.93",
        "pycocotools": "2.0.11",
        "setuptools": "80.8.0",
        "mmengine": "0.10.7",
        "mmcv": "2.1.0",
        "mmdet": "3.3.0",
        "detectron2": "0.6",
    },
    "distributions": {name: choices[0] for name, choices in doctor.DISTRIBUTIONS.items()},
    "probes": {name: {"ok": True, "output": "runs, no GPU"} for name in doctor.PROBES},
}


def make_facts(failed=None, versions=None, distributions=None, **others):
    """The healthy facts with some probes failing with a message and some entries replaced."""
    facts = copy.deepcopy(HEALTHY)
    facts.update(others)
    facts["versions"].update(versions or {})
    facts["distributions"].update(distributions or {})
    for name, output in (failed or {}).items():
        facts["probes"][name] = {"ok": False, "output": output}
    for name in list(facts["probes"]):
        if not facts["versions"][name.split()[0]]:
            del facts["probes"][name]
    return facts


def the_finding(facts):
    findings = diagnose(facts)
    assert len(findings) == 1, findings
    return findings[0]


NO_EXT = "Traceback ...\nModuleNotFoundError: No module named 'mmcv._ext'"
SYMBOL = "ImportError: /x/_ext.so: undefined symbol: _ZN3c1017RegisterOperatorsD1Ev"
NO_GL = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"


def test_healthy_has_no_findings():
    assert diagnose(HEALTHY) == []
    assert doctor.usable_hosts(HEALTHY) == ["mmdet", "detectron2"]


def test_one_host_is_healthy_too():
    without_detectron2 = make_facts(versions={"detectron2": None})
    without_mmdet = make_facts(versions={"mmdet": None, "mmcv": None, "mmengine": None})
    assert diagnose(without_detectron2) == diagnose(without_mmdet) == []
    assert doctor.usable_hosts(without_detectron2) == ["mmdet"]
    assert doctor.usable_hosts(without_mmdet) == ["detectron2"]


def test_no_host():
    gone = {"mmdet": None, "mmcv": None, "mmengine": None, "detectron2": None}
    finding = the_finding(make_facts(versions=gone, distributions=gone))
    assert finding.part == "hosts" and "mmdet==3.3.0" in finding.remedy
    assert "uninstall" not in finding.remedy


def test_mmcv_without_ops():
    facts = make_facts(failed={"mmcv ops": NO_EXT, "mmdet": NO_EXT})
    finding = the_finding(facts)
    assert "without its compiled ops" in finding.problem
    assert "--no-build-isolation --no-cache-dir" in finding.remedy
    assert "setuptools<81" in finding.remedy and "mmcv==2.1.0" in finding.remedy
    assert doctor.usable_hosts(facts) == ["detectron2"]


def test_mmcv_lite():
    facts = make_facts(failed={"mmcv ops": NO_EXT}, distributions={"mmcv": "mmcv-lite"})
    finding = the_finding(facts)
    assert "mmcv-lite" in finding.problem and "pip uninstall -y mmcv-lite" in finding.remedy


@pytest.mark.parametrize("output", [SYMBOL, "crashed with signal 11"])
def test_mmcv_of_another_torch(output):
    finding = the_finding(make_facts(failed={"mmcv ops": output}))
    assert finding.part == "mmcv" and "another torch than 2.12.1" in finding.problem
    assert "--no-build-isolation" in finding.remedy


@pytest.mark.parametrize("version", ["2.2.0", "1.7.2", "2.10.0"])
def test_mmcv_that_mmdet_refuses(version):
    asserted = "AssertionError: MMCV==2.2.0 is used but incompatible."
    facts = make_facts(failed={"mmdet": asserted}, versions={"mmcv": version})
    finding = the_finding(facts)
    assert version in finding.problem and "mmcv==2.1.0" in finding.remedy


def test_onedl_fork_may_be_newer():
    forks = {"mmcv": "onedl-mmcv", "mmdet": "onedl-mmdetection", "mmengine": "onedl-mmengine"}
    facts = make_facts(versions={"mmcv": "2.3.6", "mmdet": "3.5.1"}, distributions=forks)
    assert diagnose(facts) == []


def test_torchvision_of_another_torch():
    missing = "RuntimeError: operator torchvision::nms does not exist"
    finding = the_finding(make_facts(failed={"torchvision ops": missing}))
    assert finding.part == "torchvision" and "torchvision==0.27.*" in finding.remedy
    assert "--index-url" not in finding.remedy


def test_torchvision_remedy_keeps_the_build_of_torch():
    facts = make_facts(failed={"torchvision ops": SYMBOL}, versions={"torch": "2.4.1+cpu"})
    remedy = the_finding(facts).remedy
    assert "torchvision==0.19.*" in remedy and remedy.endswith("download.pytorch.org/whl/cpu")


def test_matching_torchvision():
    assert matching_torchvision("2.0.1") == "0.15.*"
    assert matching_torchvision("2.12.1+cu130") == "0.27.*"


def test_opencv_without_libgl():
    finding = the_finding(make_facts(failed={"opencv": NO_GL}))
    assert "libGL.so.1" in finding.problem
    assert "apt-get install libgl1" in finding.remedy
    assert "opencv-python-headless" in finding.remedy


def test_setuptools_without_pkg_resources():
    message = "ModuleNotFoundError: No module named 'pkg_resources'"
    facts = make_facts(failed={"setuptools pkg_resources": message}, versions={"setuptools": "82"})
    finding = the_finding(facts)
    assert "pkg_resources" in finding.problem and "'setuptools<82'" in finding.remedy


def test_no_setuptools_at_all():
    assert "setuptools<82" in the_finding(make_facts(versions={"setuptools": None})).remedy


def test_built_for_numpy_1():
    output = "ValueError: numpy.dtype size changed, may indicate binary incompatibility\nother"
    finding = the_finding(make_facts(failed={"pycocotools": output}))
    assert "another version of numpy" in finding.problem
    assert "--force-reinstall" in finding.remedy and finding.remedy.endswith("pycocotools")


def test_broken_torch_hides_its_consequences():
    output = "OSError: libcudart.so.13: cannot open shared object file"
    everything = {name: output for name in doctor.PROBES}
    finding = the_finding(make_facts(failed=everything))
    assert finding.part == "torch" and "CUDA library" in finding.problem


def test_no_torch():
    facts = make_facts(versions={"torch": None})
    assert the_finding(facts).remedy == "pip install torch torchvision"
    assert doctor.usable_hosts(facts) == []


@pytest.mark.parametrize(
    "output",
    [
        "ImportError: cannot import name '_C' from 'detectron2'",
        "ModuleNotFoundError: No module named 'detectron2._C'",
    ],
)
def test_detectron2_not_compiled(output):
    finding = the_finding(make_facts(failed={"detectron2 ops": output}))
    assert "compiled part" in finding.problem and "--no-build-isolation" in finding.remedy


def test_detectron2_of_another_torch():
    facts = make_facts(failed={"detectron2 ops": SYMBOL})
    assert "another torch" in the_finding(facts).problem
    assert doctor.usable_hosts(facts) == ["mmdet"]


def test_detectron2_without_a_dependency():
    output = "ModuleNotFoundError: No module named 'fvcore.nn'"
    assert the_finding(make_facts(failed={"detectron2": output})).remedy == "pip install fvcore"


def test_folder_that_hides_a_package():
    finding = the_finding(make_facts(folder=["detectron2"]))
    assert finding.part == "detectron2" and "hides" in finding.problem


def test_cpu_ops_beside_a_gpu():
    facts = make_facts(gpu=True)
    facts["probes"]["torch"]["output"] = "CUDA 13.0 build, NVIDIA H200"
    facts["probes"]["mmcv ops"]["output"] = "compiled for the CPU only"
    finding = the_finding(facts)
    assert finding.part == "mmcv" and "nvcc" in finding.remedy
    assert doctor.usable_hosts(facts) == ["mmdet", "detectron2"]


def test_cpu_torch_beside_a_gpu():
    facts = make_facts(gpu=True)
    facts["probes"]["torch"]["output"] = "CPU build, no GPU"
    assert "CPU build" in the_finding(facts).problem


def test_untested_python():
    finding = the_finding(make_facts(python="3.13.0"))
    assert finding.part == "python" and "3.13 is untested" in finding.problem


def test_probe_reports_success_error_crash_and_silence():
    assert doctor.run_probe("print('fine')") == {"ok": True, "output": "fine"}
    assert "No module named 'nowhere'" in doctor.run_probe("import nowhere")["output"]
    crash = doctor.run_probe("import os; os.abort()")
    assert not crash["ok"] and "crashed with signal 6" in crash["output"]
    silent = doctor.run_probe("import time; time.sleep(9)", timeout=0.5)
    assert not silent["ok"] and "no answer" in silent["output"]


def test_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "mmdet").mkdir()
    (tmp_path / "mmdet" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: pytest.__spec__)
    assert doctor._is_hidden_by_folder("mmdet")
    assert not doctor._is_hidden_by_folder("mmcv")


@pytest.mark.parametrize(
    ("facts", "code", "words"),
    [
        (HEALTHY, 0, ["usable hosts: mmdet, detectron2"]),
        (make_facts(versions={"detectron2": None}), 0, ["installation guide", "not installed"]),
        (
            make_facts(failed={"opencv": NO_GL}),
            1,
            ["usable hosts: none", "PROBLEM", "FAILS", NO_GL],
        ),
    ],
)
def test_run_prints_table_findings_verdict(monkeypatch, capsys, facts, code, words):
    monkeypatch.setattr(doctor, "collect_facts", lambda: facts)
    assert doctor.run(argparse.Namespace(verbose=True)) == code
    printed = capsys.readouterr().out
    assert all(word in printed for word in words), printed
    assert "2.12.1" in printed


def test_imports_nothing_heavy():
    code = (
        "import sys, metaheads.commands.doctor as d;"
        "assert not {'torch', 'cv2', 'mmcv', 'mmdet', 'detectron2', 'numpy'} & set(sys.modules)"
    )
    plugins = Path(doctor.__file__).parents[2]
    environment = dict(os.environ, PYTHONPATH=str(plugins))
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
