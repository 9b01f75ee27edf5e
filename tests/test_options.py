from __future__ import annotations

import pytest

from metaheads.architectures import Yolact
from metaheads.options import check_options, option_defaults


class Part:
    def __init__(
        self,
        channels: int,
        *,
        count: int = 3,
        rate: float = 0.5,
        kind: str = "plain",
        use_it: bool = False,
        size: tuple[int, int] | None = None,
        scales: tuple[tuple[float, ...], ...] = ((1.0,),),
        limit: int | None = None,
    ) -> None: ...


def test_defaults_are_the_keyword_only_arguments():
    names = ["count", "rate", "kind", "use_it", "size", "scales", "limit"]
    assert list(option_defaults(Part)) == names
    assert option_defaults(Part)["scales"] == ((1.0,),)
    assert "in_channels" not in option_defaults(Yolact)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("rate", 6, 6.0),
        ("count", 4, 4),
        ("size", [2, 3], (2, 3)),
        ("size", None, None),
        ("limit", None, None),
        ("limit", 8, 8),
        ("scales", [[24], [48, 96.5]], ((24.0,), (48.0, 96.5))),
        ("scales", [], ()),
        ("use_it", True, True),
    ],
)
def test_values_become_what_the_annotation_says(name, value, expected):
    (checked,) = check_options(Part, {name: value}).values()
    assert checked == expected
    assert type(checked) is type(expected)


def test_integers_inside_of_tuples_become_floats():
    scales = check_options(Part, {"scales": [[24]]})["scales"]
    assert type(scales[0][0]) is float


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 2.0),
        ("count", True),
        ("count", "2"),
        ("count", None),
        ("rate", True),
        ("rate", "0.1"),
        ("rate", None),
        ("kind", 3),
        ("use_it", 1),
        ("size", [1, 2, 3]),
        ("size", 5),
        ("size", [1.5, 2]),
        ("scales", [24.0]),
        ("scales", "ab"),
        ("limit", 1.5),
    ],
)
def test_other_types_are_refused(name, value):
    with pytest.raises(TypeError, match=f"option core.{name} of Part"):
        check_options(Part, {name: value}, where="core.")


def test_misspelt_option_names_the_nearest():
    with pytest.raises(KeyError, match="did you mean core.count"):
        check_options(Part, {"cuont": 3}, where="core.")
    with pytest.raises(KeyError, match="it knows"):
        check_options(Part, {"zzzzzzzz": 3})


def test_functions_have_options_too():
    def build(*, width: int = 3) -> None: ...

    assert check_options(build, {"width": 5}) == {"width": 5}
    assert option_defaults(build) == {"width": 3}


def test_all_defaults_of_yolact_pass_their_own_check():
    defaults = option_defaults(Yolact)
    assert check_options(Yolact, defaults) == defaults
