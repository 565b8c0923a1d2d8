"""Options as fields of dataclasses: values from callers and files, bounds, groups, signatures."""

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from rmbench.core.option_fields import from_values, group, option, option_fields, takes_options
from rmbench.errors import ConfigError, UnknownNameError


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = option(3, "Size.", min=1, max=9)
    share: float = option(0.5, "Share.", min=0, max=1, min_open=True)
    hidden: int = 0


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str = option(MISSING, "Name.")
    inner: Inner = group(Inner, "size", "share")
    kind: Literal["a", "b"] = option("a", "Kind.")
    place: Path | None = option(None, "Place.")
    more: Mapping[str, str] = option(dict, "More.", "-x")
    part: tuple[float, float] | None = option(None, "Part.")
    texts: tuple[str, ...] = option((), "Texts.")
    flag: bool = option(False, "Flag.")


def test_options_of_a_group_stand_among_those_of_its_holder() -> None:
    names = ["name", "size", "share", "kind", "place", "more", "part", "texts", "flag"]
    assert list(option_fields(Outer)) == names
    assert option_fields(Outer)["name"].default is MISSING


def test_values_become_the_types_of_their_fields() -> None:
    given = {
        "name": "n",
        "size": 4,
        "share": 1,
        "place": "x/y",
        "more": {"k": 2},
        "part": (0, 1),
        "texts": "t",
    }
    made = from_values(Outer, {**given, "kind": None}, "here")
    assert made == Outer(
        name="n",
        inner=Inner(size=4, share=1.0),
        place=Path("x/y"),
        more={"k": "2"},
        part=(0.0, 1.0),
        texts=("t",),
    )
    assert isinstance(made.inner.share, float)
    assert from_values(Outer, {"name": "n", "part": "0.2:0.5"}, "here").part == (0.2, 0.5)
    assert (
        from_values(Outer, {"name": "n"}, "here").more is not from_values(Outer, {"name": "n"}, "here").more
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("size", 0, "size is 0; expected a whole number from 1 to 9"),
        ("size", 10, "size is 10"),
        ("size", 2.5, "size is 2.5"),
        ("size", True, "size is True"),
        ("size", "4", "size is '4'"),
        ("share", 0, "share is 0; expected a number above 0 to 1"),
        ("share", float("nan"), "share is nan"),
        ("share", 1.01, "share is 1.01"),
        ("kind", "c", "kind is 'c'; expected a or b"),
        ("flag", "yes", "flag is 'yes'; expected True or False"),
        ("part", (0.5, 0.5), "part: "),
    ],
)
def test_a_value_outside_is_refused_by_name(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_values(Outer, {"name": "n", name: value}, "here")
    assert str(error.value).startswith(message)


def test_an_unknown_name_and_a_field_that_is_no_option_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"here: unknown option 'flg'.*Did you mean 'flag'"):
        from_values(Outer, {"name": "n", "flg": True}, "here")
    with pytest.raises(UnknownNameError, match="'hidden'"):
        from_values(Outer, {"name": "n", "hidden": 1}, "here")


def test_a_function_shows_the_options_that_it_takes() -> None:
    @takes_options(Outer, without=("flag",))
    def function(name: int, **rest: Any) -> None:
        """Do it.

        Args:
            name: Its own.
        """

    shown = inspect.signature(function).parameters
    assert list(shown) == ["name", "size", "share", "kind", "place", "more", "part", "texts", "rest"]
    assert shown["name"].annotation is int
    assert shown["size"].default == 3
    assert "    kind: Kind.\n" in (function.__doc__ or "")
