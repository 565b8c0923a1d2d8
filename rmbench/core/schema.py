"""Typed values from plain ones: a file's mapping, a caller's keywords, or texts of the command line.

A dataclass defines a file: its options are keys (see `rmbench.core.options`). `parse` reads a mapping into
one, `from_values` what a Python caller gave, `from_text` a text of `-T key=value`. `json_schema` makes the
JSON Schema for editors. Annotations may be str, int, float, bool, Path, None, Any, Literal, `X | Y`,
`tuple[X, ...]`, `tuple[X, Y]`, `Mapping[str, X]`, another dataclass, and `Annotated[X, Option(...)]`. A class
attribute `MORE_KEYS = True` allows keys that are not fields; their values are not read. `MORE_KEYS` may be an
annotation instead: the type of their values.

pydantic was tried in its place; docs/contributing.md has the comparison.
"""

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, is_dataclass, replace
from math import isfinite
from numbers import Number
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

from rmbench.core.options import REQUIRED, Option, Parameter, build, members_of, parameters_of, unwrapped
from rmbench.errors import ConfigError, UnknownNameError

T = TypeVar("T")

_SCALARS = {
    str: ("string", "text"), int: ("integer", "a whole number"), float: ("number", "a number"),
    bool: ("boolean", "true or false"), NoneType: ("null", "none"), Path: ("string", "a path"),
}  # fmt: skip
"""Type -> its name in JSON Schema, and in messages."""
_BOOLS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)


@dataclass(frozen=True, slots=True)
class _At:
    """The place of a value, for messages: a file, perhaps a line, and the keys that lead to the value."""

    where: str
    line: int | None = None
    keys: str = ""
    word: Literal["key", "option"] = "key"
    """What the outermost names are: keys of a file, or options of a function or of the command line."""
    text: bool = False
    """Every value is a text of the command line."""

    def beside(self, key: object, owner: Any) -> "_At":
        return replace(self, line=getattr(owner, "lines", {}).get(key, self.line))

    def key(self, key: object, owner: Any) -> "_At":
        lead = ": option" if self.word == "option" and not self.keys else ", key"
        return replace(self.beside(key, owner), keys=f"{self.keys}{lead} {str(key)!r}")

    def entry(self, n: int, owner: Any) -> "_At":
        return replace(self, line=getattr(owner, "line", self.line), keys=f"{self.keys}, entry {n}")

    def wrong(self, value: Any, expected: Any) -> ConfigError:
        """Return the error for a value; `expected` is an annotation, or a text."""
        text, said = repr(value), expected if isinstance(expected, str) else words(expected)
        verb = ":" if self.word == "key" else " is"
        return ConfigError(f"{self}{verb} {text if len(text) <= 60 else text[:57] + '...'}; expected {said}")

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
        derived: Fields marked `NO_OPTION`, such as the path of the file.

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


def from_values(cls: type[T], values: Mapping[str, Any], owner: str) -> T:
    """Return a dataclass from what a caller gave to `owner`; None stands for an option's default.

    Raises:
        UnknownNameError: If `owner` has no such option, or a value is not one of the choices.
        ConfigError: If a value is of another type or outside its bounds, or a required one is missing.
    """
    return _dataclass(cls, values, _At(owner, word="option"))


def from_text(hint: Any, text: str, where: str) -> Any:
    """Return a text of the command line as a value of the annotation `hint`.

    Raises:
        UnknownNameError: If it is not one of the choices.
        ConfigError: If it is not of that type.
    """
    return _value(hint, text, _At(where, word="option", text=True))


def typed_options(
    target: Callable[..., Any], options: Mapping[str, str], where: str, reserved: Collection[str] = ()
) -> dict[str, Any]:
    """Return `options` as keyword arguments for `target`, each converted to its annotated type.

    Without an annotation the default's type decides, else the text is passed on. `reserved` names are filled
    in by the caller and cannot be set.

    Raises:
        UnknownNameError: If `target` has no such parameter and takes no `**options`.
        ConfigError: If a value does not fit its type, or a required parameter is missing.
    """
    known = {name: one for name, one in parameters_of(target).items() if name not in reserved}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(target).parameters.values())
    typed: dict[str, Any] = {}
    for key, text in options.items():
        if key in known:
            typed[key] = from_text(known[key].hint, text, f"{where}: option {key!r}")
        elif takes_any and key not in reserved:
            typed[key] = text
        else:
            raise UnknownNameError("option", key, known, where)
    if missing := [n for n, o in known.items() if o.default is REQUIRED and n not in typed]:
        raise ConfigError(f"{where}: option {missing[0]!r} is required; expected {missing[0]}=VALUE")
    return typed


def filled(given: Mapping[str, Any], known: Mapping[str, Parameter], where: str) -> dict[str, Any]:
    """Return every known option as a task's identity holds it: the given value, checked, or its default.

    Raises:
        UnknownNameError: If a given one is not known.
        ConfigError: If a value does not fit, or one that must be given is missing.
    """
    for key in given:
        if key not in known:
            raise UnknownNameError("parameter", key, known, where)
    for key, one in known.items():
        if one.default is REQUIRED and key not in given:
            raise ConfigError(f"{where}: key {key!r} is missing ({one.help or written(one.hint)})")
    values = {
        key: from_text(one.hint, str(given[key]), f"{where}, key {key!r}") if key in given else one.default
        for key, one in known.items()
    }
    return settled(values, known, where)


