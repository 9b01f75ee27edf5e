"""Renaming the entries of state dicts, by tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from metaheads.messages import list_some

# (pattern of the whole name, replacement as in re.sub or None = left out on purpose)
Rule = tuple[str, str | None]

_NORM = "(?:bn|gn|ln|in|norm)"  # how mmcv may call a norm before its number


@dataclass
class Coverage:
    """What became of the entries of a checkpoint.

    Attributes:
        used: entries that were taken.
        missing: entries of the model that the checkpoint lacks.
        unused: entries of the checkpoint that are left out on purpose.
        reshaped: class-dependent entries that keep their fresh values.
    """

    used: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line, with the first names of all but the used ones."""
        others = ("missing", "unused", "reshaped")
        counts = [f"{name} {_count(getattr(self, name))}" for name in others]
        return ", ".join([f"used {len(self.used)}", *counts])


def rename_keys(
    state_dict: Mapping[str, Tensor], rules: Sequence[Rule], source: str
) -> tuple[dict[str, Tensor], Coverage]:
    """Renames every entry by the first rule that matches its whole name.

    Args:
        state_dict: what to rename.
        rules: the table.
        source: what the entries come from, for the message.

    Raises:
        KeyError: entries that no rule knows, or two that would get one name.
    """
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    renamed: dict[str, Tensor] = {}
    leftover: list[str] = []
    doubled: list[str] = []
    coverage = Coverage()
    for name, tensor in state_dict.items():
        found = next(((m, new) for p, new in compiled if (m := p.fullmatch(name))), None)
        if found is None:
            leftover.append(name)
        elif found[1] is None:
            coverage.unused.append(name)
        else:
            new = found[0].expand(found[1])
            (doubled if new in renamed else coverage.used).append(name)
            renamed[new] = tensor
    if leftover or doubled:
        what = "entries that nobody knows" if leftover else "several entries for one layer"
        raise KeyError(
            f"not {source}: {what}: {list_some(leftover or doubled)}; "
            "check which model wrote the file"
        )
    return renamed, coverage


# (MMDetection, Detectron2) templates of the region heads; both put the background last.
_REGIONS = (
    ("rpn_head.rpn_conv.{rest}", "proposal_generator.rpn_head.conv.{rest}"),
    ("rpn_head.rpn_cls.{rest}", "proposal_generator.rpn_head.objectness_logits.{rest}"),
    ("rpn_head.rpn_reg.{rest}", "proposal_generator.rpn_head.anchor_deltas.{rest}"),
    ("roi_head.bbox_head.shared_fcs.0.{rest}", "roi_heads.box_head.fc1.{rest}"),
    ("roi_head.bbox_head.shared_fcs.1.{rest}", "roi_heads.box_head.fc2.{rest}"),
    ("roi_head.bbox_head.fc_cls.{rest}", "roi_heads.box_predictor.cls_score.{rest}"),
    ("roi_head.bbox_head.fc_reg.{rest}", "roi_heads.box_predictor.bbox_pred.{rest}"),
    *(
        (
            f"roi_head.mask_head.convs.{index}.conv.{{rest}}",
            f"roi_heads.mask_head.mask_fcn{index + 1}.{{rest}}",
        )
        for index in range(8)
    ),
    ("roi_head.mask_head.upsample.{rest}", "roi_heads.mask_head.deconv.{rest}"),
    ("roi_head.mask_head.conv_logits.{rest}", "roi_heads.mask_head.predictor.{rest}"),
)


def to_host(state_dict: Mapping[str, Tensor], model_keys: Iterable[str]) -> dict[str, Tensor]:
    """Renames ResNet, FPN, RPN and RoI heads between Detectron2's names and MMDetection's
    (torchvision's, ours).

    Which way follows from the model's names; entries that already fit, and all others, stay.

    Args:
        state_dict: of a model of either host, with `backbone.` in front.
        model_keys: names in the state dict of the model that it is for.
    """
    model_keys = list(model_keys)
    renamed = _from_neutral(_to_neutral([*state_dict]), model_keys)
    for turned, heads in enumerate(("roi_head.", "roi_heads.")):
        if any(key.startswith(heads) for key in model_keys):
            rules = [(_pattern(pair[1 - turned]), _replacement(pair[turned])) for pair in _REGIONS]
            renamed = [_apply(rules, name) for name in renamed]
    return dict(zip(renamed, state_dict.values(), strict=True))


def _count(names: list[str]) -> str:
    return f"{len(names)} ({list_some(names, 3)})" if names else "0"


