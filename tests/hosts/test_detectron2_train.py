"""Training, evaluation, checkpoints and Detectron2's own entry points, on four small images."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.checkpoint import DetectionCheckpointer  # noqa: E402
from detectron2.config import get_cfg  # noqa: E402
from detectron2.data import MetadataCatalog  # noqa: E402
from detectron2.engine import DefaultPredictor, DefaultTrainer  # noqa: E402
from detectron2.modeling import build_model  # noqa: E402
from detectron2.structures import Boxes, Instances  # noqa: E402

from metaheads import load  # noqa: E402
from metaheads.commands.train import RunOptions, train  # noqa: E402
from metaheads.datasets.check import DatasetError, check_all  # noqa: E402
from metaheads.hosts.detectron2 import add_metaheads_config  # noqa: E402
from metaheads.hosts.detectron2.checkpoint import Checkpointer  # noqa: E402
from metaheads.hosts.detectron2.datasets import register_datasets  # noqa: E402
from metaheads.hosts.detectron2.evaluation import InstanceEvaluator  # noqa: E402
from metaheads.hosts.detectron2.train import coco_sources, load_config, run  # noqa: E402
from metaheads.hosts.detectron2.trainer import KeepBest, Trainer  # noqa: E402

CONFIG = """
_BASE_: {base}
MODEL:
  RESNETS:
    OUT_FEATURES: [res2, res3]
  YOLACT:
    NUM_CLASSES: 2
    MAX_SIZE: 64
    FPN_CHANNELS: 16
    NUM_EXTRA_LEVELS: 1
    ANCHOR_SCALES: [[12], [24], [48]]
INPUT:
  TEST_SIZE: (64, 64)
  TRANSFORM:
    SIZE: (64, 64)
DATASETS:
  REGISTER: [[train_test, {folder}/instances.json, {folder}/images]]
  TRAIN: ("train_test",)
  TEST: ("train_test",)
DATALOADER:
  NUM_WORKERS: 0
SOLVER:
  IMS_PER_BATCH: 4
  MAX_ITER: 6
  WARMUP_ITERS: 2
  CHECKPOINT_PERIOD: 2
TEST:
  EVAL_PERIOD: 4
"""


@pytest.fixture(scope="module")
def config_file(tiny_coco: Path) -> Path:
    from metaheads.configs import config_root

    base = config_root() / "detectron2/yolact/yolact_r18_128_shapes.yaml"
    path = tiny_coco / "small.yaml"
    path.write_text(CONFIG.format(base=base, folder=tiny_coco))
    return path


@pytest.fixture(scope="module")
def trained(config_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder after six iterations and two evaluations."""
    folder = tmp_path_factory.mktemp("out")
    torch.manual_seed(0)
    cfg = load_config(config_file, [("SEED", "1")], work_dir=str(folder))
    metrics = run(cfg, RunOptions())
    assert {"bbox/AP", "segm/AP", "segm/AP50"} <= set(metrics)
    return folder


def iteration(path: Path) -> int:
    return torch.load(path, weights_only=True)["trainer"]["iteration"]


def test_training_writes_checkpoints_that_load_with_weights_only(trained: Path):
    assert iteration(trained / "model_final.pth") == 5
    assert (trained / "last_checkpoint").read_text() == "model_final.pth"
    assert (trained / "model_best.pth").is_file()
    kept = sorted(path.name for path in trained.glob("model_0*.pth"))
    assert kept == ["model_0000003.pth", "model_0000005.pth"], "the last two"
    assert json.loads((trained / "results.json").read_text()).keys() >= {"segm/AP"}
    assert list(trained.glob(".*")) == [], "no temporary file is left"


