"""Our options in Detectron2's config: nodes of the constructors' defaults, checked in merges."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from detectron2.config import CfgNode

from metaheads.architectures import (
    CenterNetPoints,
    CenterNetTriplets,
    CornerNet,
    RetinaFace,
    SemanticSegmenter,
    UPSNet,
    Yolact,
)
from metaheads.backbones import (
    DLA,
    Darknet53,
    DeconvResNet,
    DeformableResNet,
    Hourglass,
    MobileNetV1,
    SlimNet,
)
from metaheads.datasets.faces import FaceTransform
from metaheads.datasets.transforms import TrainTransform
from metaheads.datasets.warps import CropTransform, TestView, WarpTransform
from metaheads.hosts.detectron2.datasets import register_datasets
from metaheads.options import check_options, option_defaults

# Where the options of each of our classes stand in the config.
OPTION_NODES: dict[str, Callable] = {
    "MODEL.YOLACT": Yolact,
    "MODEL.CENTERNETPOINTS": CenterNetPoints,
    "MODEL.CENTERNETTRIPLETS": CenterNetTriplets,
    "MODEL.CORNERNET": CornerNet,
    "MODEL.RETINAFACE": RetinaFace,
    "MODEL.UPSNET": UPSNet,
    "MODEL.SEMANTICSEGMENTER": SemanticSegmenter,
    "MODEL.DARKNET": Darknet53,
    "MODEL.DEFORMABLE_RESNET": DeformableResNet,
    "MODEL.DECONV_RESNET": DeconvResNet,
    "MODEL.DLA": DLA,
    "MODEL.HOURGLASS": Hourglass,
    "MODEL.MOBILENETV1": MobileNetV1,
    "MODEL.SLIMNET": SlimNet,
    "INPUT.TRANSFORM": TrainTransform,
    "INPUT.WARP": WarpTransform,
    "INPUT.CROP_TRANSFORM": CropTransform,
    "INPUT.FACE_TRANSFORM": FaceTransform,
    "INPUT.TEST_VIEW": TestView,
}
# INPUT.MAPPER -> the transform of its training images.
TRANSFORMS: dict[str, Callable] = {
    "metaheads": TrainTransform,
    "metaheads_warp": WarpTransform,
    "metaheads_crop": CropTransform,
    "metaheads_face": FaceTransform,
}
# INPUT.FORMAT says it for the whole config.
_STATED_ELSEWHERE = {
    f"INPUT.{node}.COLOR_ORDER"
    for node in ("TRANSFORM", "WARP", "CROP_TRANSFORM", "FACE_TRANSFORM")
}


class MetaheadsConfig(CfgNode):
    """Detectron2's config with our nodes, whose merges check our options.

    In our nodes an int stands for a float, lists become tuples at any depth and None is refused
    where it has no meaning (yacs does none of that). A key that does not exist, ours or
    Detectron2's, is answered with the nearest one. Data sets named in DATASETS.REGISTER are
    registered, so that Detectron2's own trainer finds them.
    """

    def merge_from_other_cfg(self, cfg_other: CfgNode) -> None:
        """Merges a config, as `merge_from_file` does with the file's content.

        Raises:
            KeyError: an option that does not exist; names the nearest one.
            TypeError: a value of one of our options has the wrong type.
        """
        checked = CfgNode(cfg_other)
        _check_keys(checked, self, "")
        for path, builder in OPTION_NODES.items():
            node = _find(checked, path)
            if node is not None:
                _check_node(node, builder, path)
        with _told_of_types():
            super().merge_from_other_cfg(checked)
        register_datasets(self)

    def merge_from_list(self, cfg_list: list) -> None:
        """Merges [key, value, key, value, ...] with the same checks."""
        if len(cfg_list) % 2:
            raise ValueError(f"expected pairs of KEY VALUE, got an odd number: {cfg_list}")
        checked: list = []
        for key, value in zip(cfg_list[0::2], cfg_list[1::2], strict=True):
            path, _, name = key.rpartition(".")
            parent = _find(self, path) if path else self
            if parent is None or name not in parent:
                raise KeyError(_unknown_key(key, self))
            if path in OPTION_NODES:
                leaf = CfgNode({name: value})
                _check_node(leaf, OPTION_NODES[path], path)
                value = leaf[name]
            elif isinstance(parent[name], float):
                value = _to_float(value)
            checked += [key, value]
        with _told_of_types():
            super().merge_from_list(checked)
        register_datasets(self)

    # The nodes below the root stay Detectron2's own class: yacs merges only equal types.
    @classmethod
    def _create_config_tree_from_dict(cls, dic: dict, key_list: list) -> dict:
        return CfgNode._create_config_tree_from_dict(dic, key_list)

    @classmethod
    def _decode_cfg_value(cls, value: Any) -> Any:
        return CfgNode._decode_cfg_value(value)


def add_metaheads_config(cfg: CfgNode) -> None:
    """Adds our nodes and keys to `get_cfg()`'s result, in place; a second call changes nothing.

    - MODEL.<ARCHITECTURE>, MODEL.<BACKBONE>, INPUT.TRANSFORM, INPUT.WARP, INPUT.CROP_TRANSFORM,
      INPUT.FACE_TRANSFORM, INPUT.TEST_VIEW: our classes' options in upper case.
    - INPUT.MAPPER: "metaheads" for our data mapper with INPUT.TRANSFORM, "metaheads_warp" with
      INPUT.WARP, "metaheads_crop" with INPUT.CROP_TRANSFORM, "metaheads_face" with
      INPUT.FACE_TRANSFORM; "" for Detectron2's.
    - INPUT.MESH_FILE: JSON of the mesh whose vertices the objects bring, relative to the same
      folder as DATASETS.REGISTER; "" for none.
    - INPUT.TEST_SIZE: (height, width) to which the model stretches images of another size, but
      what our mappers made for training; () off.
    - INPUT.USE_TEST_VIEW: in tests the model sees what INPUT.TEST_VIEW says, instead.
    - TEST.FLIP, TEST.SCALES: predict from the image and its mirror, and at several sizes, where the
      architecture can merge them.
    - TEST.NME: beside the AP of boxes, not of keypoints, the normalised mean error of keypoints
      and, with INPUT.MESH_FILE, of vertices.
    - TEST.WIDERFACE: GROUND_TRUTH, the folder of WIDER FACE's .mat files (relative as below), adds
      its average precision; SUBMISSION is a folder that the official text files are written to,
      WHOLE_PIXELS cuts boxes as the authors' script does.
    - DATASETS.REGISTER: ((name, COCO json, image folder), ...), relative to the folder that the
      environment variable METAHEADS_DATA names, or else to `data`.
    - DATASETS.REGISTER_PANOPTIC: ((name, image folder, COCO panoptic json, PNG folder), ...),
      likewise; read without `panopticapi`, in trainings by our data mapper only.
    - INPUT.SEPARATE_STUFF: of panoptic data our mapper gives what Detectron2's own PanopticFPN is
      trained on: "sem_seg" with 0 for all things and 1.. for stuff, and no crowds.
    - SOLVER.REFERENCE_BATCH_SIZE: the batch that BASE_LR is meant for (--auto-scale-lr); 0 unknown.
    - Only for our trainer: SOLVER.OPTIMIZER, "SGD" or "AdamW"; SOLVER.CLIP_GRADIENTS.WHOLE_MODEL,
      clip the norm of all gradients together, not of each parameter; SOLVER.KEEP_CHECKPOINTS, how
      many of the last checkpoints stay on the disk, 0 for all.
    - MODEL.DEVICE becomes "cpu" on a machine without CUDA.
    """
    if isinstance(cfg, MetaheadsConfig):
        return
    for path, builder in OPTION_NODES.items():
        parent, _, name = path.rpartition(".")
        _find(cfg, parent)[name] = _default_node(path, builder)
    cfg.INPUT.MAPPER = ""
    cfg.INPUT.MESH_FILE = ""
    cfg.INPUT.TEST_SIZE = ()
    cfg.INPUT.USE_TEST_VIEW = False
    cfg.TEST.FLIP = False
    cfg.TEST.SCALES = (1.0,)
    cfg.TEST.NME = False
    cfg.TEST.WIDERFACE = CfgNode({"GROUND_TRUTH": "", "SUBMISSION": "", "WHOLE_PIXELS": False})
    cfg.INPUT.SEPARATE_STUFF = False
    cfg.DATASETS.REGISTER = ()
    cfg.DATASETS.REGISTER_PANOPTIC = ()
    cfg.SOLVER.OPTIMIZER = "SGD"
    cfg.SOLVER.REFERENCE_BATCH_SIZE = 0
    cfg.SOLVER.KEEP_CHECKPOINTS = 0
    cfg.SOLVER.CLIP_GRADIENTS.WHOLE_MODEL = False
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    # The user holds this very object: only its class can bring it our merge methods.
    object.__setattr__(cfg, "__class__", MetaheadsConfig)


def options_of(cfg: CfgNode, builder: Callable) -> dict[str, Any]:
    """The options of one of our classes as its constructor wants them; checked once more.

    Raises:
        KeyError, TypeError: as in `MetaheadsConfig`'s merges, for values that were assigned.
    """
    path = next(path for path, known in OPTION_NODES.items() if known is builder)
    node = _find(cfg, path)
    if node is None:
        raise KeyError(f"the config has no {path}: call add_metaheads_config(cfg) after get_cfg()")
    node = CfgNode(node)
    _check_node(node, builder, path)
    return {name.lower(): value for name, value in node.items()}


def test_size(cfg: CfgNode) -> tuple[int, int] | None:
    """INPUT.TEST_SIZE as (height, width), or None when it is off.

    Raises:
        ValueError: neither empty nor two positive integers.
    """
    size = tuple(cfg.INPUT.TEST_SIZE)
    if not size:
        return None
    if len(size) != 2 or not all(isinstance(x, int) and x > 0 for x in size):
        raise ValueError(f"INPUT.TEST_SIZE must be (height, width) in pixels or (), got {size}")
    return size


test_size.__test__ = False  # type: ignore[attr-defined]  # its name looks like a test to pytest


def _default_node(path: str, builder: Callable) -> CfgNode:
    defaults = {name.upper(): value for name, value in option_defaults(builder).items()}
    return CfgNode({n: v for n, v in defaults.items() if f"{path}.{n}" not in _STATED_ELSEWHERE})


def _check_node(node: CfgNode, builder: Callable, path: str) -> None:
    """Converts the values of `node` in place."""
    if not isinstance(node, CfgNode):
        raise TypeError(f"{path} is a section, got {node!r}: write its options below it")
    for name, value in node.items():
        value = CfgNode._decode_cfg_value(value)
        try:
            checked = check_options(builder, {name.lower(): value}, f"{path}.")
        except (KeyError, TypeError) as error:
            spelled = re.sub(re.escape(path) + r"\.\w+", lambda m: m[0].upper(), error.args[0])
            raise type(error)(spelled) from None
        node[name] = checked[name.lower()]


def _check_keys(other: CfgNode, known: CfgNode, path: str) -> None:
    for name, value in other.items():
        full = f"{path}{name}"
        if name not in known:
            below = _leaves(value)[-1:] if isinstance(value, CfgNode) else []
            raise KeyError(_unknown_key(".".join([full, *below]), known, path))
        if isinstance(value, CfgNode) and isinstance(known[name], CfgNode):
            _check_keys(value, known[name], f"{full}.")
        elif isinstance(known[name], float):
            other[name] = _to_float(value)


def _to_float(value: Any) -> Any:
    """1 -> 1.0, also as a text; yacs takes an int for another type."""
    decoded = CfgNode._decode_cfg_value(value)
    is_whole = isinstance(decoded, int) and not isinstance(decoded, bool)
    return float(decoded) if is_whole else value


@contextlib.contextmanager
def _told_of_types() -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # yacs' words: "Type mismatch (...) with values (...) for key: ..."
        raise TypeError(str(error)) from error


def _unknown_key(key: str, node: CfgNode, path: str = "") -> str:
    names = [f"{path}{name}" for name in _leaves(node)]
    nearest = difflib.get_close_matches(key.upper(), names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known are {sorted(names)[:20]}"
    return f"the config has no option {key}; {hint}"


def _leaves(node: CfgNode) -> list[str]:
    """The names of all keys below `node`, nodes included."""
    names = []
    for name, value in node.items():
        below = _leaves(value) if isinstance(value, CfgNode) else []
        names += [name, *(f"{name}.{each}" for each in below)]
    return names


def _find(node: CfgNode, path: str) -> CfgNode | None:
    for name in path.split("."):
        if not isinstance(node, CfgNode) or name not in node:
            return None
        node = node[name]
    return node
