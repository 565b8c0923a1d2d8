"""Typed values from plain ones: a mapping of a file, or texts of the command line, to a frozen dataclass.

A dataclass defines a file: fields are keys, annotations are types, and the text below a field is its help.
`parse` reads a mapping into one, `from_text` reads a text of `-T key=value`, and `json_schema` makes the JSON
Schema for editors. Annotations may be str, int, float, bool, Path, None, Any, Literal, `X | Y`,
`tuple[X, ...]`, `tuple[X, Y]`, `Mapping[str, X]`, another dataclass, and `Annotated[X, Rule(...)]`. A class
attribute `MORE_KEYS = True` allows keys that are not fields; their values are not read. `MORE_KEYS` may be an
annotation instead: that of their values.

pydantic was tried in its place; docs/contributing.md has the comparison.
"""

import ast
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from rmbench.errors import ConfigError, UnknownNameError

T = TypeVar("T")

_SCALARS = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "none",
    Path: "a path",
}  # fmt: skip
_JSON_TYPES = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    types.NoneType: "null",
    Path: "string",
}
_WORDS: Mapping[Any, Mapping[str, Any]] = {
    bool: dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False),
    types.NoneType: {"none": None},
}
"""Type -> its values by the texts of the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A limit on the values of a type, inside `Annotated`; each part may be left out."""

    low: float | None = None
    """The smallest number, or the fewest entries."""
    above: float | None = None
    """Numbers are larger than this."""
    high: float | None = None
    below: float | None = None
    """Numbers are smaller than this."""
    pattern: str | None = None
    """Regular expression that the whole text matches."""
    expected: str = ""
    """The form in words, for messages: `org/name@<40-hex commit>`."""
    names: Container[str] = ()
    """The names that may be said, such as a registry; empty for any."""
    kind: str = "value"
    """The word for such a name in messages: `task kind`."""
    own: bool = False
    """Names of one's own are allowed: `FILE.py:NAME`."""
    single: bool = False
    """One entry may stand for a list of one."""
    short: str = ""
    """A text alone may stand for a mapping with this key."""
    as_text: bool = False
    """A number, or true or false, is taken as its text."""
    convert: Callable[[str, str], Any] | None = None
    """Makes the value from its text and the place for messages; the annotated type is the result's."""

    @property
    def edges(self) -> tuple[tuple[str, float | None], ...]:
        """The bounds with their words."""
        return ("from", self.low), ("above", self.above), ("to", self.high), ("below", self.below)

    def holds(self, size: float) -> bool:
        """Say whether a number is within the bounds."""
        return (
            (self.low is None or size >= self.low)
            and (self.above is None or size > self.above)
            and (self.high is None or size <= self.high)
            and (self.below is None or size < self.below)
        )


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a dataclass, for help and completion."""

    name: str
    hint: Any
    default: Any
    """`dataclasses.MISSING` if the key is required."""
    owner: type
    """The dataclass."""

    @property
    def help(self) -> str:
        """The help of the field's option, or the text below the field."""
        option = next(f for f in fields(self.owner) if f.name == self.name).metadata.get("option")
        return option.help if option else _helps(self.owner).get(self.name, "")

    @property
    def choices(self) -> tuple[str, ...]:
        """All values that may be said, where they are few; else empty."""
        return tuple(json_type(self.hint).get("enum", ()))

    @property
    def expected(self) -> str:
        """The type in words."""
        return words(self.hint)


@dataclass(frozen=True, slots=True)
class _At:
    """The place of a value, for messages: a file, perhaps a line, and the keys that lead to the value."""

    where: str
    line: int | None = None
    keys: str = ""
    verb: str = ":"

    def beside(self, key: object, owner: Any) -> "_At":
        return _At(self.where, getattr(owner, "lines", {}).get(key, self.line), self.keys)

    def key(self, key: object, owner: Any) -> "_At":
        return _At(self.where, self.beside(key, owner).line, f"{self.keys}, key {str(key)!r}")

    def entry(self, n: int, owner: Any) -> "_At":
        return _At(self.where, getattr(owner, "line", self.line), f"{self.keys}, entry {n}")

    def __str__(self) -> str:
        line = "" if self.line is None else f", line {self.line}"
        return f"{self.where}{line}{self.keys}"