def test_resume_in_a_moved_folder_with_a_half_written_checkpoint(
    config_file: Path, trained: Path, tmp_path: Path
):
    moved = tmp_path / "moved"
    shutil.copytree(trained, moved)
    (moved / "model_final.pth").unlink()
    (moved / "last_checkpoint").write_text(f"{trained}/model_0000003.pth")  # as others write it
    (moved / ".model_0000005.pth.tmp").write_bytes(b"cut off by a kill")
    (moved / "model_0000005.pth").unlink()
    cfg = load_config(config_file, [], work_dir=str(moved))
    seen = []

    class Watched(Trainer):
        def before_train(self):
            seen.append((self.start_iter, self.optimizer.state_dict()["state"][0]["step"].item()))
            super().before_train()

    trainer = Watched(cfg)
    assert trainer.checkpointer.get_checkpoint_file() == str(moved / "model_0000003.pth")
    trainer.resume(trainer.checkpointer.get_checkpoint_file())
    (best,) = (hook for hook in trainer._hooks if isinstance(hook, KeepBest))
    saved = torch.load(moved / "model_0000003.pth", weights_only=True)["trainer"]
    trainer.train()
    assert seen == [(4, 4)]
    assert iteration(moved / "model_final.pth") == 5
    assert best._best > -math.inf and "LRScheduler" in saved["hooks"]
    assert (moved / "last_checkpoint").read_text() == "model_final.pth"


def test_resume_flag_and_resume_from(config_file: Path, trained: Path, tmp_path: Path):
    moved = tmp_path / "moved"
    shutil.copytree(trained, moved)
    longer = [("SOLVER.MAX_ITER", "8")]
    train(str(config_file), None, longer, RunOptions(resume=True), work_dir=str(moved))
    assert iteration(moved / "model_final.pth") == 7
    kept = sorted(path.name for path in moved.glob("model_0*.pth"))
    assert kept == ["model_0000005.pth", "model_0000007.pth"], "also those of the run before count"
    other = tmp_path / "other"
    cfg = load_config(config_file, [("SOLVER.MAX_ITER", "5")], work_dir=str(other))
    run(cfg, RunOptions(resume_from=str(trained / "model_0000003.pth")))
    assert iteration(other / "model_final.pth") == 4
    weights_only = tmp_path / "weights.pth"
    torch.save(torch.load(trained / "model_final.pth", weights_only=True)["model"], weights_only)
    with pytest.raises(ValueError, match=r"weights\.pth holds no trainer.*--checkpoint"):
        train(str(config_file), None, [], RunOptions(resume_from=str(weights_only)))


def test_a_kill_while_writing_leaves_the_last_checkpoint(
    trained: Path, tmp_path: Path, monkeypatch
):
    shutil.copytree(trained, tmp_path / "out")
    model = torch.nn.Linear(1, 1)
    checkpointer = Checkpointer(model, str(tmp_path / "out"), save_to_disk=True)
    before = (tmp_path / "out/model_final.pth").read_bytes()

    def killed(content, file):
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save("model_final")
    assert (tmp_path / "out/model_final.pth").read_bytes() == before
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "out/model_final.pth")
    monkeypatch.undo()
    checkpointer.save("model_next")
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "out/model_next.pth")


def predictions(folder: Path) -> list[dict]:
    return json.loads((folder / "inference/coco_instances_results.json").read_text())


def test_evaluation_of_a_checkpoint_repeats_the_last_one(config_file, trained, tmp_path):
    checkpoint = str(trained / "model_final.pth")
    for folder, weights, option in (("a", "", checkpoint), ("b", checkpoint, None)):
        changes = [("MODEL.WEIGHTS", weights)]
        cfg = load_config(config_file, changes, work_dir=str(tmp_path / folder))
        run(cfg, RunOptions(eval_only=True, checkpoint=option))
        assert predictions(tmp_path / folder) == predictions(trained) != []


