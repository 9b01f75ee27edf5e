"""Every command of the documentation, in both hosts."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.evaluation.test_widerface import write_mat
from tests.hosts.installed import each_host
from tests.test_media import write_video
from tests.weights.test_retinaface import in_their_names, mobilenet
from tests.weights.test_yolact import MODELS, authors_state

from metaheads import load
from metaheads.cli import main
from metaheads.configs import config_root
from metaheads.datasets.shapes import make_shapes

DOCS = Path(__file__).parents[2] / "docs"
OWN_DATA = DOCS / "YOUR_OWN_DATA.md"
OWN_PANOPTIC_DATA = DOCS / "OWN_PANOPTIC_DATA.md"
TOOLS = sorted(path.stem for path in (DOCS / "tools").glob("*.md"))
NAMES = {"mmdet": "mine.py", "detectron2": "mine.yaml"}
SHORT = {
    "mmdet": ["train_cfg.max_iters=2", "train_cfg.val_interval=2"],
    "detectron2": ["SOLVER.MAX_ITER=2", "TEST.EVAL_PERIOD=2"],
}
FEW = {  # images at once
    "mmdet": ["train_dataloader.batch_size=2"],
    "detectron2": ["SOLVER.IMS_PER_BATCH=2"],
}
MADE = {
    "benchmark": ["speed/benchmark.png"],
    "check_dataset": ["samples.jpg", "report.json"],
    "convert_dataset": ["labelme.json", "voc.json", "cells.json", "train.json", "panoptic.json"],
    "demo": [
        "found/clip.mp4",
        "found/results.json",
        "trees/results.json",
        "segments/panoptic/clip/000003.png",
        "segments.png",
    ],
    "export": ["demo.onnx", "demo.pt2"],
    "import_weights": ["yolact.card.json", "demo_detectron2.card.json"],
    "train": ["work/results.json"],
}

pytest.importorskip("onnxruntime", reason="ONNX is an extra: pip install metaheads[export]")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page: Path) -> list[str]:
    return [line for block in blocks(page, "bash") for line in block.splitlines()]


def test_every_page_is_known():
    assert {"README", *MADE} == set(TOOLS)


@pytest.mark.slow
@each_host
@pytest.mark.parametrize("page", sorted(MADE))
def test_tools(host, page, tmp_path, monkeypatch, capsys):
    lines = commands(DOCS / "tools" / f"{page}.md")
    assert lines
    write_world(host, tmp_path, page)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAHEADS_DATA", str(tmp_path / "data"))
    for line in lines:
        words = shlex.split(for_host(line, host))
        if words[1] == "train":
            words += SHORT[host]
        assert words[0] == "metaheads" and main(words[1:]) == 0, line
    for block in blocks(DOCS / "tools" / f"{page}.md", "python"):
        exec(for_host(block, host), {})
    for made in MADE[page]:
        assert (tmp_path / made).is_file(), made


@pytest.mark.slow
@each_host
def test_readme(host, tmp_path, monkeypatch, capsys):
    known = ("metaheads train", "metaheads import-weights", "metaheads demo")
    lines = [line for line in commands(DOCS.parent / "README.md") if line.startswith(known)]
    assert len(lines) == 3
    write_world(host, tmp_path, "import_weights")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAHEADS_DATA", str(tmp_path / "data"))
    for line in lines:
        line = line.replace("--host detectron2", f"--host {host}").replace(
            " SOLVER.BASE_LR 0.002", ""
        )
        words = shlex.split(for_host(line, host))
        assert main(words[1:] + (SHORT[host] if words[1] == "train" else [])) == 0, line
    assert (tmp_path / "found/results.json").is_file()


def for_host(text: str, host: str) -> str:
    """The text of a page, written for MMDetection, for another host."""
    for before, behind in (("--host ", ""), ("", ":"), ('host="', '"')):
        text = text.replace(f"{before}mmdet{behind}", f"{before}{host}{behind}")
    return text


def write_world(host: str, folder: Path, page: str) -> None:
    """What the pages take for granted: `make demo` was run, and there are some pictures."""
    make_shapes(
        folder / "data/shapes", num_train=8, num_val=3, num_clips=0, num_faces=(0, 0), seed=1
    )
    shutil.copytree(folder / "data/shapes/val", folder / "pictures")
    write_video(folder / "clip.mp4", 4)
    model = load("yolact/yolact_r18_128_shapes", host=host, device="cpu")
    bias = model.module.core.head.conf_layer.bias
    torch.nn.init.uniform_(bias, -3.0, 3.0)  # so that something is found
    torch.save(model.checkpoint(), folder / "demo.pth")
    if page == "train":
        corner = load("cornernet/cornernet_small_160_shapes", host=host, device="cpu")
        torch.save(corner.checkpoint(), folder / "corner.pth")
    if page == "demo":
        panoptic = load("upsnet/upsnet_r18_160_shapes", host=host, device="cpu")
        torch.save(panoptic.checkpoint(), folder / "panoptic.pth")
    if page == "import_weights":
        torch.save(authors_state(MODELS["R-50"]()), folder / "yolact_resnet50_54_800000.pth")
    if page == "convert_dataset":
        write_other_formats(folder)


def write_other_formats(folder: Path) -> None:
    write_labelme(folder / "labelme", folder / "data/shapes", "train")
    for name in ("VOC2012/Annotations", "VOC2012/JPEGImages", "cells/images", "cells/labels"):
        (folder / name).mkdir(parents=True)
    for name in ("VOC2012/JPEGImages/a.png", "cells/images/a.png"):
        shutil.copy(folder / "pictures/000001.png", folder / name)
    (folder / "cells/labels/a.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    box = "<xmin>11</xmin><ymin>21</ymin><xmax>30</xmax><ymax>50</ymax>"
    thing = f"<object><name>cat</name><bndbox>{box}</bndbox></object>"
    text = f"<annotation><filename>a.png</filename>{thing}</annotation>"
    (folder / "VOC2012/Annotations/a.xml").write_text(text)
    content = json.loads((folder / "data/shapes/annotations/instances_val.json").read_text())
    (folder / "instances.json").write_text(json.dumps(content))
    sky = {"id": 100, "name": "sky", "supercategory": "stuff"}
    stuff = {"images": content["images"], "categories": [sky], "annotations": []}
    (folder / "stuff.json").write_text(json.dumps(stuff))
    write_faces(folder / "widerface/train", "label.txt", f"5 6 20 30 {'1 1 0 ' * 5}0.5")


def write_faces(folder: Path, file: str, face: str) -> None:
    """A face in a picture, as the text files of face data sets describe it."""
    path = folder / "images/0--Parade/a.png"
    path.parent.mkdir(parents=True)
    noise = np.random.default_rng(len(str(folder))).integers(0, 255, (60, 80, 3), np.uint8)
    Image.fromarray(noise).save(path)
    name = "0--Parade/a.png"
    lines = [f"# {name}", face] if file == "label.txt" else [name, "1", face]
    (folder / file).write_text("\n".join(lines) + "\n")


def write_labelme(folder: Path, data: Path, split: str) -> None:
    """Boxes of the balls and trees of the embedded data set, as labelme's rectangles."""
    folder.mkdir(parents=True)
    content = json.loads((data / f"annotations/instances_{split}.json").read_text())
    names = {each["id"]: each["name"] for each in content["categories"]}
    for image in content["images"]:
        shutil.copy(data / split / image["file_name"], folder)
        shapes = []
        for each in content["annotations"]:
            name, (x, y, w, h) = names[each["category_id"]], each["bbox"]
            if each["image_id"] == image["id"] and name in ("ball", "tree"):
                points = [[x, y], [x + w, y + h]]
                shapes.append({"label": name, "points": points, "shape_type": "rectangle"})
        text = json.dumps({"imagePath": image["file_name"], "shapes": shapes})
        (folder / image["file_name"]).with_suffix(".json").write_text(text)


