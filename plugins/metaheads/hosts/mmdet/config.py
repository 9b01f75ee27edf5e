"""Reading a config of MMDetection with a user's options, and the data that it names."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmengine import registry as registries
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.registry import Registry, init_default_scope
from mmengine.runner import Runner

from metaheads.augment import check_scales
from metaheads.datasets.panoptic import find_labels, read_json
from metaheads.options import check_parameter

VIEWS = ("metaheads.TestView", "metaheads.FixedResize")  # what shows an image to the network
_KEYPOINTS = ("metaheads.CocoKeypoints",)
_PANOPTIC = "metaheads.CocoPanoptic"
_RUNNER_OPTIONS = tuple(inspect.signature(Runner.__init__).parameters)[1:]


def load_config(path: Path, overrides: list[tuple[str, str]], *, work_dir: str | None) -> Config:
    """A config with the user's options merged in; work_dir defaults to work_dirs/<name>.

    Raises:
        KeyError: an option that nothing takes; names the nearest.
        TypeError: a text where a number or a switch stands.
        ValueError: no config of MMDetection.
    """
    cfg = Config.fromfile(path)
    if "model" not in cfg:
        raise ValueError(f"{path} is no config of MMDetection: it has no model")
    values = {key: DictAction._parse_iterable(value) for key, value in overrides}
    init_default_scope(cfg.get("default_scope", "mmdet"))
    merged = copy.deepcopy(cfg)
    for key, value in values.items():
        _check_key(cfg, key, value, path)
    merged.merge_from_dict(values)
    for key in values:
        _check_argument(cfg, merged, key)
    cfg = merged
    cfg.work_dir = work_dir or cfg.get("work_dir") or str(Path("work_dirs") / Path(path).stem)
    return cfg


def _check_key(cfg: Config, key: str, value: Any, path: Path) -> None:
    """Every part of a dotted key but the last must exist; a top-level one may also be an argument
    of MMEngine's Runner. A text does not stand where a number was."""
    section: Any = cfg
    parts = key.split(".")
    for depth, part in enumerate(parts):
        where = ".".join(parts[: depth + 1])
        if isinstance(section, list | tuple):
            if not part.isdecimal() or int(part) >= len(section):
                raise KeyError(
                    f"{path.name}: {'.'.join(parts[:depth])} is a list of {len(section)}: "
                    f"{where} needs a number from 0 to {len(section) - 1}"
                )
            section = section[int(part)]
            continue
        known = [*section, *(_RUNNER_OPTIONS if depth == 0 else ())]
        is_option = depth == len(parts) - 1 and depth > 0
        if part not in known and not is_option:
            nearest = difflib.get_close_matches(part, known, n=1, cutoff=0.4)
            hint = f"; did you mean {'.'.join([*parts[:depth], nearest[0]])}?" if nearest else ""
            raise KeyError(f"{path.name} has no option {where}{hint}")
        section = section.get(part, {})
    if isinstance(section, int | float) and isinstance(value, str):
        raise TypeError(
            f"option {key}: expected {type(section).__name__} as in {section}, got {value!r}"
        )


def _check_argument(cfg: Config, merged: Config, key: str) -> None:
    """A new last part of a dotted key is an argument of what its section's `type` names now."""
    *parts, name = key.split(".")
    before, section = (_section(each, parts) for each in (cfg, merged))
    if isinstance(section, dict) and name not in before and "type" in section:
        builder = _find_class(section["type"])
        if builder is not None:
            check_parameter(builder, name, ".".join([*parts, ""]))


def _section(cfg: Any, parts: list[str]) -> Any:
    for part in parts:
        cfg = cfg[int(part)] if isinstance(cfg, list | tuple) else cfg.get(part, {})
    return cfg


def _find_class(name: Any) -> Any:
    """What a `type` in a config means; None if no registry knows it."""
    if not isinstance(name, str):
        return name
    for registry in vars(registries).values():
        if isinstance(registry, Registry):
            with registry.switch_scope_and_registry(None) as scoped:
                found = scoped.get(name)
            if found is not None:
                return found
    return None


def apply_views(cfg: Config, *, flip: bool, scales: Sequence[float]) -> None:
    """Tests look at the images' mirrors, and at several sizes, in place.

    Args:
        scales: none leaves it as it is.

    Raises:
        ValueError: tests of this config do not show the network an image as our models need it.
    """
    if flip:
        if not cfg.model.type.startswith("metaheads."):
            raise ValueError(
                f"--flip is for our models; {cfg.model.type} has MMDetection's own TTA"
            )
        cfg.model.test_cfg = dict(cfg.model.get("test_cfg") or {}, flip=True)
    if scales:
        dataset = cfg.test_dataloader.dataset
        dataset.pipeline = at_scales(dataset.pipeline, scales)
        cfg.model = dict(
            type="metaheads.TestTimeAugmentation", module=cfg.model, num_views=len(scales)
        )