@pytest.mark.slow
def test_two_processes_train_and_evaluate_as_one(config_file, tmp_path):
    cfg = load_config(config_file, [("SOLVER.MAX_ITER", "2")], work_dir=str(tmp_path / "two"))
    assert "segm/AP" in run(cfg, RunOptions(num_gpus=2))
    checkpoint = tmp_path / "two/model_final.pth"
    assert iteration(checkpoint) == 1
    cfg = load_config(config_file, work_dir=str(tmp_path / "one"))
    run(cfg, RunOptions(eval_only=True, checkpoint=str(checkpoint)))
    two, one = predictions(tmp_path / "two"), predictions(tmp_path / "one")
    assert [each["image_id"] for each in two] == [each["image_id"] for each in one]
    scores = [[each["score"] for each in found] for found in (two, one)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_a_checkpoint_that_does_not_fit_is_refused(config_file, trained, tmp_path):
    checkpoint = str(trained / "model_final.pth")
    cfg = load_config(config_file, [("MODEL.YOLACT.NUM_CLASSES", "5")], work_dir=str(tmp_path))
    for options in (
        RunOptions(eval_only=True, checkpoint=checkpoint),
        RunOptions(checkpoint=checkpoint),
        RunOptions(resume_from=checkpoint),
    ):
        with pytest.raises(ValueError, match="2 classes.*5 classes"):
            run(cfg, options)


def test_mmdetections_checkpoint_is_renamed(config_file, trained, tmp_path):
    """A file with torchvision's names, as MMDetection's runner writes it."""
    from metaheads.weights import read_checkpoint, to_host

    cfg = load_config(config_file)
    state = read_checkpoint(trained / "model_final.pth")
    theirs = to_host(state, ["backbone.conv1.weight", "backbone.layer1.0.bn1.weight"])
    assert "backbone.layer1.0.conv1.weight" in theirs
    torch.save({"state_dict": theirs, "meta": {}}, tmp_path / "mmdet.pth")
    model = build_model(cfg)
    Checkpointer(model).load(str(tmp_path / "mmdet.pth"))
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    bare = {n.removeprefix("backbone."): t for n, t in theirs.items() if n.startswith("backbone.")}
    torch.save({**bare, "fc.weight": torch.zeros(2, 2)}, tmp_path / "torchvision.pth")
    model = build_model(cfg)
    Checkpointer(model).load(str(tmp_path / "torchvision.pth"))
    assert torch.equal(model.backbone.res2[0].conv1.weight, state["backbone.res2.0.conv1.weight"])


def test_detectron2s_own_trainer_and_predictor_take_our_config(config_file, trained, tmp_path):
    cfg = get_cfg()
    add_metaheads_config(cfg)
    cfg.merge_from_file(str(config_file))
    cfg.OUTPUT_DIR, cfg.SOLVER.MAX_ITER, cfg.TEST.EVAL_PERIOD = str(tmp_path), 3, 0
    cfg.DATASETS.TEST = ()
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert (tmp_path / "model_final.pth").is_file()

    cfg.DATASETS.TEST = ("train_test",)
    cfg.MODEL.WEIGHTS = str(trained / "model_final.pth")
    image = cv2.imread(str(Path(MetadataCatalog.get("train_test").image_root) / "2.png"))
    theirs = DefaultPredictor(cfg)(image)["instances"]
    ours = load(config_file, cfg.MODEL.WEIGHTS, device="cpu")
    found = ours.predict(np.ascontiguousarray(image[..., ::-1]))
    assert ours.class_names == ["square", "disc"]
    assert theirs.image_size == (48, 80) and len(theirs) == len(found) > 0
    assert torch.equal(theirs.pred_masks, found.masks)


def test_optimizers(config_file):
    cfg = load_config(config_file)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    optimizer = Trainer.build_optimizer(cfg, model)
    assert type(optimizer) is torch.optim.AdamW
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.01}
    cfg.SOLVER.WEIGHT_DECAY_NORM = 0.0
    assert len(Trainer.build_optimizer(cfg, model).param_groups) == 2
    cfg.SOLVER.OPTIMIZER = "Adam"
    with pytest.raises(ValueError, match="SOLVER.OPTIMIZER.*AdamW.*'Adam'"):
        Trainer.build_optimizer(cfg, model)


