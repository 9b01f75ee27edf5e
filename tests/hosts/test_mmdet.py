"""Our half in MMDetection: registration, configs, the runner, checkpoints, the host's own entry
points."""

import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet", reason="MMDetection is not installed")

from mmengine.config import Config  # noqa: E402
from mmengine.dataset import InfiniteSampler  # noqa: E402
from mmengine.logging import HistoryBuffer  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402
from pycocotools import mask as mask_utils  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

from metaheads import load  # noqa: E402
from metaheads.cli import main  # noqa: E402
from metaheads.configs import config_root, list_configs  # noqa: E402
from metaheads.hosts.mmdet import MODELS, AtomicLocalBackend, TrainLoop  # noqa: E402
from metaheads.hosts.mmdet.checkpoints import (  # noqa: E402
    forget_checkpoints,
    last_checkpoint,
)
from metaheads.hosts.mmdet.config import coco_sources, load_config  # noqa: E402

SMALL = "yolact/yolact_r18_128_shapes"
QUICK = ["train_dataloader.batch_size=2", "default_hooks.checkpoint.interval=2"]


def config_path(name: str) -> Path:
    return config_root() / "mmdet" / f"{name}.py"


@pytest.fixture(scope="module", autouse=True)
def _scope():
    init_default_scope("mmdet")


@pytest.fixture(scope="module")
def small_model():
    torch.manual_seed(0)
    init_default_scope("mmdet")
    return MODELS.build(Config.fromfile(config_path(SMALL)).model)


@pytest.mark.parametrize("name", list_configs(["mmdet"]))
def test_every_config_builds(name):
    cfg = Config.fromfile(config_path(name))
    model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.parameters()) > 3e5


def test_every_registered_name_builds():
    core = dict(in_channels=[64, 128], strides=[4, 8], num_extra_levels=3)
    backbone = dict(type="ResNet", depth=18, out_indices=(0, 1))
    options = {
        "Yolact": dict(backbone=backbone, core=core),
        "YolactFPN": dict(in_channels=[64, 128], out_channels=32, num_extra_levels=1),
        "GapFPN": dict(in_channels=[64, 128], out_channels=32, num_outs=3),
        "DeformableResNet": dict(depth=18, dcn_blocks=(0, 1, 1, 1)),
        "Darknet53": {},
        "CenterNetPoints": dict(backbone=backbone, core=dict(in_channels=[128], strides=[8])),
        "CenterNetTriplets": dict(backbone=backbone, core=dict(in_channels=[128], strides=[8])),
        "CornerNet": dict(backbone=backbone, core=dict(in_channels=[128], strides=[8])),
        "DLA": {},
        "DeconvResNet": dict(depth=18, convolution="plain"),
        "Hourglass": dict(channels=(8, 16), blocks=(1, 1), stem_channels=8),
        "MobileNetV1": {},
        "RetinaFace": dict(
            backbone=backbone,
            core=dict(in_channels=[64, 128], strides=[4, 8], anchor_sizes=((8,), (16,))),
        ),
        "SlimNet": {},
    }
    # These are built from whole models: by test_agree.py, test_panoptic.py, test_panoptic_data.py
    # and test_semantic.py.
    wholes = {"SemanticSegmenter", "TestTimeAugmentation", "UPSNet", "UPSNetSemanticHead"}
    assert set(MODELS.module_dict) - {"Toy"} - wholes == set(options)
    built = {n: MODELS.build({"type": f"metaheads.{n}", **o}) for n, o in options.items()}
    features = [torch.rand(1, 64, 16, 16), torch.rand(1, 128, 8, 8)]
    levels = built["YolactFPN"](features)
    assert [level.shape[1:] for level in levels] == [(32, 16, 16), (32, 8, 8), (32, 4, 4)]


def test_our_names_do_not_shadow_the_hosts():
    assert MODELS.get("metaheads.Yolact").__module__ == "metaheads.hosts.mmdet.models"
    assert MODELS.get("mmdet.YOLACT").__module__.startswith("mmdet.")
    assert MODELS.get("ResNet").__module__.startswith("mmdet.")