def parse(cls: type[T], given: Any, where: str, **derived: Any) -> T:
    """Return the values of a file or of one key as the frozen dataclass `cls`.

    A key without a value (null) is one that is not given, if it need not be.

    Args:
        cls: A dataclass; a field without a default is a required key.
        given: What was read. A mapping of `read_yaml` brings line numbers into messages.
        where: The file, for messages.
        derived: Fields that are not keys of the file, such as its path.

    Raises:
        UnknownNameError: If a key, or a value with fixed choices, is not known; with the nearest name.
        ConfigError: If a value is not of its field's type, or a required key is missing.
    """
    return _dataclass(cls, given, _At(where), derived)


def checked(hint: Any, value: Any, where: str) -> Any:
    """Return a plain value as one of the annotation `hint`; it raises as `parse` does.

    Args:
        hint: The annotation.
        value: As JSON or YAML has it.
        where: What begins messages.
    """
    return _value(hint, value, _At(where))


def from_text(hint: Any, text: str, where: str) -> Any:
    """Return a text of the command line as a value of the annotation `hint`.

    Raises:
        UnknownNameError: If it is not one of the choices.
        ConfigError: If it is not of that type.
    """
    (base, rules), at = _unwrapped(hint), _At(where, verb=" is")
    if any(rule.convert for rule in rules):
        return _value(hint, text, at)
    found: Any = text
    if members := _members(base):
        # str takes every text, and int must be tried before float: "3" is a whole number.
        order = [types.NoneType, int, float, bool]
        for member in sorted(members, key=lambda m: (m is str, order.index(m) if m in order else len(order))):
            try:
                return from_text(Annotated[member, *rules] if rules else member, text, where)
            except ConfigError as error:
                last = error
                if str(error).endswith("a finite number"):  # it is a number: no other member takes it
                    raise
        # The choices of an optional value are in its own message.
        said = words(hint) + (" or none" if types.NoneType in members else "")
        raise last if isinstance(last, UnknownNameError) else _wrong(text, said, at)
    if get_origin(base) is Literal:
        found = next((choice for choice in get_args(base) if str(choice) == text), text)
    elif base in _SCALARS:
        try:
            found = _WORDS[base][text.lower()] if base in _WORDS else base(text)
        except (KeyError, ValueError):
            raise _wrong(text, base, at) from None
    elif base not in (Any, object):
        raise ConfigError(f"{where} has type {hint!r}, which cannot be given as text")
    return found if base in (Any, object) else _value(hint, found, at)


@cache
def keys_of(cls: type, derived: tuple[str, ...] = ()) -> dict[str, Key]:
    """Return the keys of a dataclass, in order, with type, default and help."""
    hints = get_type_hints(cls, include_extras=True)
    return {
        f.name: Key(f.name, _bounded(hints[f.name], f), _default(f), cls)
        for f in fields(cls)
        if f.init and f.name not in derived
    }


def _bounded(hint: Any, field: Field[Any]) -> Any:
    """Return the annotation with the bounds of the field's option (see `core.option_fields`)."""
    if (option := field.metadata.get("option")) is None or (option.min, option.max) == (None, None):
        return hint
    low = {"above" if option.min_open else "low": option.min}
    return Annotated[hint, Rule(**low, **{"below" if option.max_open else "high": option.max})]


def words(hint: Any) -> str:
    """Return a type in words, as messages say it: `a whole number from 1`."""
    base, rules = _unwrapped(hint)
    rule = rules[0] if rules else Rule()
    if rule.expected:
        said = rule.expected
    elif members := _members(base):
        said = " or ".join(words(m) for m in members if m is not types.NoneType)
    elif get_origin(base) is Literal:
        said = " or ".join(map(str, get_args(base)))
    elif get_origin(base) is tuple:
        said = f"a list of {_plural(get_args(base)[0])}"
    elif is_dataclass(base):
        said = f"a mapping with {', '.join(keys_of(base))}"  # type: ignore[arg-type]
    elif get_origin(base) is not None:
        said = "a mapping of names to values"
    else:
        said = _SCALARS.get(base, "a value")
    if rule.expected:
        pass
    elif get_origin(base) is tuple:
        said += ", not empty" if rule.low else ""
    else:
        said += "".join(f" {word} {edge:g}" for word, edge in rule.edges if edge is not None)
    return f"{said}, or a list of them" if rule.single else said