@pytest.mark.parametrize("whole", [True, False])
def test_gradients_are_clipped_together_or_each(config_file, whole):
    cfg = load_config(config_file)
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.MOMENTUM, cfg.SOLVER.BASE_LR = "SGD", 0.0, 1.0
    cfg.SOLVER.WEIGHT_DECAY = 0.0
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE, cfg.SOLVER.CLIP_GRADIENTS.WHOLE_MODEL = 1.0, whole
    model = torch.nn.Linear(1, 1)
    optimizer = Trainer.build_optimizer(cfg, model)
    before = [p.detach().clone() for p in model.parameters()]
    for parameter, gradient in zip(model.parameters(), (3.0, 4.0), strict=True):
        parameter.grad = torch.full_like(parameter, gradient)
    optimizer.step()
    steps = [(b - p).item() for b, p in zip(before, model.parameters(), strict=True)]
    assert steps == pytest.approx([0.6, 0.8] if whole else [1.0, 1.0], abs=1e-5)


def test_a_run_that_ends_in_its_warm_up(config_file):
    cfg = load_config(config_file, [("SOLVER.MAX_ITER", "5"), ("SOLVER.WARMUP_ITERS", "30")])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = Trainer.build_lr_scheduler(cfg, optimizer)
    for _ in range(5):
        optimizer.step()
        scheduler.step()


def test_best_weights_are_kept_and_remembered(tmp_path):
    latest = {}
    checkpointer = Checkpointer(torch.nn.Linear(1, 1), str(tmp_path))

    def follow(hook: KeepBest, start_iter: int, values: list[float]) -> list[float | None]:
        """What `model_best.pth` says after each evaluation."""
        storage = SimpleNamespace(latest=lambda: latest)
        hook.trainer = SimpleNamespace(storage=storage, start_iter=start_iter)
        hook.before_train()
        found = []
        for step, value in enumerate(values, start=start_iter):
            latest["segm/AP"] = (value, step)
            hook.after_step()
            file = tmp_path / "model_best.pth"
            found.append(torch.load(file, weights_only=True)["best"] if file.is_file() else None)
        return found

    first, resumed, other = (KeepBest(checkpointer, "segm/AP") for _ in range(3))
    assert follow(first, 0, [math.nan, 10.0, 5.0, 12.0]) == [None, 10.0, 10.0, 12.0]
    resumed.load_state_dict(first.state_dict())
    values = follow(resumed, 2, [11.0, 13.0])
    assert values == [12.0, 13.0], "resumed from a checkpoint before the 12"
    assert follow(other, 2, [1.0]) == [1.0], "another training in the same folder, resumed"


def test_a_new_training_is_not_resumed_into_the_old_one(config_file, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "work")
    trainer = Trainer(load_config(config_file, [], work_dir=str(tmp_path / "work")))
    assert trainer.checkpointer.get_checkpoint_file()
    trainer.checkpointer.forget()
    assert not trainer.checkpointer.has_checkpoint()


def test_every_start_draws_another_order(config_file, trained):
    cfg = load_config(config_file)
    register_datasets(cfg)

    def order(loader) -> list[int]:
        batches = (batch for batch, _ in zip(loader, range(6), strict=False))
        return [each["image_id"] for batch in batches for each in batch]

    def begin() -> list[int]:
        return order(Trainer.build_train_loader(cfg))

    assert len({tuple(begin()) for _ in range(4)}) > 1
    cfg.SEED = 7
    assert begin() == begin()
    trainer = Trainer(cfg)
    assert order(trainer._trainer.data_loader) == begin()
    trainer.resume(str(trained / "model_0000003.pth"))
    assert order(trainer._trainer.data_loader) != begin()