def test_misspelt_and_ill_typed_options_are_named():
    model = Config.fromfile(config_path(SMALL)).model
    with pytest.raises(KeyError, match="core.num_prototypes"):
        MODELS.build({**model, "core": {**model.core, "num_prototype": 3}})
    with pytest.raises(TypeError, match="core.num_classes.*expected int.*'seven'"):
        MODELS.build({**model, "core": {**model.core, "num_classes": "seven"}})
    with pytest.raises(ValueError, match="Yolact cannot merge an image and its mirror"):
        MODELS.build({**model, "test_cfg": {"flip": True}})
    with pytest.raises(KeyError, match="did you mean train_cfg"):
        load_config(config_path(SMALL), [("train_cgf.max_iters", "3")], work_dir=None)


def sample(boxes, crowd_boxes, size=(160, 160)):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    def instances(rows):
        masks = np.zeros((len(rows), *size), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, rows, strict=True):
            mask[max(int(y1), 0) : int(y2), max(int(x1), 0) : int(x2)] = 1
        return InstanceData(
            bboxes=torch.tensor(rows, dtype=torch.float32).reshape(-1, 4),
            labels=torch.zeros(len(rows), dtype=torch.long),
            masks=BitmapMasks(masks, *size),
        )

    made = DetDataSample(metainfo={"img_path": "made.png", "img_shape": size, "ori_shape": size})
    made.gt_instances, made.ignored_instances = instances(boxes), instances(crowd_boxes)
    return made


@pytest.mark.parametrize(
    ("boxes", "crowds"),
    [
        ([], []),
        ([], [[10, 10, 90, 90]]),
        ([[5, 5, 5, 40], [7, 7, 8, 8], [170, 20, 300, 60], [-30, -30, 20, 20]], []),
    ],
    ids=["empty", "crowd", "degenerate"],
)
def test_difficult_images_train(small_model, boxes, crowds):
    small_model.zero_grad()
    losses = small_model.loss(torch.randn(1, 3, 160, 160), [sample(boxes, crowds)])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in small_model.parameters())


