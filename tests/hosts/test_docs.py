"""The commands of docs/YOUR_OWN_DATA.md, in their order, in both hosts."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

pytest.importorskip("mmdet", reason="MMDetection is not installed")
pytest.importorskip("detectron2", reason="Detectron2 is not installed")
pytest.importorskip("onnxruntime", reason="ONNX is an extra: pip install metaheads[export]")

from metaheads.cli import main  # noqa: E402
from metaheads.configs import config_root  # noqa: E402
from metaheads.datasets.shapes import make_shapes  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "YOUR_OWN_DATA.md"
NAMES = {"mmdet": "mine.py", "detectron2": "mine.yaml"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


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
@pytest.mark.parametrize("host", list(NAMES))
def test_commands(host, tmp_path, monkeypatch, capsys):
    make_shapes(tmp_path / "shapes", num_train=8, num_val=3, num_clips=0, seed=1)
    for split in ("train", "val"):
        write_labelme(tmp_path / "pictures" / split, tmp_path / "shapes", split)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAHEADS_DATA", str(tmp_path))
    write_config(host, tmp_path)
    commands = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(commands) == 8
    for line in commands:
        words = shlex.split(line.replace("mine.py", NAMES[host]))
        if "work/last.pth" in words:
            newest = "iter_2.pth" if host == "mmdet" else "model_final.pth"
            words[words.index("work/last.pth")] = f"work/{newest}"
        assert main(words[1:]) == 0, line
    for made in ("samples.png", "found/results.json", "speed/benchmark.png", "mine.onnx"):
        assert (tmp_path / made).is_file()


def write_config(host: str, folder: Path) -> None:
    """The page's config on the small model, and for two iterations."""
    (text,) = blocks("python" if host == "mmdet" else "yaml")
    suffix = Path(NAMES[host]).suffix
    base = config_root() / host / f"yolact/yolact_r18_128_shapes{suffix}"
    text = text.replace("{yolact_r50_550_coco}", str(base))
    for old, new in (("8000", "2"), ("1000", "2"), ("5000, 7000", "1, 2"), ("end=501", "end=2")):
        assert old in text or host == "detectron2"
        text = text.replace(old, new)
    (folder / NAMES[host]).write_text(text)
