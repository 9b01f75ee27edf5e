"""Finding configs and their hosts."""

import pytest

from metaheads import configs
from metaheads.configs import find_config


@pytest.fixture
def hosts(monkeypatch):
    def install(*names: str) -> None:
        monkeypatch.setattr(configs, "installed_hosts", lambda: list(names))

    return install


def test_the_only_installed_host_is_taken(hosts):
    hosts("detectron2")
    path, host = find_config("yolact/yolact_r50_550_coco")
    assert host == "detectron2" and path.name == "yolact_r50_550_coco.yaml"


def test_of_two_hosts_one_must_be_named(hosts):
    hosts("mmdet", "detectron2")
    with pytest.raises(ValueError, match=r"--host mmdet\|detectron2"):
        find_config("yolact/yolact_r50_550_coco")
    assert find_config("yolact/yolact_r50_550_coco", "mmdet")[0].suffix == ".py"
    assert find_config("yolact/yolact_r50_550_coco.yaml")[1] == "detectron2"


@pytest.mark.parametrize("installed", [(), ("mmdet",)], ids=["none", "another"])
def test_a_host_that_is_not_installed_is_refused(hosts, tmp_path, installed):
    hosts(*installed)
    with pytest.raises(ValueError, match="Detectron2 is not installed.*metaheads doctor"):
        find_config("yolact/yolact_r50_550_coco", "detectron2")
    mine = tmp_path / "mine.yaml"
    mine.touch()
    with pytest.raises(ValueError, match="Detectron2 is not installed"):
        find_config(str(mine))


def test_no_host_at_all_is_said(hosts):
    hosts()
    with pytest.raises(ValueError, match="MMDetection is not installed"):
        find_config("yolact/yolact_r50_550_coco")


def test_unknown_names_get_the_nearest(hosts):
    hosts("mmdet")
    with pytest.raises(FileNotFoundError, match="nearest: yolact/yolact_r50_550_coco"):
        find_config("yolact/yolact_r50_550_cocoo")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("model = dict(type='Yolact')", "mmdet"),
        ("from detectron2.model_zoo import get_config", "detectron2"),
        ("import torch\nimport detectron2.data as data", "detectron2"),
        ("# like detectron2's, import detectron2 is not needed", "mmdet"),
    ],
)
def test_the_host_of_a_python_config_is_read_from_its_text(hosts, tmp_path, text, host):
    hosts("mmdet", "detectron2")
    file = tmp_path / "config.py"
    file.write_text(text)
    assert find_config(str(file))[1] == host
