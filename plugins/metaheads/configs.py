"""Finding a config by name or path, the host that it is for, and the data that it names."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from pathlib import Path

HOSTS = ("mmdet", "detectron2")
_SUFFIX = {"mmdet": ".py", "detectron2": ".yaml"}
_NAMES = {"mmdet": "MMDetection", "detectron2": "Detectron2"}
_GUIDES = {
    "mmdet": "https://mmdetection.readthedocs.io/en/latest/get_started.html",
    "detectron2": "https://detectron2.readthedocs.io/en/latest/tutorials/install.html",
}


def config_root() -> Path:
    """The folder with the configs of both hosts: inside the installed package or beside the
    sources."""
    package = Path(__file__).resolve().parent
    for root in (package / "configs", package.parents[1] / "configs"):
        if root.is_dir():
            return root
    raise FileNotFoundError(
        f"no folder `configs` in {package} or {package.parents[1]}: reinstall metaheads"
    )


def data_path(path: str) -> str:
    """An absolute path as it is, another one below $METAHEADS_DATA, or below `data` without it."""
    return str(Path(os.environ.get("METAHEADS_DATA", "data")) / path)


def installed_hosts() -> list[str]:
    return [host for host in HOSTS if importlib.util.find_spec(host) is not None]


def check_installed(host: str) -> None:
    """Refuses a host that is not installed.

    Raises:
        ValueError: says how to install it.
    """
    if host not in installed_hosts():
        raise ValueError(
            f"{_NAMES[host]} is not installed in this environment: see `metaheads doctor` and "
            f"{_GUIDES[host]}"
        )


def find_config(name: str, host: str | None = None) -> tuple[Path, str]:
    """A config and its host, which is installed.

    Args:
        name: a path, or the name of one of our configs ("yolact/yolact_r50_550_coco").
        host: "mmdet" or "detectron2"; needed for a name where both hosts are installed.

    Raises:
        FileNotFoundError: neither a file nor one of our configs; names the nearest.
        ValueError: the host cannot be told, or is not installed.
    """
    path = Path(name)
    if path.is_file():
        host = host or _host_of(path)
        check_installed(host)
        return path, host
    hosts = [host] if host else installed_hosts() or [*HOSTS]
    for each in hosts:
        check_installed(each)
    named = {h: config_root() / h / f"{path.with_suffix('')}{_SUFFIX[h]}" for h in hosts}
    if path.suffix in _SUFFIX.values():
        named = {h: found for h, found in named.items() if found.suffix == path.suffix}
    found = {h: config for h, config in named.items() if config.is_file()}
    if not found:
        known = list_configs(hosts)
        nearest = difflib.get_close_matches(str(path.with_suffix("")), known, n=3)
        hint = f"nearest: {', '.join(nearest)}" if nearest else f"known: {', '.join(known)}"
        raise FileNotFoundError(
            f"no config {name!r}, neither a file nor one of metaheads' own ({hint})"
        )
    if len(found) > 1:
        raise ValueError(
            f"config {name!r} exists for {' and '.join(found)}, and both are installed: "
            f"say which with --host {'|'.join(found)}"
        )
    found_host, config = next(iter(found.items()))
    return config, found_host


def list_configs(hosts: list[str]) -> list[str]:
    """The names of our configs for these hosts, without the shared bases."""
    names = {
        str(path.relative_to(config_root() / host).with_suffix(""))
        for host in hosts
        for path in (config_root() / host).glob(f"*/*{_SUFFIX[host]}")
        if path.parent.name != "_base_"
    }
    return sorted(names)


def _host_of(path: Path) -> str:
    if path.suffix in (".yaml", ".yml"):
        return "detectron2"
    if path.suffix == ".py":
        text = path.read_text(encoding="utf-8")
        lazy = re.search(r"^\s*(?:from|import) detectron2\b", text, re.MULTILINE)
        return "detectron2" if lazy else "mmdet"
    raise ValueError(
        f"{path}: a config ends in .yaml (Detectron2) or .py; say which host with --host"
    )
