"""YAML of users: plain values, each key once, no references; anything else is an error with its line."""

from pathlib import Path

import pytest

from rmbench.core.yaml import parse_yaml, read_yaml
from rmbench.errors import ConfigError

FILE = Path("mine.yaml")

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOMB, "line 2: a reference, \\*a; write the value out"),
        ("a: 1\nb: {<<: *x}", "line 2: a reference"),
        ("x: 1\n? [1]\n: 2", "line 2: a list or mapping is a key"),
        ("? {a: b}\n: c", "line 1: a list or mapping is a key"),
        ("a: 2001-99-99", "line 1: not a value of timestamp: month must be in 1..12"),
        ("a: 2001-01-01T99:00:00Z", "line 1: not a value of timestamp"),
        ("a: 1\nb: !!int abc", "line 2: not a value of int"),
        ("a: !!int ''", "line 1: not a value of int"),
        ("a: !!int 99:99:x", "line 1: not a value of int"),
        ("a: !!bool maybe", "line 1: not a value of bool"),
        ("a: !!timestamp x", "line 1: not a value of timestamp"),
        ("a: !!float x", "line 1: not a value of float"),
        ("a: " + "9" * 5000, "line 1: not a value of int"),
        ('a: "\\ud800"', "line 1: not a value of str: half a character"),
        ("[" * 10_000, "levels of lists and mappings"),
        ("a: " + "[" * 150 + "]" * 150, "levels of lists and mappings"),
        ("a: " + "{b: " * 10_000, "levels of lists and mappings"),
        ("a: 1\na: 2", "line 2: key 'a' is given twice"),
        ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: \x00", "special characters are not allowed"),
        ("- a", "expected a mapping of keys to values"),
    ],
)
def test_what_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^mine.yaml.*{told}"):
        parse_yaml(text, FILE)


def test_a_file_that_is_too_large_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("a: " + "x" * (16 * 2**20))
    with pytest.raises(ConfigError, match="expected at most 16,777,216"):
        read_yaml(path)


def test_plain_values_are_read() -> None:
    text = "a: 1\nb: [1e-3, true, null, 'x']\nc: {d: 99:99:99}\n"
    assert parse_yaml(text, FILE) == {"a": 1, "b": [0.001, True, None, "x"], "c": {"d": "99:99:99"}}