@pytest.mark.slow
@each_host
def test_your_own_data(host, tmp_path, monkeypatch, capsys):
    make_shapes(tmp_path / "shapes", num_train=8, num_val=3, num_clips=0, num_faces=(0, 0), seed=1)
    for split in ("train", "val"):
        write_labelme(tmp_path / "pictures" / split, tmp_path / "shapes", split)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAHEADS_DATA", str(tmp_path))
    write_config(host, tmp_path)
    lines = commands(OWN_DATA)
    assert len(lines) == 8
    for line in lines:
        words = shlex.split(line.replace("mine.py", NAMES[host]))
        if "work/last.pth" in words:
            newest = "iter_2.pth" if host == "mmdet" else "model_final.pth"
            words[words.index("work/last.pth")] = f"work/{newest}"
        assert main(words[1:]) == 0, line
    for made in ("samples.png", "found/results.json", "speed/benchmark.png", "mine.onnx"):
        assert (tmp_path / made).is_file()


def write_config(host: str, folder: Path) -> None:
    """The page's config on the small model, and for two iterations."""
    (text,) = blocks(OWN_DATA, "python" if host == "mmdet" else "yaml")
    suffix = Path(NAMES[host]).suffix
    base = config_root() / host / f"yolact/yolact_r18_128_shapes{suffix}"
    text = text.replace("{yolact_r50_550_coco}", str(base))
    for old, new in (("8000", "2"), ("1000", "2"), ("5000, 7000", "1, 2"), ("end=501", "end=2")):
        assert old in text or host == "detectron2"
        text = text.replace(old, new)
    (folder / NAMES[host]).write_text(text)