def settled(values: Mapping[str, Any], known: Mapping[str, Parameter], where: str) -> dict[str, Any]:
    """Return `values` without later options at their default.

    Raises:
        ConfigError: If an option is given where it does not apply, or is missing where it does.
    """
    for name, one in known.items():
        if one.option.only_with is None:
            continue
        other, meant = one.option.only_with
        applies = values.get(other, known[other].default) in meant
        given = values.get(name, one.default) is not None
        if given and not applies:
            raise ConfigError(f"{where}: {name!r} means something only with {other}={' or '.join(meant)}")
        if applies and not given:
            raise ConfigError(f"{where}: {other}={values[other]} needs {name!r} ({one.help})")
    later = {name: one.default for name, one in known.items() if one.option.later}
    return {k: v for k, v in values.items() if k not in later or v != later[k]}


def words(hint: Any) -> str:
    """Return a type in words, as messages say it: `a whole number from 1`."""
    base, option = unwrapped(hint)
    if option.expected:
        said = option.expected
    elif members := members_of(hint):
        return " or ".join(words(m) for m in members if m is not NoneType)
    elif get_origin(base) is Literal:
        said = " or ".join(map(str, get_args(base)))
    elif get_origin(base) is tuple:
        said = f"a list of {_plural(get_args(base)[0])}{', not empty' if option.low else ''}"
    elif is_dataclass(base):
        said = f"a mapping with {', '.join(parameters_of(base))}"
    elif get_origin(base) is not None:
        said = "a mapping of names to values"
    else:
        edges = (f" {word} {edge:g}" for word, edge in option.edges if edge is not None)
        said = "".join((_SCALARS.get(base, ("", "a value"))[1], *edges))
    return f"{said}, or a list of them" if option.single else said


def _plural(hint: Any) -> str:
    said = words(hint)
    many = {"text": "texts", "a whole number": "whole numbers", "a number": "numbers"}
    start = next((start for start in many if said.startswith(start)), None)
    if start is not None:
        return many[start] + said.removeprefix(start)
    return "mappings" if said.startswith("a mapping") else said


def written(hint: Any) -> str:
    """Return how values are written on the command line: `text`, `whole number`, `auto|sdpa`."""
    base = unwrapped(hint)[0]
    if base is bool:
        return "yes|no"
    if base in _SCALARS:
        return _SCALARS[base][1].removeprefix("a ")
    if get_origin(base) is Literal:
        return "|".join(map(str, get_args(base)))
    members = [m for m in members_of(hint) or get_args(base) if m is not NoneType]
    return "|".join(map(written, members)) or getattr(base, "__name__", str(base))


def _dataclass(cls: type[T], given: Any, at: _At, derived: Mapping[str, Any] | None = None) -> T:
    known = parameters_of(cls)
    if not isinstance(given, Mapping):
        raise at.wrong(given, f"a mapping with {', '.join(known)}")
    for key in given:
        if key in known or (more := getattr(cls, "MORE_KEYS", False)) is True:
            continue
        if more is False:
            raise UnknownNameError(at.word, str(key), known, str(at.beside(key, given)))
        _value(more, given[key], at.key(key, given))
    values = dict(derived or {})
    for name, one in known.items():
        if given.get(name) is not None or (name in given and one.default is REQUIRED):
            values[name] = _value(one.hint, given[name], at.key(name, given))
        elif one.default is REQUIRED:
            raise ConfigError(f"{at}: {at.word} {name!r} is missing")
    return build(cls, values)


def _value(hint: Any, value: Any, at: _At) -> Any:
    if members := members_of(hint):
        return _one_of(members, value, at, hint)
    base, option = unwrapped(hint)
    if option.convert is not None:
        if not isinstance(value, (str, list, tuple) if get_origin(base) is tuple else str):
            raise at.wrong(value, hint)
        return option.convert(value, str(at))
    if option.single and not isinstance(value, list | tuple):
        return (_value(get_args(base)[0], value, at),)
    if option.short and isinstance(value, str):
        value = {option.short: value}
    if option.as_text and isinstance(value, Number | PathLike):
        value = str(value)
    found = _plain(base, value, at, hint)
    size = len(found) if isinstance(found, tuple) else found
    fits = not isinstance(size, int | float) or option.holds(size)
    if isinstance(found, str) and option.pattern is not None:
        fits = re.fullmatch(option.pattern, found) is not None
    if not fits:
        raise at.wrong(found if at.text else value, hint)
    return found


