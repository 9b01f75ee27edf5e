"""What a user can get wrong ends, in both hosts, in one line that says what and what to do."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from tests.hosts.installed import each_host, needs_detectron2, needs_mmdet

from metaheads.cli import main
from metaheads.configs import config_root

SMALL = "yolact/yolact_r18_128_shapes"


@pytest.fixture(autouse=True)
def _no_logging_to_closed_streams(monkeypatch):
    """The hosts' loggers keep the stderr of the test before."""
    monkeypatch.setattr("logging.raiseExceptions", False)


def train(host: str, folder: Path, *words: str) -> int:
    flags = ["--config-file", SMALL, "--host", host, "--work-dir", str(folder)]
    return main(["train", *flags, "--no-data-check", *words])


@pytest.mark.parametrize(
    ("host", "option", "message"),
    [
        ("mmdet", "train_cfg.max_itr=3", r"train_cfg\.max_itr; did you mean train_cfg\.max_iters"),
        ("mmdet", "train_cfg.max_iters=abc", "train_cfg.max_iters: expected int as in 2000"),
        ("mmdet", "optim_wrapper.optimizer.lr=abc", "optimizer.lr: expected float as in 0.001"),
        ("mmdet", "optim_wrapper.optimizer.lrr=0.1", "AdamW has no option .*lrr; did you mean"),
        ("mmdet", "optim_wrapper.optimizer.type=AdamWW", "cannot build what this config says"),
        ("mmdet", "model.backbone.dept=18", "ResNet has no option model.backbone.dept; did you"),
        ("mmdet", "model.backbone.depth=19", "cannot build.*invalid depth 19"),
        ("mmdet", "model.type=metaheads.Yolakt", "cannot build.*metaheads.Yolakt"),
        ("mmdet", "model.core.num_clases=7", "did you mean core.num_classes"),
        ("mmdet", "train_dataloader.batchsize=2", "cannot build.*batchsize"),
        ("mmdet", "train_dataloader.dataset.ann_fil=x", "ann_fil; did you mean .*ann_file"),
        ("mmdet", "default_hooks.checkpoint.intervall=3", "intervall; did you mean .*interval"),
        ("detectron2", "SOLVER.MAX_ITER=abc", "Type mismatch.*SOLVER.MAX_ITER"),
        ("detectron2", "SOLVER.MAX_ITR=3", "SOLVER.MAX_ITR; did you mean SOLVER.MAX_ITER"),
        ("detectron2", "MODEL.RESNETS.DEPTH=19", "cannot build what the config says.*19"),
        ("detectron2", "MODEL.BACKBONE.NAME=foo", "cannot build what the config says.*foo"),
        ("detectron2", "MODEL.META_ARCHITECTURE=Yolakt", "no 'Yolakt'; did you mean Yolact"),
        ("detectron2", "SOLVER.LR_SCHEDULER_NAME=foo", "cannot build.*foo"),
        ("mmdet", "load_from=/nowhere/x.pth", "load_from of the config: no file /nowhere/x.pth"),
        ("detectron2", "TEST.FLIP=True", "Yolact cannot merge an image and its mirror"),
        ("detectron2", "MODEL.WEIGHTS=/nowhere/x.pth", "of the config: no file /nowhere/x.pth"),
    ],
)
def test_options(host, option, message, tmp_path, capsys):
    assert train(host, tmp_path, option) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert re.search(message, line)


@needs_detectron2
def test_whole_numbers_stand_for_fractions(tmp_path, capsys):
    assert train("detectron2", tmp_path, "SOLVER.BASE_LR", "1", "MODEL.BACKBONE.NAME", "foo") == 2
    assert "cannot build" in capsys.readouterr().err, "not a mismatch of types"


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("mmdet", "_base_ = '{base}.py'\nauto_scale_lr = dict(_delete_=True)\n"),
        ("detectron2", "_BASE_: {base}.yaml\nSOLVER:\n  REFERENCE_BATCH_SIZE: 0\n"),
    ],
)
def test_scaling_needs_the_batch_of_the_rate(host, text, tmp_path, capsys):
    config = tmp_path / ("mine.py" if host == "mmdet" else "mine.yaml")
    config.write_text(text.format(base=config_root() / host / SMALL))
    flags = ["--config-file", str(config), "--work-dir", str(tmp_path), "--no-data-check"]
    assert main(["train", *flags, "--auto-scale-lr"]) == 2
    assert "--auto-scale-lr needs" in capsys.readouterr().err