@pytest.mark.slow
@each_host
def test_own_panoptic_data(host, tmp_path, monkeypatch, capsys):
    """The page's check and config, on small images of the embedded data and for two steps."""
    make_shapes(tmp_path / "shapes", num_train=4, num_val=1, num_clips=0, num_faces=(0, 0), seed=1)
    (tmp_path / "panoptic").mkdir()
    annotations = tmp_path / "shapes/annotations"
    (tmp_path / "shapes/train").rename(tmp_path / "panoptic/images")
    (annotations / "panoptic_train").rename(tmp_path / "panoptic/train")
    (annotations / "panoptic_train.json").rename(tmp_path / "panoptic/train.json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAHEADS_DATA", str(tmp_path))
    (line,) = commands(OWN_PANOPTIC_DATA)
    assert main(shlex.split(line)[1:]) == 0
    (text,) = blocks(OWN_PANOPTIC_DATA, "python" if host == "mmdet" else "yaml")
    changes = [("classes=2", "classes=7"), ("classes=3", "classes=6"), ("512, 512", "64, 64")]
    changes += [("CLASSES: 2", "CLASSES: 7"), ("CLASSES: 4", "CLASSES: 7")]
    for old, new in changes:
        text = text.replace(old, new)
    if host == "detectron2":
        from detectron2 import model_zoo

        name = "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml"
        text = text.replace("{panoptic_fpn_R_50_1x}", model_zoo.get_config_file(name))
        options = ["MODEL.WEIGHTS=", "SOLVER.MAX_ITER=2", "SOLVER.IMS_PER_BATCH=2"]
        options += ["DATALOADER.NUM_WORKERS=0", "MODEL.RESNETS.NORM=BN"]
    else:
        options = ["model.backbone.init_cfg=None", "train_cfg.max_epochs=1"]
        options += ["train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False"]
    (tmp_path / NAMES[host]).write_text(text)
    words = ["check-dataset", "--config-file", NAMES[host], "--overlay", "samples.png"]
    assert main(words) == 0 and (tmp_path / "samples.png").is_file()
    words = ["train", "--config-file", NAMES[host], "--work-dir", "work", "--cfg-options"]
    assert main([*words, *options]) == 0
    assert "(of 13)" in capsys.readouterr().out
    assert [*(tmp_path / "work").glob("*.pth")]


@pytest.mark.slow
@each_host
def test_faces(host, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAHEADS_DATA", str(tmp_path))
    write_face_world(tmp_path)
    short = {
        "train": [*SHORT[host], *FEW[host]],
        "make-shapes": ["--num-faces", "8", "2"],
    }
    lines = commands(DOCS / "FACES.md")
    assert len(lines) == 11
    for line in lines:
        words = shlex.split(for_host(line, host))
        more = [] if "--eval-only" in words else short.get(words[1], [])
        assert main(words[1:] + more) == 0, line
    printed = capsys.readouterr().out
    assert printed.count("no faults") == 2
    assert "points/NME" in printed and "points/vertices_NME" in printed
    assert "widerface/hard" in printed
    assert len([*(tmp_path / "found/aligned").glob("a_*.png")]) > 1
    assert (tmp_path / "found/a.png").is_file()


def write_face_world(folder: Path) -> None:
    """WIDER FACE of a picture or two, and what biubug6's files would hold before any training."""
    face = f"5 6 20 30 {'9 9 0 ' * 5}0.5"
    write_faces(folder / "widerface/WIDER_train", "label.txt", face)
    name = "wider_face_val_bbx_gt.txt"
    write_faces(folder / "widerface/WIDER_val", name, "5 6 20 30 0 0 0 0 0 0")
    for made in ("annotations", "ground_truth"):
        (folder / "widerface" / made).mkdir()
    write_mat(folder / "widerface/ground_truth")
    shutil.copytree(folder / "widerface/WIDER_val/images/0--Parade", folder / "pictures")
    (folder / "1mb").mkdir()
    for place, slope in ((folder, 0.1), (folder / "1mb", 0.0)):
        network = mobilenet(slope)
        for head in network.core.stages[0].heads["scores"]:
            torch.nn.init.constant_(head.bias[1::2], 2.0)  # so that something is found
        torch.save(in_their_names(network), place / "mobilenet0.25_Final.pth")


def test_links_of_the_docs_lead_somewhere():
    seen = []
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" in link:
                continue
            seen.append(page.parent / link)
            assert seen[-1].exists(), f"{page.name}: {link}"
    pictures = [path for path in seen if path.suffix in (".png", ".jpg")]
    assert len(pictures) >= 3
    for path in pictures:
        with Image.open(path) as image:
            assert np.asarray(image).std() > 10, path
