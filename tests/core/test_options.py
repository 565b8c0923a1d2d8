"""Options as fields of dataclasses: values from callers and files, bounds, groups, signatures."""

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from rmbench.core.options import NO_OPTION, REQUIRED, Group, Option, Part, Texts, parameters_of, takes_options
from rmbench.core.schema import from_values
from rmbench.errors import ConfigError, UnknownNameError


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: Annotated[int, Option("Size.", low=1, high=9)] = 3
    share: Annotated[float, Option("Share.", above=0, high=1)] = 0.5
    hidden: Annotated[int, NO_OPTION] = 0


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Some.

    Args:
        flag: Flag.
    """

    name: str
    """Name."""
    inner: Annotated[Inner, Group("size", "share")] = field(default_factory=Inner)
    kind: Annotated[Literal["a", "b"], Option("Kind.")] = "a"
    """Not shown: the marker says it."""
    place: Annotated[Path | None, Option("Place.")] = None
    more: Annotated[Texts, Option("More.", flags="-x")] = field(default_factory=dict)
    part: Part = None
    texts: Annotated[tuple[str, ...], Option("Texts.", single=True)] = ()
    flag: bool = False
    few: Annotated[Annotated[int, Option("Fewer.", low=2)] | None, Option("Few.")] = None


def test_options_of_a_group_stand_among_those_of_its_holder() -> None:
    names = ["name", "size", "share", "kind", "place", "more", "part", "texts", "flag", "few"]
    known = parameters_of(Outer)
    assert list(known) == names
    assert known["name"].default is REQUIRED
    told = [
        "Name.",
        "Size.",
        "Share.",
        "Kind.",
        "Place.",
        "More.",
        known["part"].help,
        "Texts.",
        "Flag.",
        "Few.",
    ]
    assert [known[name].help for name in names] == told


def test_values_become_the_types_of_their_fields() -> None:
    given = {
        "name": "n",
        "size": 4,
        "share": 1,
        "place": "x/y",
        "more": {"k": 2, "on": True, "at": Path("x")},
        "part": (0, 1),
        "texts": "t",
    }
    made = from_values(Outer, {**given, "kind": None}, "here")
    assert made == Outer(
        name="n",
        inner=Inner(size=4, share=1.0),
        place=Path("x/y"),
        more={"k": "2", "on": "True", "at": "x"},
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
        ("size", 0, "here: option 'size' is 0; expected a whole number from 1 to 9"),
        ("size", 10, "here: option 'size' is 10"),
        ("size", 2.5, "here: option 'size' is 2.5; expected a whole number from 1 to 9"),
        ("size", True, "here: option 'size' is True"),
        ("size", "4", "here: option 'size' is '4'"),
        ("share", 0, "here: option 'share' is 0; expected a number above 0 to 1"),
        ("share", float("nan"), "here: option 'share' is nan; expected a finite number"),
        ("share", 1.01, "here: option 'share' is 1.01"),
        ("kind", "c", "here: option 'kind': unknown value 'c'. Known: a, b"),
        ("flag", "yes", "here: option 'flag' is 'yes'; expected true or false"),
        ("part", (0.5, 0.5), "here: option 'part': '0.5:0.5'; expected LOW:HIGH with 0 <= LOW < HIGH <= 1"),
        ("part", 0.5, "here: option 'part' is 0.5; expected LOW:HIGH, such as 0:0.5"),
        ("few", 1, "here: option 'few' is 1; expected a whole number from 2"),
        ("few", "x", "here: option 'few' is 'x'; expected a whole number from 2"),
        ("more", {"k": None}, "here: option 'more', key 'k' is None; expected text"),
        ("more", {"k": [1]}, "here: option 'more', key 'k' is [1]; expected text"),
        ("place", 3, "here: option 'place' is 3; expected a path"),
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
    assert list(shown) == ["name", "size", "share", "kind", "place", "more", "part", "texts", "few", "rest"]
    assert shown["name"].annotation is int
    assert shown["size"].default == 3
    assert "    kind: Kind.\n" in (function.__doc__ or "")
