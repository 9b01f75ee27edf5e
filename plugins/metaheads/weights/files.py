"""Checkpoints: read without running what may be hidden in them, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# What torch.load raises for a file that is cut off, overwritten or of another kind.
_BROKEN = (
    RuntimeError,
    OSError,
    EOFError,
    pickle.UnpicklingError,
    struct.error,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
# torch's words for "this would have to run code", over the versions since 2.4.
_NEEDS_CODE = re.compile(
    r"Unsupported (?:global: GLOBAL|class) (\S+)|Trying to (?:call|instantiate)"
)

# How files of torch.save begin that are no zip archives, as before torch 1.6.
_LEGACY = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)


def read_checkpoint(path: str | Path, *, trust: bool = False) -> dict[str, Tensor]:
    """The weights in a checkpoint of either host, an imported one or a state dict, on the CPU.

    Args:
        path: the file.
        trust: also read a file that needs arbitrary code, which then runs: for your own files only.

    Raises:
        ValueError: no such file, a broken one, one that needs arbitrary code, one without weights,
            or a Detectron2 pickle; the message says what to do.
    """
    return weights_in(path, read_content(path, trust=trust))


def read_content(path: str | Path, *, trust: bool = False) -> Any:
    """All that a checkpoint holds; arguments and errors as in `read_checkpoint`."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no checkpoint {path}: there is no such file; check the path")
    if is_zoo_pickle(path):
        raise ValueError(
            f"{path} is a pickle of Detectron2's model zoo: Detectron2 itself loads it, "
            "set MODEL.WEIGHTS to it"
        )
    return _load(path, trust)


def is_zoo_pickle(path: str | Path) -> bool:
    """Whether a file is a plain pickle as in Detectron2's model zoo: `.pkl`, and not written by
    torch.save, whose files the authors of CornerNet also call so."""
    if Path(path).suffix != ".pkl":
        return False
    with open(path, "rb") as file:
        return not file.read(len(_LEGACY)).startswith((b"PK", _LEGACY))


def check_resumable(path: str | Path, needed: tuple[str, ...], *, trust: bool = False) -> None:
    """Refuses a checkpoint that a training cannot go on from.

    Args:
        path, trust: as in `read_checkpoint`.
        needed: entries beside the weights.

    Raises:
        ValueError: as `read_checkpoint`, or entries are not there.
    """
    content = read_content(path, trust=trust)
    weights_in(path, content)
    absent = [name for name in needed if name not in content]
    if absent:
        raise ValueError(
            f"{path} holds no {', '.join(absent)}, so no training of this host can go on from it: "
            f"begin with its weights, --checkpoint {path}"
        )


def _load(path: Path, trust: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust)
    except ImportError as error:  # only when trusted: a class of a package that is not here
        raise ValueError(f"{path} needs a package that is not installed: {error}") from error
    except _BROKEN as error:
        needs_code = _NEEDS_CODE.search(str(error))
        if needs_code and not trust:
            what = f" ({needs_code[1]})" if needs_code[1] else ""
            raise ValueError(
                f"{path} can only be read by running code that it names{what}, as checkpoints of "
                "MMEngine's plain runner do: if you made this file, pass --trust-checkpoint; if "
                "not, do not load it"
            ) from error
        raise ValueError(
            f"{path} is no checkpoint, or it is cut off or damaged ({_first_line(error)}): copy or "
            "download it again, or take an earlier one"
        ) from error


def weights_in(path: str | Path, content: Any) -> dict[str, Tensor]:
    """The state dict in what a file holds: MMEngine's, Detectron2's, or the content itself.

    Raises:
        ValueError: there is none; names the file.
    """
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        found = (
            sorted(map(str, content))[:5]
            if isinstance(content, Mapping)
            else type(content).__name__
        )
        raise ValueError(
            f"{path} holds no weights (it holds {found}): expected a state dict, or one under "
            "'state_dict' (MMDetection) or 'model' (Detectron2)"
        )
    return tensors


@contextlib.contextmanager
def of_file(path: str | Path) -> Iterator[None]:
    """What is wrong with the weights in a file, or does not fit, also names the file."""
    try:
        yield
    except (KeyError, ValueError) as error:
        raise type(error)(f"{path}: {error.args[0] if error.args else error}") from error


def write_atomically(path: Path, write: Any) -> None:
    """Calls `write(file)` on a temporary file that takes the place of `path` when complete."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_results(path: Path, metrics: Mapping[str, float]) -> None:
    """Metrics as JSON, which has no NaN: what could not be measured becomes null."""
    write_atomically(path, lambda file: file.write(spell_results(metrics).encode()))


def read_results(path: Path) -> dict[str, float]:
    """What `write_results` wrote; null is NaN again."""
    found = json.loads(path.read_text())
    return {name: math.nan if value is None else value for name, value in found.items()}


def spell_results(metrics: Mapping[str, float]) -> str:
    finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    return json.dumps(finite, indent=1) + "\n"


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or "the file ends too early"
    if "weights_only" in text:  # torch's advice to its callers, no help to a user
        return "not in PyTorch's format"
    return text.splitlines()[0].split(". ")[0]