@each_host
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-gpus", "0"], "--num-gpus must be at least 1"),
        (["--num-machines", "0"], "--num-machines must be at least 1"),
        (["--machine-rank", "2"], "--machine-rank 2"),
        (["--num-machines", "2"], "--dist-url"),
        (["--launcher", "pytorch"], "torchrun"),
        (["--amp"], "--amp needs a GPU"),
        (["--early-stopping", "-1"], "--early-stopping"),
    ],
)
def test_machines(host, words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("RANK", raising=False)
    assert train(host, tmp_path, *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "name", "text"),
    [
        ("mmdet", "a.py", "_base_ = './missing.py'"),
        ("mmdet", "b.py", "model = dict("),
        ("mmdet", "c.py", "modell = dict()"),
        ("detectron2", "d.yaml", "_BASE_: missing.yaml"),
        ("detectron2", "e.yaml", "MODEL: ["),
        ("detectron2", "f.yaml", "MODEL: {YOLACT: 5}"),
        ("detectron2", "g.yaml", ""),
    ],
)
def test_broken_configs(host, name, text, tmp_path, capsys):
    (tmp_path / name).write_text(text)
    assert main(["train", "--config-file", str(tmp_path / name), "--no-data-check"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
@each_host
def test_errors_of_several_processes_are_one_line(host, tmp_path, capfd):
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "other.pth")
    words = ["--num-gpus", "2", "--checkpoint", str(tmp_path / "other.pth")]
    assert train(host, tmp_path / "work", *words) == 2
    printed = capfd.readouterr().err
    assert "other.pth: the checkpoint is of another architecture" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("mmdet", ["train_cfg.max_iters={}", "train_cfg.val_interval=100"]),
        ("detectron2", ["SOLVER.MAX_ITER={}", "TEST.EVAL_PERIOD=0"]),
    ],
)
def test_a_refused_start_keeps_the_training_before_it(host, options, tmp_path, capsys):
    work = tmp_path / "work"
    assert train(host, work, *(option.format(1) for option in options)) == 0
    tag, results = ((work / name).read_text() for name in ("last_checkpoint", "results.json"))
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "other.pth")
    assert train(host, work, "--checkpoint", str(tmp_path / "other.pth")) == 2
    assert (work / "last_checkpoint").read_text() == tag
    assert (work / "results.json").read_text() == results
    (work / "last_checkpoint").unlink()
    capsys.readouterr()
    assert train(host, work, "--resume", *(option.format(1) for option in options)) == 0
    assert "--resume-from FILE" in capsys.readouterr().err, "begins anew, and says so"


@needs_detectron2
def test_lazy_configs(tmp_path, capsys):
    file = tmp_path / "lazy.py"
    file.write_text(
        "from detectron2.config import LazyCall as L\nimport torch\n"
        "model = L(torch.nn.Linear)(in_features=1, out_features=1)\n"
        "dataloader = dict(); optimizer = dict(); lr_multiplier = dict()\n"
        "train = dict(max_iter=3, output_dir='x', device='cpu')\n"
    )
    for option, message in (
        ("train.max_itr=1", "no option train.max_itr; did you mean max_iter"),
        ("trian.max_iter=1", "no option trian.max_iter; did you mean train"),
        ("model.in_feature=1", "Linear has no option in_feature; did you mean in_features"),
    ):
        assert main(["train", "--config-file", str(file), option]) == 2
        assert message in capsys.readouterr().err


@needs_mmdet
def test_a_broken_image_among_many_is_found(tmp_path, shapes_data, monkeypatch, capsys):
    """Whichever it is: all of this data set are decoded."""
    shutil.copytree(shapes_data / "shapes", tmp_path / "shapes")
    image = sorted((tmp_path / "shapes/train").glob("*.png"))[5]
    image.write_bytes(image.read_bytes()[:200])
    monkeypatch.setenv("METAHEADS_DATA", str(tmp_path))
    assert main(["train", "--config-file", SMALL, "--host", "mmdet"]) == 2
    assert image.name in capsys.readouterr().err
    content = json.loads((tmp_path / "shapes/annotations/instances_val.json").read_text())
    assert content["images"], "the other file is whole"