def _resnet_table() -> list[tuple[str, str]]:
    """(neutral, Detectron2) templates; {n} a number, {rest} the rest of the name."""
    table = [
        ("backbone.bn1.{rest}", "{body}.stem.conv1.norm.{rest}"),
        ("backbone.conv1.{rest}", "{body}.stem.conv1.{rest}"),
    ]
    for stage in (1, 2, 3, 4):
        ours, theirs = f"backbone.layer{stage}.{{n}}", f"{{body}}.res{stage + 1}.{{n}}"
        # Deformable ones first: MMCV keeps their offsets' layer inside.
        table.append((f"{ours}.conv2.conv_offset.{{rest}}", f"{theirs}.conv2_offset.{{rest}}"))
        for conv in (1, 2, 3):
            table += [
                (f"{ours}.bn{conv}.{{rest}}", f"{theirs}.conv{conv}.norm.{{rest}}"),
                (f"{ours}.conv{conv}.{{rest}}", f"{theirs}.conv{conv}.{{rest}}"),
            ]
        table += [
            (f"{ours}.downsample.1.{{rest}}", f"{theirs}.shortcut.norm.{{rest}}"),
            (f"{ours}.downsample.0.{{rest}}", f"{theirs}.shortcut.{{rest}}"),
        ]
    return table


def _fpn_table(first_level: int) -> list[tuple[str, str]]:
    """(neutral, Detectron2) templates; Detectron2 numbers by level, MMDetection from 0."""
    table = [("neck.gap.{rest}", "backbone.gap.{rest}")]
    for index in range(8):
        for ours, theirs in (("lateral_convs", "fpn_lateral"), ("fpn_convs", "fpn_output")):
            ours, theirs = f"neck.{ours}.{index}", f"backbone.{theirs}{first_level + index}"
            table += [
                (f"{ours}.bn.{{rest}}", f"{theirs}.norm.{{rest}}"),
                (f"{ours}.conv.{{rest}}", f"{theirs}.{{rest}}"),
            ]
    return table


def _to_neutral(names: list[str]) -> list[str]:
    """Any host's names -> torchvision's, with norms called bn and MMDetection's neck."""
    table = _resnet_table() + _fpn_table(_first_level(names))
    rules = [(_pattern(theirs), _replacement(ours)) for ours, theirs in table]
    rules += [
        (re.compile(rf"(backbone\.(?:layer\d\.\d+\.)?){_NORM}(\d\..+)"), r"\1bn\2"),
        (re.compile(rf"(neck\.\w+\.\d+\.){_NORM}(\..+)"), r"\1bn\2"),
        (re.compile(r"backbone\.bottom_up\.(.+)"), r"backbone.\1"),
    ]
    return [_apply(rules, name) for name in names]


def _from_neutral(names: list[str], model_keys: list[str]) -> list[str]:
    """Neutral names -> those that the model uses."""
    body = "backbone"
    if any(key.startswith("backbone.bottom_up.") for key in model_keys):
        body = "backbone.bottom_up"
    if any(re.match(r"backbone\.(bottom_up\.)?(stem|res[2-5])\.", key) for key in model_keys):
        table = _resnet_table() + _fpn_table(_first_level(model_keys))
        rules = [(_pattern(o), _replacement(t.replace("{body}", body))) for o, t in table]
    else:
        norm = _norm_name(model_keys, rf"backbone\.({_NORM})1\..+")
        neck_norm = _norm_name(model_keys, rf"neck\.\w+\.\d+\.({_NORM})\..+")
        rules = [
            (re.compile(r"(backbone\.(?:layer\d\.\d+\.)?)bn(\d\..+)"), rf"\g<1>{norm}\2"),
            (re.compile(r"(neck\.\w+\.\d+\.)bn(\..+)"), rf"\g<1>{neck_norm}\2"),
        ]
    if body != "backbone":
        rules.append((re.compile(r"backbone\.(?!fpn_|top_block)(.+)"), rf"{body}.\1"))
    return [_apply(rules, name) for name in names]


def _norm_name(keys: list[str], pattern: str) -> str:
    found = (re.fullmatch(pattern, key) for key in keys)
    return next((match[1] for match in found if match), "bn")


def _first_level(names: list[str]) -> int:
    levels = [int(m[1]) for name in names if (m := re.match(r"backbone\.fpn_lateral(\d+)\.", name))]
    return min(levels, default=2)


def _pattern(template: str) -> re.Pattern:
    pattern = re.escape(template.replace("{body}", "BODY"))
    pattern = pattern.replace("BODY", r"backbone(?:\.bottom_up)?")
    return re.compile(
        pattern.replace(r"\{n\}", r"(?P<n>\d+)").replace(r"\{rest\}", r"(?P<rest>.+)")
    )


def _replacement(template: str) -> str:
    return template.replace("{n}", r"\g<n>").replace("{rest}", r"\g<rest>")


def _apply(rules: list[tuple[re.Pattern, str]], name: str) -> str:
    for pattern, replacement in rules:
        match = pattern.fullmatch(name)
        if match:
            return match.expand(replacement)
    return name
