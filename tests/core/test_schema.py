"""Mappings and texts to frozen dataclasses: types, one-line errors, and the JSON Schema of the same classes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest

from rmbench.core.options import NO_OPTION, Option, parameters_of
from rmbench.core.schema import from_text, json_schema, parse, written
from rmbench.core.yaml import read_yaml
from rmbench.errors import ConfigError

PINNED = Annotated[str, Option(pattern=r"\w+@[0-9a-f]{4}", expected="name@<4 hex digits>")]


@dataclass(frozen=True, slots=True)
class Part:
    """A part."""

    id: str
    """What it is called."""
    at_least: Annotated[int, Option(low=1)] = 1


@dataclass(frozen=True, slots=True)
class Whole:
    """All forms of values."""

    parts: Annotated[tuple[Part, ...], Option(low=1)]
    size: (
        Annotated[int, Option(low=1)] | Annotated[str, Option(pattern=r"about \d+", expected="'about N'")]
    ) = 1
    ratio: float | None = None
    mode: Literal["slow", "fast"] = "slow"
    hub: Annotated[tuple[PINNED, ...], Option(single=True)] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    flag: bool = False
    kinds: tuple[Literal["good", "better"], ...] = ()
    bases: Mapping[str, Annotated[Part, Option(short="id")]] = field(default_factory=dict)
    options: Mapping[str, Annotated[str, Option(as_text=True)]] = field(default_factory=dict)
    share: Annotated[float, Option(convert=lambda text, where: float(text) / 100, pattern=r"\d+")] = 0.5
    path: Annotated[Path, NO_OPTION] = Path()


SOUND: dict[str, Any] = {"parts": [{"id": "a"}]}


def read(**changes: Any) -> Whole:
    return parse(Whole, {**SOUND, **changes}, "F", path=Path("here"))


def test_values_become_what_the_annotations_say() -> None:
    found = read(
        size="about 9", ratio=2, hub="x@12ab", pairs=[["a", "b"]], kinds=["good", "better"],
        bases={"x": "p", "y": {"id": "q", "at_least": 2}}, options={"n": 3, "on": True}, share="25",
    )  # fmt: skip
    assert found == Whole(
        parts=(Part("a"),), size="about 9", ratio=2.0, hub=("x@12ab",), pairs=(("a", "b"),),
        kinds=("good", "better"), bases={"x": Part("p"), "y": Part("q", 2)}, options={"n": "3", "on": "True"},
        share=0.25, path=Path("here"),
    )  # fmt: skip
    assert isinstance(found.ratio, float)
    assert read(ratio=None, hub=None) == read()


WRONG = [
    ({"part": 1}, "F: unknown key 'part'. Did you mean 'parts'?"),
    ({"path": "x"}, "F: unknown key 'path'"),
    ({"parts": []}, "F, key 'parts': []; expected a list of mappings, not empty"),
    ({"parts": None}, "F, key 'parts': None; expected a list of mappings, not empty"),
    ({"parts": {"id": "a"}}, "expected a list of mappings"),
    ({"parts": [{"id": "a"}, {}]}, "F, key 'parts', entry 2: key 'id' is missing"),
    ({"parts": [3]}, "F, key 'parts', entry 1: 3; expected a mapping with id, at_least"),
    ({"parts": [{"id": 3}]}, "F, key 'parts', entry 1, key 'id': 3; expected text"),
    ({"parts": [{"id": "a", "at_least": 0}]}, "key 'at_least': 0; expected a whole number from 1"),
    ({"parts": [{"id": "a", "at_least": True}]}, "key 'at_least': True; expected a whole number from 1"),
    ({"parts": [{"id": "a", "at_leest": 2}]}, "entry 1: unknown key 'at_leest'. Did you mean 'at_least'?"),
    ({"size": 0}, "F, key 'size': 0; expected a whole number from 1 or 'about N'"),
    ({"size": "many"}, "F, key 'size': 'many'; expected a whole number from 1 or 'about N'"),
    ({"ratio": "much"}, "F, key 'ratio': 'much'; expected a number"),
    ({"ratio": float("nan")}, "F, key 'ratio': nan; expected a finite number"),
    ({"mode": "fats"}, "F, key 'mode': unknown value 'fats'. Did you mean 'fast'?"),
    ({"hub": "x@main"}, "F, key 'hub': 'x@main'; expected name@<4 hex digits>"),
    ({"hub": 3}, "F, key 'hub': 3; expected name@<4 hex digits>"),
    ({"pairs": [["a"]]}, "F, key 'pairs', entry 1: ['a']; expected"),
    ({"flag": "true"}, "F, key 'flag': 'true'; expected true or false"),
    ({"flag": 1}, "F, key 'flag': 1; expected true or false"),
    ({"kinds": ["god"]}, "F, key 'kinds', entry 1: unknown value 'god'. Did you mean 'good'?"),
    ({"kinds": "good"}, "F, key 'kinds': 'good'; expected a list of good or better"),
    ({"bases": {"x": {"idd": "p"}}}, "F, key 'bases', key 'x': unknown key 'idd'. Did you mean 'id'?"),
    ({"options": {"n": [1]}}, "F, key 'options', key 'n': [1]; expected text"),
    ({"options": [1]}, "F, key 'options': [1]; expected a mapping of names to values"),
    ({"share": 3}, "F, key 'share': 3; expected"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG)
def test_a_mistake_is_one_line_with_place_value_and_what_was_expected(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read(**changes)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_mistake_in_a_file_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for text, said in (
        ("parts:\n  - id: a\n  - {id: 3}\n", "line 3, key 'parts', entry 2, key 'id': 3; expected text"),
        ("parts:\n  - id: a\nsize: 2\nmoode: x\n", "line 4: unknown key 'moode'. Did you mean 'mode'?"),
        ("parts:\n  - id: a\n\n  - at_least: 2\n", "line 4, key 'parts', entry 2: key 'id' is missing"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError) as raised:
            parse(Whole, read_yaml(path), str(path), path=path)
        assert str(raised.value) == f"{path}, {said}" or str(raised.value).startswith(f"{path}, {said}")
    path.write_text("ratio: 1e-3\nparts: [{id: 1e3x}]\n")
    assert parse(Whole, read_yaml(path), str(path), path=path).ratio == 0.001


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (int, "3", 3), (float, "1e-3", 0.001), (bool, "true", True), (str, "3", "3"), (int | None, "none", None),
        (float | None, "2", 2.0), (int | str, "3", 3), (int | str, "x", "x"), (bool | int, "1", 1),
        (Literal["a", 3], "3", 3), (Path, "a/b", Path("a/b")), (Any, "x", "x"),
        (Annotated[int, Option(low=1)] | None, "4", 4), (Annotated[float, Option(convert=lambda t, w: float(t))], "5", 5.0),
    ],
)  # fmt: skip
def test_a_text_becomes_a_value_of_its_type(hint: Any, text: str, value: object) -> None:
    found = from_text(hint, text, "-T x")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("hint", "text", "said"),
    [
        (int, "3.5", "-T x is '3.5'; expected a whole number"),
        (float, "nan", "-T x is nan; expected a finite number"),
        (bool, "perhaps", "-T x is 'perhaps'; expected true or false"),
        (Literal["clean", "official"], "offical", "unknown value 'offical'. Did you mean 'official'?"),
        (Annotated[int, Option(low=2)], "1", "-T x is 1; expected a whole number from 2"),
        (int | None, "many", "-T x is 'many'; expected a whole number"),
        (PINNED, "x", "-T x is 'x'; expected name@<4 hex digits>"),
        (tuple[str, ...], "x", "cannot be given as text"),
    ],
)
def test_a_text_that_does_not_fit_is_refused(hint: Any, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        from_text(hint, text, "-T x")
    assert said in str(raised.value)


def test_the_json_schema_takes_and_refuses_what_parse_does() -> None:
    schema = json_schema(Whole, "A whole")
    checker = jsonschema.Draft202012Validator(schema)
    checker.check_schema(schema)
    for changes in ({}, {"size": "about 9"}, {"hub": "x@12ab"}, {"bases": {"x": "p"}}, {"kinds": ["good"]},
                    {"pairs": [["a", "b"]]}, {"options": {"n": 3}}, {"ratio": 2}):  # fmt: skip
        checker.validate({**SOUND, **changes})
    for changes, _ in WRONG:
        if changes != {"ratio": changes.get("ratio")} or changes["ratio"] == "much":  # JSON has no NaN
            assert not checker.is_valid({**SOUND, **changes}), changes
    properties = schema["properties"]
    assert properties["parts"]["items"]["properties"]["id"]["description"] == "What it is called."
    assert properties["mode"] == {"enum": ["slow", "fast"], "default": "slow"}
    assert schema["required"] == ["parts"]


def test_options_say_their_help_and_how_they_are_written() -> None:
    known = parameters_of(Part)
    assert known["id"].help == "What it is called."
    assert written(known["at_least"].hint) == "whole number"
    assert written(parameters_of(Whole)["mode"].hint) == "slow|fast"
    assert "path" not in parameters_of(Whole)