def _plural(hint: Any) -> str:
    said = words(hint)
    many = {"text": "texts", "a whole number": "whole numbers", "a number": "numbers"}
    start = next((start for start in sorted(many, key=len, reverse=True) if said.startswith(start)), None)
    if start is not None:
        return many[start] + said.removeprefix(start)
    return "mappings" if said.startswith("a mapping") else said


def _unwrapped(hint: Any) -> tuple[Any, list[Rule]]:
    if get_origin(hint) is not Annotated:
        return hint, []
    base, *rest = get_args(hint)
    return base, [rule for rule in rest if isinstance(rule, Rule)]


def _members(base: Any) -> tuple[Any, ...]:
    return get_args(base) if get_origin(base) in (Union, types.UnionType) else ()


def _wrong(value: Any, hint: Any, at: _At) -> ConfigError:
    text, expected = repr(value), hint if isinstance(hint, str) else words(hint)
    return ConfigError(f"{at}{at.verb} {text if len(text) <= 60 else text[:57] + '...'}; expected {expected}")


def _dataclass(cls: type[T], given: Any, at: _At, derived: Mapping[str, Any]) -> T:
    known = keys_of(cls, tuple(derived))  # type: ignore[arg-type]
    if not isinstance(given, Mapping):
        raise _wrong(given, f"a mapping with {', '.join(known)}", at)
    for key in given:
        if key in known or (more := getattr(cls, "MORE_KEYS", False)) is True:
            continue
        if more is False:
            raise UnknownNameError("key", str(key), known, str(at.beside(key, given)))
        _value(more, given[key], at.key(key, given))
    values = dict(derived)
    for name, key in known.items():
        if given.get(name) is not None or (name in given and key.default is MISSING):
            values[name] = _value(key.hint, given[name], at.key(name, given))
        elif key.default is MISSING:
            raise ConfigError(f"{at}: key {name!r} is missing")
    return cls(**values)


def _value(hint: Any, value: Any, at: _At) -> Any:
    base, rules = _unwrapped(hint)
    for rule in rules:
        if rule.convert is not None:
            if not isinstance(value, str):
                raise _wrong(value, hint, at)
            return rule.convert(value, str(at))
        if rule.single and not isinstance(value, list):
            return (_value(get_args(base)[0], value, at),)
        if rule.short and isinstance(value, str):
            value = {rule.short: value}
        if rule.as_text and isinstance(value, bool | int | float):
            value = str(value)
    found = _plain(base, value, at, hint)
    for rule in rules:
        _check(rule, found, value, hint, at)
    return found


def _plain(base: Any, value: Any, at: _At, hint: Any) -> Any:
    """Return `value` as the bare type `base`, without its rules."""
    origin, args = get_origin(base), get_args(base)
    if members := _members(base):
        return _one_of(members, value, at, hint)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in args):
            raise UnknownNameError("value", str(value), map(str, args), str(at))
        return value
    if is_dataclass(base):
        return _dataclass(base, value, at, {})  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, list | tuple) or (args[-1] is not ... and len(value) != len(args)):
            raise _wrong(value, hint, at)
        hints = [args[0]] * len(value) if args[-1] is ... else args
        return tuple(
            _value(hint, v, at.entry(n, v)) for n, (hint, v) in enumerate(zip(hints, value, strict=True), 1)
        )
    if origin is not None:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise _wrong(value, hint, at)
        return {key: _value(args[1], v, at.key(key, value)) for key, v in value.items()}
    return _scalar(base, value, at, hint)


def _one_of(members: tuple[Any, ...], value: Any, at: _At, hint: Any) -> Any:
    """Return `value` as the first member that takes it; if only one can, its own error is told."""
    if value is None and types.NoneType in members:
        return None
    others = [m for m in members if m is not types.NoneType]
    if isinstance(value, Mapping):
        others = [m for m in others if is_dataclass(_unwrapped(m)[0])] or others
    if len(others) == 1:
        return _value(others[0], value, at)
    for member in others:
        try:
            return _value(member, value, at)
        except ConfigError:
            continue
    raise _wrong(value, hint, at)


