"""Loading a state dict into a model, strictly both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from metaheads.messages import list_some
from metaheads.weights.convert import Coverage, to_host
from metaheads.weights.importers import matching_importers

# Batch norms count their steps here; frozen ones, and old checkpoints, have no counters.
_COUNTER = "num_batches_tracked"

# Beginnings of names that tell what wrote a checkpoint.
_SIGNATURES = (
    ("core.proto_net.", "Yolact"),
    ("roi_heads.", "a Detectron2 R-CNN"),
    ("roi_head.", "an MMDetection two-stage detector"),
    ("bbox_head.", "an MMDetection single-stage detector"),
    ("fc.", "an image classifier"),
)


def load_into(
    model: nn.Module,
    state_dict: Mapping[str, Tensor],
    *,
    reinitialise_classes: bool = False,
    allow_partial: bool = False,
) -> Coverage:
    """Loads a checkpoint of either host into a model of either host; all entries must fit.

    Args:
        model: a hosted model, or any module with `backbone` and `core`.
        state_dict: what `read_checkpoint` or an importer returned.
        reinitialise_classes: the layers whose size follows the number of classes keep their values.
        allow_partial: entries may be missing or left over, as long as some fit.

    Raises:
        ValueError: another architecture, another number of classes, layers of other shapes, or
            values that are not finite.
        KeyError: entries that are missing or left over.
    """
    own = model.state_dict()
    state = to_host(state_dict, own)
    _check_finite(state)
    if not (allow_partial and any(name in own for name in state)):
        _check_architecture(model, own, state)
    fresh = _class_entries(model, own, state) if reinitialise_classes else set()
    reshaped = [n for n in own if n in state and n not in fresh and own[n].shape != state[n].shape]
    _check_shapes(model, own, state, reshaped)
    coverage = Coverage(
        used=[name for name in own if name in state and name not in fresh],
        missing=[n for n in own if n not in state and n not in fresh and _COUNTER not in n],
        unused=[name for name in state if name not in own],
        reshaped=[name for name in own if name in fresh],
    )
    leftover = [name for name in coverage.unused if _COUNTER not in name]
    if (coverage.missing or leftover) and not allow_partial:
        raise KeyError(_unequal(coverage.missing, leftover))
    model.load_state_dict({name: state[name] for name in coverage.used}, strict=False)
    return coverage


def _unequal(missing: list[str], leftover: list[str]) -> str:
    parts = []
    if missing:
        parts.append(f"the checkpoint lacks {list_some(missing)}")
    if leftover:
        parts.append(f"the model has no place for {list_some(leftover)}")
    return (
        "; ".join(parts) + ". Build the model with the config that the checkpoint was trained with "
        "(backbone depth, deformable blocks and mask scoring change the layers)"
    )


def _check_finite(state: Mapping[str, Tensor]) -> None:
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(
            f"the checkpoint holds NaN or infinite values in {list_some(broken)}: the training "
            "that wrote it had diverged, or the file is damaged; take an earlier one"
        )


def _check_architecture(model: nn.Module, own: Mapping, state: Mapping) -> None:
    heads = [name for name in own if not name.startswith("backbone.")] or [*own]
    if 2 * sum(name in state for name in heads) >= len(heads):
        return
    raise ValueError(
        f"the checkpoint is of another architecture: it is of {_writer(state)}, the model is "
        f"{_model_name(model)} ({sum(name in own for name in state)} of the checkpoint's "
        f"{len(state)} entries have a place in it); give the config that belongs to the checkpoint"
    )


def _writer(state: Mapping) -> str:
    if importers := matching_importers(state):
        names = " or ".join(each.name for each in importers)
        return f"the authors of {names} (convert it first: metaheads import-weights)"
    for beginning, words in _SIGNATURES:
        if any(name.startswith(beginning) for name in state):
            return words
    tops = sorted({".".join(name.split(".")[:2]) for name in state if name[:9] != "backbone."})
    return f"an unknown model with {list_some(tops)}" if tops else "a bare backbone"


def _model_name(model: nn.Module) -> str:
    return type(getattr(model, "core", model)).__name__


def _class_entries(model: nn.Module, own: Mapping, state: Mapping) -> set[str]:
    """Entries whose size follows the number of classes."""
    layers = [f"core.{layer}." for layer, _ in _class_layers(model)]
    if layers:
        return {name for name in own if name.startswith(tuple(layers))}
    # A model of a host's own: heads that differ in nothing but their number of outputs.
    heads = [name for name in own if name in state and not name.startswith("backbone.")]
    return {name for name in heads if _only_outputs_differ(own[name], state[name])}


def _class_layers(model: nn.Module) -> tuple[tuple[str, int], ...]:
    return getattr(getattr(model, "core", None), "CLASS_LAYERS", ())


def _only_outputs_differ(own: Tensor, other: Tensor) -> bool:
    same_rest = own.shape[1:] == other.shape[1:] and own.ndim == other.ndim > 0
    return same_rest and own.shape != other.shape


def _check_shapes(model: nn.Module, own: Mapping, state: Mapping, reshaped: list[str]) -> None:
    if not reshaped:
        return
    by_classes = _class_entries(model, own, state)
    others = [name for name in reshaped if name not in by_classes]
    if others:
        name = others[0]
        raise ValueError(
            f"layers of other shapes: {list_some(others)}; {name} is {tuple(state[name].shape)} in "
            f"the checkpoint, {tuple(own[name].shape)} in the model: build the model with the "
            "options (backbone, anchors, widths) that the checkpoint was trained with"
        )
    layers = sorted({name.rpartition(".")[0] for name in reshaped})
    checkpoint, expected = _class_counts(model, own, state, reshaped)
    raise ValueError(
        f"the checkpoint has {checkpoint}, the model {expected}: {', '.join(layers)} differ. Set "
        "num_classes to the checkpoint's, or pass --reinitialise-classes to train these layers anew"
    )


def _class_counts(
    model: nn.Module, own: Mapping, state: Mapping, reshaped: list[str]
) -> tuple[str, str]:
    """Numbers of classes in words, the checkpoint's and the model's."""
    core: Any = getattr(model, "core", None)
    for layer, background in _class_layers(model):
        name = f"core.{layer}.weight"
        if name in reshaped:
            classes = core.num_classes
            per_class = own[name].shape[0] // (classes + background)
            return f"{state[name].shape[0] // per_class - background} classes", f"{classes} classes"
    name = reshaped[0]
    rows, expected = state[name].shape[0], own[name].shape[0]
    return f"{rows} outputs in {name}", f"{expected} outputs: another number of classes"