def at_scales(pipeline: Sequence[dict], scales: Sequence[float]) -> list[dict]:
    """A test pipeline that shows each image at several sizes.

    Raises:
        ValueError: a scale that is not positive, or no step that could show them.
    """
    places = [place for place, step in enumerate(pipeline) if step["type"] in VIEWS]
    if not places:
        raise ValueError(
            f"several scales need one of {', '.join(VIEWS)} in the pipeline of test_dataloader"
        )
    views = [dict(pipeline[places[0]], scale=scale) for scale in check_scales(scales)]
    behind = [[step] for step in pipeline[places[0] + 1 :]]
    augment = dict(type="TestTimeAug", transforms=[views, *behind])
    return [*pipeline[: places[0]], augment]


def coco_sources(cfg: Config, *, train: bool) -> list[dict[str, Any]]:
    """The COCO data sets of a config, as arguments of `check_coco` or `check_panoptic_data`."""
    loaders = [cfg.train_dataloader, cfg.val_dataloader] if train else [cfg.test_dataloader]
    datasets = [dataset for loader in loaders if loader for dataset in _unwrap(loader.dataset)]
    instances = ("CocoDataset", "mmdet.CocoDataset", CocoDataset, *_KEYPOINTS)
    return [
        _panoptic_source(cfg, dataset)
        if dataset.type == _PANOPTIC
        else _instances_source(cfg, dataset)
        for dataset in datasets
        if dataset.type in (*instances, _PANOPTIC)
    ]


def _instances_source(cfg: Config, dataset: ConfigDict) -> dict[str, Any]:
    return {
        "annotation_file": Path(dataset.get("data_root") or "") / dataset.ann_file,
        "image_folder": Path(dataset.get("data_root") or "") / dataset.data_prefix.img,
        "class_names": class_names(dataset),
        "num_classes": _num_classes(cfg.model),
        "use_masks": _uses_masks(cfg),
        "num_keypoints": dataset.get("num_keypoints", 0),
        "mesh_file": _mesh_file(cfg),
    }


def _panoptic_source(cfg: Config, dataset: ConfigDict) -> dict[str, Any]:
    root, metainfo = Path(dataset.get("data_root") or ""), dataset.get("metainfo") or {}
    head, core = cfg.model.get("semantic_head") or {}, cfg.model.get("core") or {}
    return {
        "annotation_file": root / dataset.ann_file,
        "png_folder": root / dataset.data_prefix.seg,
        "image_folder": root / dataset.data_prefix.img,
        "thing_classes": metainfo.get("thing_classes"),
        "stuff_classes": metainfo.get("stuff_classes"),
        "num_things": head.get("num_things_classes", core.get("num_things")),
        "num_stuff": head.get("num_stuff_classes", core.get("num_stuff")),
        "num_classes": core.get("num_classes"),
    }


def class_names(dataset: ConfigDict) -> tuple[str, ...]:
    """The classes of a data set's config, by default those of its kind; of panoptic data the
    things, then the stuff, by default those of the file."""
    metainfo = dataset.get("metainfo") or {}
    if dataset.type == _PANOPTIC:
        given = metainfo.get("thing_classes"), metainfo.get("stuff_classes")
        if None not in given:
            return (*given[0], *given[1])
        file = Path(dataset.get("data_root") or "") / dataset.ann_file
        return find_labels(read_json(file)["categories"], *given, file).classes
    kind = _find_class(dataset.type) or CocoDataset
    return tuple(metainfo.get("classes") or kind.METAINFO["classes"])


def _unwrap(dataset: ConfigDict) -> list[ConfigDict]:
    """The data sets within RepeatDataset, ConcatDataset and the like."""
    if "dataset" in dataset:
        return _unwrap(dataset.dataset)
    if "datasets" in dataset:
        return [inner for each in dataset.datasets for inner in _unwrap(each)]
    return [dataset]


def _uses_masks(cfg: Config) -> bool:
    """Whether the training loads masks."""
    return any(step.get("with_mask") for step in _train_steps(cfg))


def _mesh_file(cfg: Config) -> str:
    """Of the vertices that the training loads or a metric measures; "" for none."""
    metrics = [cfg.get(f"{split}_evaluator") or [] for split in ("val", "test")]
    lists = [each if isinstance(each, list | tuple) else [each] for each in metrics]
    users = [*_train_steps(cfg), *(metric for each in lists for metric in each)]
    return next((each["mesh_file"] for each in users if each.get("mesh_file")), "")


def _train_steps(cfg: Config) -> list[ConfigDict]:
    """The steps of all training pipelines."""
    datasets = _unwrap(cfg.train_dataloader.dataset) if cfg.get("train_dataloader") else []
    return [step for dataset in datasets for step in dataset.get("pipeline", [])]


def _num_classes(model: Any) -> int | None:
    """`num_classes` of our core or of the host's (box) head."""
    sections = [model.get("core"), model.get("bbox_head")]
    heads = model.get("roi_head", {}).get("bbox_head")
    sections += heads if isinstance(heads, list | tuple) else [heads]
    counts = (section.get("num_classes") for section in sections if isinstance(section, dict))
    return next((count for count in counts if isinstance(count, int)), None)