def _plain(base: Any, value: Any, at: _At, hint: Any) -> Any:
    """Return `value` as the bare type `base`, without its bounds."""
    origin, args = get_origin(base), get_args(base)
    if origin is Literal:
        same = (c for c in args if (str(c) == value if at.text else c == value and type(c) is type(value)))
        if (found := next(same, None)) is None:
            raise UnknownNameError("value", str(value), map(str, args), str(at))
        return found
    if base in (Any, object):
        return value
    if at.text and base not in _SCALARS:
        raise ConfigError(f"{at} has type {base!r}, which cannot be given as text")
    if is_dataclass(base):
        return _dataclass(base, value, at)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, list | tuple) or (args[-1] is not ... and len(value) != len(args)):
            raise at.wrong(value, hint)
        hints = [args[0]] * len(value) if args[-1] is ... else args
        return tuple(
            _value(hint, v, at.entry(n, v)) for n, (hint, v) in enumerate(zip(hints, value, strict=True), 1)
        )
    if origin is not None:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise at.wrong(value, hint)
        return {key: _value(args[1], v, at.key(key, value)) for key, v in value.items()}
    return _scalar(base, value, at, hint)


def _one_of(members: tuple[Any, ...], value: Any, at: _At, hint: Any) -> Any:
    """Return `value` as the first member that takes it; if only one can, its own error is told."""
    if NoneType in members and (value is None or (at.text and value.lower() == "none")):
        return None
    others = [m for m in members if m is not NoneType]
    if isinstance(value, Mapping):
        others = [m for m in others if is_dataclass(unwrapped(m)[0])] or others
    if len(others) == 1 and not at.text:
        return _value(others[0], value, at)
    if at.text:  # str takes every text, and int must be tried before float: "3" is a whole number
        order: list[Any] = [int, float, bool]
        others.sort(key=lambda m: (m is str, order.index(m) if m in order else len(order)))
    for member in others:
        try:
            return _value(member, value, at)
        except ConfigError as error:
            last = error
            if at.text and str(error).endswith("a finite number"):  # a number: no other member takes it
                raise
    if at.text and isinstance(last, UnknownNameError):  # it names the choices
        raise last
    raise at.wrong(value, words(hint) + (" or none" if at.text and NoneType in members else ""))


def _scalar(base: Any, value: Any, at: _At, hint: Any) -> Any:
    if at.text:
        try:
            value = _BOOLS[value.lower()] if base is bool else base(value)
        except (KeyError, ValueError):
            raise at.wrong(value, base) from None
    if base is Path and isinstance(value, str | PathLike):
        return Path(value)
    if base is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, base) or (isinstance(value, bool) and base is not bool):
        raise at.wrong(value, hint)
    if isinstance(value, float) and not isfinite(value):
        raise at.wrong(value, "a finite number")
    return value


def json_schema(cls: type, title: str, *others: type) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the files that `parse` reads into one of these classes."""
    shapes = [_object(one) for one in (cls, *others)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "description": " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split()),
        **({"anyOf": shapes} if others else shapes[0]),
    }


def _object(cls: Any) -> dict[str, Any]:
    known, more = parameters_of(cls), getattr(cls, "MORE_KEYS", False)
    return {
        "type": "object",
        "properties": {name: schema_of(one) for name, one in known.items()},
        "required": [name for name, one in known.items() if one.default is REQUIRED],
        "additionalProperties": more if isinstance(more, bool) else _json_type(more),
    }


def schema_of(one: Parameter) -> dict[str, Any]:
    """Return the JSON Schema of the values of an option, with its help and its default."""
    said = {"description": one.help} if one.help else {}
    shown = list(one.default) if isinstance(one.default, tuple) else one.default
    default = {} if shown in (REQUIRED, None, [], {}) or is_dataclass(shown) else {"default": shown}
    return {**_json_type(one.hint), **said, **default}


def _json_type(hint: Any) -> dict[str, Any]:
    """Return the JSON Schema of one annotation."""
    if members := members_of(hint):
        parts = [_json_type(m) for m in members]
        return parts[0] if len(parts) == 1 else {"anyOf": parts}
    base, option = unwrapped(hint)
    origin, args = get_origin(base), get_args(base)
    found: dict[str, Any] = {}
    if option.convert is not None:
        found = {"type": "string"}
    elif origin is Literal:
        found = {"enum": list(args)}
    elif origin is tuple and args[-1] is ...:
        found = {"type": "array", "items": _json_type(args[0])}
    elif origin is tuple:
        items, n = [_json_type(a) for a in args], len(args)
        found = {"type": "array", "prefixItems": items, "minItems": n, "maxItems": n}
    elif is_dataclass(base):
        found = _object(base)
    elif origin is not None:
        found = {"type": "object", "additionalProperties": _json_type(args[1])}
    elif base is not Any:
        found = {"type": _SCALARS[base][0]}
    return _limited(found, option)


def _limited(found: dict[str, Any], option: Option) -> dict[str, Any]:
    least = "minItems" if found.get("type") == "array" else "minimum"
    names = (least, "exclusiveMinimum", "maximum", "exclusiveMaximum")
    found |= {name: edge for name, (_, edge) in zip(names, option.edges, strict=True) if edge is not None}
    if option.pattern is not None:
        found["pattern"] = f"^(?:{option.pattern})$"
    if option.as_text:
        found["type"] = ["string", "number", "boolean"]
    if option.single:
        return {"anyOf": [found["items"], found]}
    return {"anyOf": [{"type": "string"}, found]} if option.short else found