def test_evaluation_of_the_last_checkpoint(config_file, trained, tmp_path):
    options = RunOptions(eval_only=True, resume=True)
    assert "segm/AP" in train(str(config_file), None, [], options, work_dir=str(trained))
    with pytest.raises(FileNotFoundError, match="no training in .*--checkpoint"):
        train(str(config_file), None, [], options, work_dir=str(tmp_path))
    options = RunOptions(eval_only=True)
    with pytest.raises(ValueError, match=r"nothing to evaluate.*--checkpoint.*MODEL\.WEIGHTS"):
        train(str(config_file), None, [], options, work_dir=str(tmp_path))


def test_weights_of_the_model_zoo_are_evaluated(config_file, trained, tmp_path):
    state = torch.load(trained / "model_final.pth", weights_only=True)["model"]
    zoo = tmp_path / "zoo.pkl"
    content = {"model": {name: tensor.numpy() for name, tensor in state.items()}}
    zoo.write_bytes(pickle.dumps({**content, "__author__": "Detectron2 Model Zoo"}))
    cfg = load_config(config_file, [("MODEL.WEIGHTS", str(zoo))], work_dir=str(tmp_path / "work"))
    found = run(cfg, RunOptions(eval_only=True))
    options = RunOptions(eval_only=True, checkpoint=str(trained / "model_final.pth"))
    expected = run(cfg, options)
    assert found == pytest.approx(expected, nan_ok=True)
    part = {name: each for name, each in content["model"].items() if name.startswith("backbone.")}
    zoo.write_bytes(pickle.dumps({"model": part, "__author__": "Detectron2 Model Zoo"}))
    with pytest.raises(ValueError, match="lacks core"):
        run(cfg, RunOptions(eval_only=True))


def test_files_that_number_classes_otherwise_are_refused(config_file, tmp_path):
    cfg = load_config(config_file)
    register_datasets(cfg)
    first, second = coco_sources(cfg, train=True)
    content = json.loads(Path(second["annotation_file"]).read_text())
    second["annotation_file"] = tmp_path / "other.json"
    content["categories"].reverse()
    second["annotation_file"].write_text(json.dumps(content))
    assert len(list(check_all([first, second]))) == 2, "Detectron2 goes by the ids"
    a, b = content["categories"]
    a["name"], b["name"] = b["name"], a["name"]
    second["annotation_file"].write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="number the classes otherwise"):
        list(check_all([first, second]))


def test_masks_are_ranked_by_their_own_scores(config_file):
    """A wrong mask with the better box score ranks behind the right one by its mask score."""
    load_config(config_file)
    right, wrong = torch.zeros(64, 64, dtype=torch.bool), torch.zeros(64, 64, dtype=torch.bool)
    right[10:30, 8:24], wrong[40:60, 40:60] = True, True

    def evaluate(mask_scores) -> dict:
        found = Instances((64, 64))
        found.pred_boxes = Boxes(torch.tensor([[40.0, 40.0, 60.0, 60.0], [8.0, 10.0, 24.0, 30.0]]))
        found.scores, found.pred_classes = torch.tensor([0.9, 0.8]), torch.tensor([0, 0])
        found.pred_masks = torch.stack([wrong, right])
        if mask_scores is not None:
            found.mask_scores = torch.tensor(mask_scores)
        evaluator = InstanceEvaluator("train_test", ("bbox", "segm"), distributed=False)
        evaluator.reset()
        evaluator.process([{"image_id": 1}], [{"instances": found}])
        return evaluator.evaluate()

    plain, scored = evaluate(None), evaluate([0.1, 0.8])
    assert scored["bbox"] == pytest.approx(plain["bbox"], nan_ok=True)
    assert scored["segm"]["AP-square"] > plain["segm"]["AP-square"]


def test_detectron2s_loader_of_weights_reads_our_checkpoint(config_file, trained):
    model = build_model(load_config(config_file))
    DetectionCheckpointer(model).load(str(trained / "model_final.pth"))
    saved = torch.load(trained / "model_final.pth", weights_only=True)["model"]
    assert all(torch.equal(tensor, saved[name]) for name, tensor in model.state_dict().items())