def test_nonfinite_loss_names_term_image_and_boxes(small_model):
    images = torch.full((1, 3, 160, 160), float("nan"))
    with pytest.raises(FloatingPointError, match=r"(?s)loss_box.*made\.png.*10\.0, 10\.0, 60\.0"):
        small_model.loss(images, [sample([[10, 10, 60, 60]], [])])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shapes_data):
    """A work directory after four iterations and an evaluation."""
    work_dir = tmp_path_factory.mktemp("work")
    flags = ["train", "--config-file", SMALL, "--host", "mmdet", "--work-dir", str(work_dir)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAHEADS_DATA", str(shapes_data))
        assert main([*flags, "--cfg-options", *QUICK, "train_cfg.max_iters=4"]) == 0
    return work_dir


def test_checkpoints_need_no_code_to_load(trained):
    checkpoint = torch.load(trained / "iter_4.pth", weights_only=True)
    assert {"state_dict", "optimizer", "param_schedulers", "message_hub"} <= set(checkpoint)


def test_resume_goes_on_in_a_moved_directory(trained, tmp_path, capsys):
    moved = tmp_path / "moved"
    shutil.copytree(trained, moved)
    shutil.rmtree(moved / "vis_data", ignore_errors=True)
    (moved / "iter_6.pth.writing").write_bytes(b"cut off by a kill")
    (moved / "last_checkpoint").write_text("")
    flags = ["train", "--config-file", SMALL, "--host", "mmdet", "--work-dir", str(moved)]
    options = ["--cfg-options", *QUICK, "train_cfg.max_iters=6", "train_cfg.val_interval=100"]
    assert main([*flags, "--resume", *options]) == 0
    resumed = torch.load(moved / "iter_6.pth", weights_only=True)
    before = torch.load(trained / "iter_4.pth", weights_only=True)
    assert resumed["meta"]["iter"] == 6
    history = resumed["message_hub"]["log_scalars"]["train/loss"]["values"]
    assert len(history) == 6, "the loss history goes on"
    assert torch.equal(history[:4], before["message_hub"]["log_scalars"]["train/loss"]["values"])


def test_evaluation_of_a_checkpoint(trained, capsys):
    flags = ["--config-file", SMALL, "--host", "mmdet", "--work-dir", str(trained / "eval")]
    checkpoint = ["--eval-only", "--checkpoint", str(trained / "iter_4.pth")]
    assert main(["train", *flags, *checkpoint, "--cfg-options", *QUICK]) == 0
    assert '"coco/segm_mAP"' in capsys.readouterr().out


def test_evaluation_goes_past_an_average_of_weights(trained, tmp_path):
    """EMAHook copies the model before its weights are loaded and evaluates the copy."""
    found = []
    for name, hooks in (("plain", "[]"), ("ema", "[dict(type='EMAHook')]")):
        file = tmp_path / f"{name}.py"
        file.write_text(
            f"_base_ = '{config_path(SMALL)}'\ncustom_hooks = [*_base_.custom_hooks, *{hooks}]\n"
        )
        flags = ["--config-file", str(file), "--host", "mmdet", "--work-dir", str(tmp_path / name)]
        flags += ["--eval-only", "--checkpoint", str(trained / "iter_4.pth")]
        prefix = f"test_evaluator.outfile_prefix={tmp_path / name}"
        assert main(["train", *flags, "--cfg-options", *QUICK, prefix]) == 0
        found.append(json.loads((tmp_path / f"{name}.segm.json").read_text()))
    assert len(found[0]) == len(found[1]) > 0
    assert max(pixels_apart(*found)) <= 3


def test_weights_of_the_config_are_evaluated_strictly(trained, tmp_path, capsys):
    flags = ["--config-file", SMALL, "--host", "mmdet", "--work-dir", str(tmp_path)]
    options = ["--cfg-options", *QUICK, f"load_from={trained / 'iter_4.pth'}"]
    assert main(["train", *flags, "--eval-only", *options, "model.core.fpn_channels=32"]) == 2
    assert "layers of other shapes" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_evaluate_as_one(trained, tmp_path):
    """Training in two processes; its evaluation, and that of its checkpoint in one and in two."""
    flags = ["train", "--config-file", SMALL, "--host", "mmdet"]
    options = ["--cfg-options", *QUICK, "train_cfg.max_iters=2"]
    found = []

    def run(work_dir, processes, *more):
        kept = [f"{x}_evaluator.outfile_prefix={tmp_path / work_dir}" for x in ("val", "test")]
        where = ["--work-dir", str(tmp_path / work_dir), "--num-gpus", processes]
        assert main([*flags, *where, *more, *options, *kept]) == 0
        found.append(json.loads((tmp_path / f"{work_dir}.segm.json").read_text()))

    run("trained", "2")
    checkpoint = ["--eval-only", "--checkpoint", str(tmp_path / "trained" / "iter_2.pth")]
    run("one", "1", *checkpoint)
    run("two", "2", *checkpoint)
    assert len(found[0]) > 100
    for other in found[1:]:
        assert len(other) == len(found[0])
        assert max(pixels_apart(found[0], other)) <= 3


def pixels_apart(results: list[dict], others: list[dict]) -> list[int]:
    """In how many pixels each result differs from the most alike that scores the same elsewhere.

    Rounding may move a pixel over the threshold, or swap results of one score.
    """
    found = []
    for result in results:
        mask = mask_utils.decode(result["segmentation"])
        alike = [
            mask_utils.decode(other["segmentation"])
            for other in others
            if (other["image_id"], other["category_id"])
            == (result["image_id"], result["category_id"])
            and abs(other["score"] - result["score"]) < 1e-5
        ]
        found.append(min([int((mask != other).sum()) for other in alike], default=mask.size))
    return found


def test_hosts_own_entry_points(trained, shapes_data):
    from mmdet.apis import DetInferencer, inference_detector, init_detector

    image = str(next((shapes_data / "shapes" / "val").glob("*.png")))
    config, checkpoint = str(config_path(SMALL)), str(trained / "iter_4.pth")
    model = init_detector(config, checkpoint, device="cpu")
    theirs = inference_detector(model, image).pred_instances
    ours = load(config, checkpoint, device="cpu").predict(image)
    assert torch.equal(theirs.bboxes, ours.boxes) and torch.equal(theirs.masks, ours.masks)
    inferencer = DetInferencer(config, checkpoint, device="cpu", show_progress=False)
    listed = inferencer(image, no_save_pred=False, out_dir="")["predictions"][0]
    assert len(listed["scores"]) == len(ours)


def test_atomic_backend_leaves_no_partial_file(tmp_path, monkeypatch):
    target = tmp_path / "iter_2.pth"
    backend = AtomicLocalBackend()
    backend.put(b"first", target)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        backend.put(b"second", target)
    assert target.read_bytes() == b"first"


def test_an_old_checkpoint_goes_when_the_next_is_written(tmp_path):
    old, new = tmp_path / "iter_2.pth", tmp_path / "iter_4.pth"
    AtomicLocalBackend().put(b"old", old)
    AtomicLocalBackend().remove(old)
    assert old.read_bytes() == b"old"
    AtomicLocalBackend().put(b"new", new)
    assert not old.exists() and new.read_bytes() == b"new"
    AtomicLocalBackend().remove(new)
    AtomicLocalBackend().put(b"again", new)
    assert new.read_bytes() == b"again"


def test_latest_checkpoint_is_that_of_the_last_training(tmp_path):
    for name in ("iter_300.pth", "iter_2000.pth"):
        (tmp_path / name).touch()
    assert last_checkpoint(tmp_path) is None, "no training has been cut off"
    tag = tmp_path / "last_checkpoint"
    tag.write_text("/somewhere/else/iter_300.pth")  # the folder was moved
    assert last_checkpoint(tmp_path).name == "iter_300.pth"
    tag.write_text("")  # the kill came here
    assert last_checkpoint(tmp_path).name == "iter_2000.pth"
    forget_checkpoints(tmp_path)
    assert last_checkpoint(tmp_path) is None


def test_resume_loads_no_batch_of_the_past_and_keeps_the_order():
    class Images(Dataset):
        def __init__(self):
            self.loaded = []

        def __len__(self):
            return 10

        def __getitem__(self, index):
            self.loaded.append(index)
            return index

    def train(past: int, count: int) -> tuple[list, int]:
        images = Images()
        loop = TrainLoop.__new__(TrainLoop)
        loop.dataloader = DataLoader(images, 2, sampler=InfiniteSampler(images, seed=3))
        loop.dataloader_iterator = iter(loop.dataloader)
        loop._iter, loop._max_iters, loop.stop_training = past, past, False
        loop._runner = SimpleNamespace(call_hook=lambda name: None, model=None)
        loop.run()
        batches = [next(loop.dataloader_iterator).tolist() for _ in range(count)]
        return batches, len(images.loaded)

    undisturbed, _ = train(0, 11)
    resumed, loaded = train(7, 4)
    assert resumed == undisturbed[7:] and loaded == 8


@pytest.mark.parametrize(
    ("remove", "options", "message"),
    [
        (["optimizer", "message_hub"], [], "holds no optimizer, message_hub.*--checkpoint"),
        ([], ["model.core.num_classes=5"], "7 classes.*5 classes"),
    ],
    ids=["weights", "classes"],
)
def test_resume_refuses_what_does_not_fit(trained, tmp_path, capsys, remove, options, message):
    content = torch.load(trained / "iter_4.pth", weights_only=True)
    torch.save({k: v for k, v in content.items() if k not in remove}, tmp_path / "other.pth")
    flags = ["--config-file", SMALL, "--host", "mmdet", "--work-dir", str(tmp_path / "work")]
    flags += ["--no-data-check", "--resume-from", str(tmp_path / "other.pth")]
    assert main(["train", *flags, "--cfg-options", *QUICK, *options]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_older_checkpoints_of_ones_own_are_resumed_on_demand(trained, tmp_path, capsys):
    """As MMEngine's plain runner writes them, with a class inside."""
    content = torch.load(trained / "iter_4.pth", weights_only=True)
    content["message_hub"]["log_scalars"]["train/loss"] = HistoryBuffer([1.0] * 4, [1] * 4)
    torch.save(content, tmp_path / "older.pth")
    flags = ["--config-file", SMALL, "--host", "mmdet", "--work-dir", str(tmp_path / "work")]
    flags += ["--no-data-check", "--resume-from", str(tmp_path / "older.pth")]
    options = ["--cfg-options", *QUICK, "train_cfg.max_iters=5"]
    assert main(["train", *flags, *options]) == 2
    assert "--trust-checkpoint" in capsys.readouterr().err
    assert main(["train", *flags, "--trust-checkpoint", *options]) == 0
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ


def test_resume_at_the_end_evaluates(trained, tmp_path, capsys, monkeypatch):
    """A kill during the last evaluation; the best checkpoint is that of this folder."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # known from MMEngine's issues
    shutil.copytree(trained, tmp_path / "work")
    flags = ["--config-file", SMALL, "--host", "mmdet", "--work-dir", str(tmp_path / "work")]
    options = ["--cfg-options", *QUICK, "train_cfg.max_iters=4"]
    assert main(["train", *flags, "--resume", *options]) == 0
    assert '"coco/segm_mAP"' in capsys.readouterr().out
    assert list(trained.glob("best_*.pth")), "not deleted by a training elsewhere"
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"


def test_evaluation_needs_weights(tmp_path, capsys):
    flags = ["--config-file", SMALL, "--host", "mmdet", "--work-dir", str(tmp_path)]
    assert main(["train", *flags, "--no-data-check", "--eval-only"]) == 2
    assert "nothing to evaluate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("train_dataloder.batch_size", "no option train_dataloder; did you mean train_dataloader"),
        ("model.bakbone.depth", "no option model.bakbone; did you mean model.backbone"),
        ("test_dataloader.dataset.pipeline.9.size", "is a list of 3"),
        ("test_dataloader.dataset.pipeline.last.size", "is a list of 3"),
    ],
)
def test_misspelt_keys_name_the_nearest(key, message):
    with pytest.raises(KeyError, match=message):
        load_config(config_path(SMALL), [(key, "1")], work_dir=None)


def test_keys_of_the_runner_are_known():
    cfg = load_config(config_path(SMALL), [("randomness.seed", "3")], work_dir=None)
    assert cfg.randomness.seed == 3


def test_arguments_of_another_type_are_known():
    options = [("type", "GN"), ("num_groups", "32")]
    changes = [(f"model.backbone.norm_cfg.{name}", value) for name, value in options]
    for each in (changes, changes[::-1]):
        cfg = load_config(config_path(SMALL), each, work_dir=None)
        assert cfg.model.backbone.norm_cfg == dict(type="GN", num_groups=32)
    with pytest.raises(KeyError, match="num_group; did you mean .*num_groups"):
        load_config(config_path(SMALL), [changes[0], (changes[1][0][:-1], "3")], work_dir=None)


def test_wrapped_data_sets_are_checked():
    cfg = load_config(config_path(SMALL), [], work_dir=None)
    plain = coco_sources(cfg, train=True)
    assert [source["num_classes"] for source in plain] == [7, 7] and plain[0]["use_masks"]
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type="RepeatDataset", times=2, dataset=inner)
    assert coco_sources(cfg, train=True) == plain
    cfg.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[inner, inner])
    cfg.val_dataloader = None
    assert coco_sources(cfg, train=True) == [plain[0], plain[0]]


def test_class_names_of_coco_are_known():
    model = load("yolact/yolact_r50_550_coco", None, host="mmdet", device="cpu")
    assert model.class_names[0] == "person" and len(model.class_names) == 80


def test_history_buffers_survive_the_round_trip():
    from metaheads.hosts.mmdet.checkpoints import _from_plain, _to_plain

    buffer = HistoryBuffer([1.0, 2.0, 4.0], [1, 1, 2], max_length=50)
    back = _from_plain(_to_plain(buffer))
    assert back.mean() == buffer.mean() and back.max_length == 50


def test_class_names_and_folders_are_known_before_training():
    cfg = load_config(config_path(SMALL), [], work_dir=None)
    source = coco_sources(cfg, train=True)[0]
    assert source["num_classes"] == len(source["class_names"]) == 7
    assert Path(source["annotation_file"]).is_file()
