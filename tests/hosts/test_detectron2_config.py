"""Our options in Detectron2's config, and our configs."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.config import get_cfg  # noqa: E402
from detectron2.data import DatasetCatalog, MetadataCatalog  # noqa: E402
from detectron2.modeling import build_model  # noqa: E402

from metaheads.architectures import Yolact  # noqa: E402
from metaheads.configs import config_root  # noqa: E402
from metaheads.hosts.detectron2 import add_metaheads_config, class_names, config  # noqa: E402
from metaheads.hosts.detectron2.train import coco_sources, load_config  # noqa: E402
from metaheads.options import option_defaults  # noqa: E402

CONFIGS = sorted(
    p for p in (config_root() / "detectron2").glob("*/*.yaml") if "_base_" not in p.parts
)


def fresh():
    cfg = get_cfg()
    add_metaheads_config(cfg)
    return cfg


def test_node_holds_the_constructor_defaults():
    node = fresh().MODEL.YOLACT
    assert {n.lower(): v for n, v in node.items()} == option_defaults(Yolact)


def test_detectron2_defaults_stay_as_they_are_and_a_second_call_changes_nothing():
    cfg = fresh()
    before = cfg.dump()
    cfg.MODEL.YOLACT.NUM_CLASSES = 5
    add_metaheads_config(cfg)
    assert cfg.MODEL.YOLACT.NUM_CLASSES == 5
    assert "YOLACT" not in get_cfg().MODEL
    cfg.MODEL.YOLACT.NUM_CLASSES = 80
    assert cfg.dump() == before


def test_values_are_converted(tmp_path: Path):
    cfg = fresh()
    file = tmp_path / "config.yaml"
    file.write_text(
        "VERSION: 2\nMODEL:\n  YOLACT:\n    MASK_WEIGHT: 6\n"
        "    ANCHOR_SCALES: [[1], [2], [3], [4], [5]]\n"
        "INPUT:\n  TEST_SIZE: [20, 30]\n  TRANSFORM:\n    SIZE: [20, 30]\n"
    )
    cfg.merge_from_file(str(file))
    assert isinstance(cfg.MODEL.YOLACT.MASK_WEIGHT, float)
    assert cfg.MODEL.YOLACT.ANCHOR_SCALES == ((1.0,), (2.0,), (3.0,), (4.0,), (5.0,))
    assert cfg.INPUT.TRANSFORM.SIZE == (20, 30)
    cfg.merge_from_list(["MODEL.YOLACT.MASK_WEIGHT", "7", "INPUT.TRANSFORM.SIZE", "None"])
    assert cfg.MODEL.YOLACT.MASK_WEIGHT == 7.0 and cfg.INPUT.TRANSFORM.SIZE is None
    copy = pickle.loads(pickle.dumps(cfg.clone()))
    assert copy == cfg and isinstance(copy, config.MetaheadsConfig)


@pytest.mark.parametrize(
    ("key", "value", "error", "names"),
    [
        ("MODEL.YOLACT.NUM_CLASES", "3", KeyError, "MODEL.YOLACT.NUM_CLASSES"),
        ("MODEL.YOLCT.NUM_CLASSES", "3", KeyError, "MODEL.YOLACT.NUM_CLASSES"),
        ("SOLVER.BASELR", "0.1", KeyError, "SOLVER.BASE_LR"),
        ("INPUT.TRANSFORM.FLIPP", "0.1", KeyError, "INPUT.TRANSFORM.FLIP"),
        ("MODEL.YOLACT.NUM_CLASSES", "many", TypeError, "MODEL.YOLACT.NUM_CLASSES"),
        ("MODEL.YOLACT.BOX_WEIGHT", "None", TypeError, "MODEL.YOLACT.BOX_WEIGHT"),
        ("MODEL.YOLACT.ANCHOR_SCALES", "[24, 48]", TypeError, "MODEL.YOLACT.ANCHOR_SCALES"),
    ],
)
@pytest.mark.parametrize("way", ["list", "file"])
def test_wrong_options_are_refused_by_name(tmp_path: Path, key, value, error, names, way):
    cfg = fresh()
    with pytest.raises(error, match=names):
        if way == "list":
            cfg.merge_from_list([key, value])
        else:
            parts = key.split(".")
            lines = [f"{'  ' * depth}{part}:" for depth, part in enumerate(parts)]
            file = tmp_path / "config.yaml"
            file.write_text("VERSION: 2\n" + "\n".join(lines) + f" '{value}'\n")
            cfg.merge_from_file(str(file))


def test_a_value_assigned_directly_is_checked_when_the_model_is_built():
    cfg = fresh()
    cfg.MODEL.YOLACT.NUM_CLASSES = 2.5
    with pytest.raises(TypeError, match="MODEL.YOLACT.NUM_CLASSES"):
        config.options_of(cfg, Yolact)


def test_data_sets_are_registered_from_the_config(tiny_coco: Path, tmp_path: Path):
    def registered(folder: Path):
        cfg = fresh()
        entry = ("config_test", f"{folder}/instances.json", f"{folder}/images")
        cfg.merge_from_list(["DATASETS.REGISTER", (entry,), "DATASETS.TEST", ("config_test",)])
        return cfg

    registered(tmp_path)  # a folder without data: nothing is read
    cfg = registered(tiny_coco)
    assert MetadataCatalog.get("config_test").image_root == f"{tiny_coco}/images"
    assert class_names(cfg) == ["square", "disc"]
    source = coco_sources(cfg, train=False)[0]
    assert (source["annotation_file"], source["num_classes"]) == (tiny_coco / "instances.json", 80)
    assert len(DatasetCatalog.get("config_test")) == 4
    with pytest.raises(ValueError, match="coco_2017_train"):
        cfg.merge_from_list(["DATASETS.REGISTER", (("coco_2017_train", "a.json", "b"),)])
    cfg.DATASETS.TEST = ("config_tset",)
    with pytest.raises(KeyError, match="config_test"):
        coco_sources(cfg, train=False)


def test_data_paths_begin_at_the_data_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METAHEADS_DATA", "/somewhere")
    load_config(config_root() / "detectron2/yolact/yolact_r18_256_nuclei.yaml")
    assert MetadataCatalog.get("nuclei_train").json_file == "/somewhere/nuclei/train.json"
    monkeypatch.delenv("METAHEADS_DATA")
    load_config(config_root() / "detectron2/yolact/yolact_r18_256_nuclei.yaml")
    assert MetadataCatalog.get("nuclei_train").json_file == "data/nuclei/train.json"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds(path: Path):
    cfg = load_config(path, [("MODEL.DEVICE", "meta")])
    cfg.MODEL.WEIGHTS = ""
    with torch.device("meta"):
        model = build_model(cfg)
    assert type(model).__name__ == cfg.MODEL.META_ARCHITECTURE
    if cfg.MODEL.META_ARCHITECTURE == "Yolact":
        assert cfg.INPUT.TEST_SIZE == cfg.INPUT.TRANSFORM.SIZE == (cfg.MODEL.YOLACT.MAX_SIZE,) * 2
        strides = [model.backbone.output_shape()[name].stride for name in model.features]
        assert strides in ([8, 16, 32], [4, 8, 16, 32], [4, 8, 16])


def test_importing_needs_no_mmdetection():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['mmdet', 'mmcv', 'mmengine']));"
        "import metaheads.hosts.detectron2, metaheads.hosts.detectron2.inference"
    )
    path = str(Path(config.__file__).parents[3])
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