def _scalar(base: Any, value: Any, at: _At, hint: Any) -> Any:
    if base is Path and isinstance(value, str):
        return Path(value)
    if base is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if base is not Any and (not isinstance(value, base) or (isinstance(value, bool) and base is not bool)):
        raise _wrong(value, hint, at)
    if isinstance(value, float) and not isfinite(value):
        raise _wrong(value, "a finite number", at)
    return value


def _check(rule: Rule, found: Any, value: Any, hint: Any, at: _At) -> None:
    size = len(found) if isinstance(found, tuple) else found
    if isinstance(size, int | float) and not rule.holds(size):
        raise _wrong(value, hint, at)
    if not isinstance(found, str):
        return
    if rule.pattern is not None and not re.fullmatch(rule.pattern, found):
        raise _wrong(value, hint, at)
    if rule.names != () and not (rule.own and ".py:" in found) and found not in rule.names:
        raise UnknownNameError(rule.kind, found, cast(Iterable[str], rule.names), str(at))


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


@cache
def _helps(cls: type) -> dict[str, str]:
    """Return the help of each field that is an option, else the text below it; those of base classes too."""
    found = {f.name: f.metadata["option"].help for f in fields(cls) if "option" in f.metadata}
    for owner in reversed([c for c in cls.__mro__ if is_dataclass(c)]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        except (OSError, TypeError, SyntaxError):  # made at run time: there is no text
            continue
        statements = getattr(body, "body", [])
        for field, below in pairwise(statements):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                found[ast.unparse(field.target)] = " ".join(str(below.value.value).split())
    return found


def json_schema(cls: type, title: str, derived: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the files that `parse` reads into `cls`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "description": " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split()),
        **_object(cls, derived),
    }


def _object(cls: type, derived: tuple[str, ...] = ()) -> dict[str, Any]:
    known = keys_of(cls, derived)
    return {
        "type": "object",
        "properties": {name: _property(key) for name, key in known.items()},
        "required": [name for name, key in known.items() if key.default is MISSING],
        "additionalProperties": more
        if isinstance(more := getattr(cls, "MORE_KEYS", False), bool)
        else json_type(more),
    }


def _property(key: Key) -> dict[str, Any]:
    found = {"description": key.help} if key.help else {}
    shown = list(key.default) if isinstance(key.default, tuple) else key.default
    default = {} if shown in (MISSING, None, [], {}) or is_dataclass(shown) else {"default": shown}
    return {**json_type(key.hint), **found, **default}


def json_type(hint: Any) -> dict[str, Any]:
    """Return the JSON Schema of one annotation."""
    base, rules = _unwrapped(hint)
    origin, args = get_origin(base), get_args(base)
    found: dict[str, Any] = {}
    if any(rule.convert for rule in rules):
        found = {"type": "string"}
    elif members := _members(base):
        parts = [json_type(m) for m in members]
        found = parts[0] if len(parts) == 1 else {"anyOf": parts}
    elif origin is Literal:
        found = {"enum": list(args)}
    elif origin is tuple and args[-1] is ...:
        found = {"type": "array", "items": json_type(args[0])}
    elif origin is tuple:
        found = {
            "type": "array",
            "prefixItems": [json_type(a) for a in args],
            "minItems": len(args),
            "maxItems": len(args),
        }
    elif is_dataclass(base):
        found = _object(base)  # type: ignore[arg-type]
    elif origin is not None:
        found = {"type": "object", "additionalProperties": json_type(args[1])}
    elif base is not Any:
        found = {"type": _JSON_TYPES[base]}
    for rule in rules:
        found = _limited(found, rule)
    return found


def _limited(found: dict[str, Any], rule: Rule) -> dict[str, Any]:
    names = (
        "minItems" if found.get("type") == "array" else "minimum",
        "exclusiveMinimum",
        "maximum",
        "exclusiveMaximum",
    )
    found |= {name: edge for name, (_, edge) in zip(names, rule.edges, strict=True) if edge is not None}
    if rule.pattern is not None:
        found["pattern"] = f"^(?:{rule.pattern})$"
    if rule.names != ():
        named = {"enum": sorted(cast(Iterable[str], rule.names))}
        found = {"anyOf": [named, {"type": "string", "pattern": r"\.py:"}]} if rule.own else named
    if rule.as_text:
        found["type"] = ["string", "number", "boolean"]
    if rule.single:
        return {"anyOf": [found["items"], found]}
    return {"anyOf": [{"type": "string"}, found]} if rule.short else found
