"""A LazyConfig trains, is resumed and evaluated by the same command."""

import json

import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.data import DatasetCatalog  # noqa: E402

from metaheads.cli import main  # noqa: E402

CONFIG = """
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.data import get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from detectron2.solver import WarmupParamScheduler
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import CosineParamScheduler
import torch

from metaheads.architectures import Yolact as Core
from metaheads.datasets.transforms import TrainTransform
from metaheads.hosts.detectron2.data import MetaheadsMapper
from metaheads.hosts.detectron2.evaluation import InstanceEvaluator
from metaheads.hosts.detectron2.models import Yolact

register_coco_instances("{name}", {{}}, "{folder}/instances.json", "{folder}/images")
rgb = (123.68, 116.78, 103.94), (58.40, 57.12, 57.38)
model = L(Yolact)(
    backbone=L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=64, norm="BN"),
        stages=L(ResNet.make_default_stages)(depth=18, norm="BN"),
        out_features=["res3", "res4"],
    ),
    core=L(Core)(
        in_channels=[128, 256],
        strides=[8, 16],
        num_classes=2,
        max_size=64,
        anchor_scales=((12,), (24,), (48,)),
        num_extra_levels=1,
        fpn_channels=16,
    ),
    pixel_mean=rgb[0],
    pixel_std=rgb[1],
    image_size=(64, 64),
)
dataset = L(get_detection_dataset_dicts)(names="{name}", filter_empty=False)
dataloader = dict(
    train=L(build_detection_train_loader)(
        dataset=dataset,
        mapper=L(MetaheadsMapper)(
            is_train=True, image_format="RGB", transform=L(TrainTransform)(size=(64, 64))
        ),
        total_batch_size=4,
        num_workers=0,
    ),
    test=L(build_detection_test_loader)(
        dataset=dataset,
        mapper=L(MetaheadsMapper)(is_train=False, image_format="RGB", transform=None),
        num_workers=0,
    ),
    evaluator=L(InstanceEvaluator)(dataset_name="{name}"),
)
optimizer = L(torch.optim.AdamW)(params=L(get_default_optimizer_params)(), lr=0.001)
lr_multiplier = L(CosineParamScheduler)(start_value=1.0, end_value=0.01)
train = dict(
    output_dir="./output",
    init_checkpoint="",
    max_iter=4,
    checkpointer=dict(period=2, max_to_keep=2),
    eval_period=4,
    log_period=2,
    device="cpu",
)
"""


@pytest.fixture
def config(tiny_coco, tmp_path):
    file = tmp_path / "lazy.py"
    file.write_text(CONFIG.format(name="lazy_test", folder=tiny_coco))
    yield str(file)
    DatasetCatalog.pop("lazy_test")


def test_train_resume_evaluate(config, tmp_path, capsys):
    work = ["--work-dir", str(tmp_path / "work")]

    def run(*words: str) -> dict[str, float]:
        if "lazy_test" in DatasetCatalog.list():
            DatasetCatalog.pop("lazy_test")
        assert main(["train", "--config-file", config, *words]) == 0
        printed = capsys.readouterr().out
        return json.loads(printed[printed.rindex("\n{") :])

    trained = run(*work)
    last = tmp_path / "work" / "model_final.pth"
    assert torch.load(last, weights_only=True)["trainer"]["iteration"] == 3
    assert (tmp_path / "work" / "model_best.pth").is_file()
    evaluated = run("--eval-only", "--checkpoint", str(last), "--work-dir", str(tmp_path / "eval"))
    assert evaluated == pytest.approx(trained, nan_ok=True)
    run(*work, "--resume", "train.max_iter=6")
    assert torch.load(last, weights_only=True)["trainer"]["iteration"] == 5


def test_a_file_without_the_sections_is_refused(tmp_path, capsys):
    file = tmp_path / "other.py"
    file.write_text("import detectron2\nmodel = dict()\n")
    assert main(["train", "--config-file", str(file)]) == 2
    assert "has no dataloader, optimizer, lr_multiplier, train" in capsys.readouterr().err
