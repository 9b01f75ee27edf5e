"""Options of an architecture, checked once for both hosts.

An option is a keyword-only argument of a constructor: bool, int, float, str, tuple or None,
annotated. Its default stands in the signature and nowhere else; Detectron2's config node is
generated from it, MMDetection passes keywords. Both pass the user's values through `check_options`.
"""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin

_UNIONS = (typing.Union, types.UnionType)


def option_defaults(builder: Callable) -> dict[str, Any]:
    """The options of `builder` (a class or function) with their defaults, in the order of its
    signature."""
    return {name: parameter.default for name, parameter in _option_parameters(builder).items()}


def check_options(builder: Callable, values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Returns `values` as `builder` wants them: int to float, list to tuple, recursively.

    Args:
        builder: class or function whose keyword-only arguments are the options.
        values: what a user wrote.
        where: prefix of the option in the user's file, for the message ("MODEL.YOLACT.", "core.").

    Raises:
        KeyError: an unknown option; the message names the nearest valid one.
        TypeError: a value of another type than the annotation.
    """
    known = set(_option_parameters(builder))
    hints = typing.get_type_hints(builder.__init__ if inspect.isclass(builder) else builder)
    checked = {}
    for name, value in values.items():
        if name not in known:
            raise KeyError(_unknown(builder, where, name, known))
        converted, fits = _convert(value, hints[name])
        if not fits:
            raise TypeError(
                f"option {where}{name} of {builder.__name__}: expected {_spell(hints[name])}, "
                f"got {value!r} ({type(value).__name__})"
            )
        checked[name] = converted
    return checked


def check_parameter(builder: Callable, name: str, where: str = "") -> None:
    """Refuses a name that a host's class or function does not take.

    Args:
        builder: what will be called with keywords; one that passes keywords on to its base classes
            takes theirs, too.
        name: the keyword.
        where: prefix of the option in the user's file.

    Raises:
        KeyError: names the nearest. Where any keyword is taken, only one that looks misspelt.
    """
    known, is_open = _keywords(builder)
    cutoff = 0.8 if is_open else 0.5
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    if name in known or (is_open and not nearest):
        return
    hint = f"did you mean {where}{nearest[0]}?" if nearest else f"it knows {sorted(known)}"
    raise KeyError(f"{builder.__name__} has no option {where}{name}; {hint}")


def _keywords(builder: Callable) -> tuple[set[str], bool]:
    """The names that a call takes, and whether it takes any other as well."""
    known: set[str] = set()
    functions = [builder]
    if inspect.isclass(builder):
        functions = [vars(each)["__init__"] for each in builder.__mro__ if "__init__" in vars(each)]
    for function in functions:
        try:
            parameters = inspect.signature(function).parameters.values()
        except ValueError:  # written in C
            return known, True
        known |= {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return known - {"self"}, False
    return known - {"self"}, True


def _option_parameters(builder: Callable) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(builder).parameters
    return {n: p for n, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _unknown(builder: Callable, where: str, name: str, known: set[str]) -> str:
    nearest = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {where}{nearest[0]}?" if nearest else f"it knows {sorted(known)}"
    return f"{builder.__name__} has no option {where}{name}; {hint}"


def _convert(value: Any, annotation: Any) -> tuple[Any, bool]:
    """The value as the annotation wants it, and whether it fits."""
    origin = get_origin(annotation)
    if origin in _UNIONS:
        for choice in get_args(annotation):
            converted, fits = _convert(value, choice)
            if fits:
                return converted, True
        return value, False
    if origin is tuple:
        return _convert_tuple(value, get_args(annotation))
    if annotation is type(None) or annotation is None:
        return None, value is None
    if annotation is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        return (float(value), True) if fits else (value, False)
    if annotation is int:
        return value, isinstance(value, int) and not isinstance(value, bool)
    return value, isinstance(value, annotation)


def _convert_tuple(value: Any, items: tuple) -> tuple[Any, bool]:
    if not isinstance(value, list | tuple):
        return value, False
    annotations = [items[0]] * len(value) if items[-1:] == (Ellipsis,) else list(items)
    if len(annotations) != len(value):
        return value, False
    converted = [_convert(v, a) for v, a in zip(value, annotations, strict=True)]
    return tuple(v for v, _ in converted), all(fits for _, fits in converted)


def _spell(annotation: Any) -> str:
    return annotation.__name__ if inspect.isclass(annotation) else str(annotation)
