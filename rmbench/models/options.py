"""`-M key=value` (-G, -L): texts from the command line, typed by the signature of what they are passed to."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from rmbench.errors import ConfigError, UnknownNameError

_BOOLS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)
_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "none"}


def typed_options(
    target: Callable[..., Any], options: Mapping[str, str], where: str, reserved: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Return `options` as keyword arguments for `target`, each converted to its annotated type.

    Annotations may be int, float, bool, str, Path, Literal and unions of them with None; without an
    annotation the default's type decides, else the text is passed on. `reserved` names are filled in by
    the caller and cannot be set.

    Raises:
        UnknownNameError: If `target` has no such parameter and takes no `**options`.
        ConfigError: If a value does not fit its type, or a required parameter is missing.
    """
    parameters = inspect.signature(target).parameters
    named = {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind in _BY_KEYWORD and name not in reserved
    }
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    hints = _hints(target)
    typed: dict[str, Any] = {}
    for key, text in options.items():
        if key in named:
            typed[key] = _convert(text, _annotation(named[key], hints), f"{where}: option {key!r}")
        elif takes_any and key not in reserved:
            typed[key] = text
        else:
            raise UnknownNameError("option", key, named, where)
    missing = [n for n, p in named.items() if p.default is p.empty and n not in typed]
    if missing:
        raise ConfigError(f"{where}: option {missing[0]!r} is required; expected {missing[0]}=VALUE")
    return typed


def accepts(target: Callable[..., Any], name: str) -> bool:
    """Return whether `target` has a parameter called `name` that can be passed by keyword."""
    parameter = inspect.signature(target).parameters.get(name)
    return parameter is not None and parameter.kind in (
        parameter.POSITIONAL_OR_KEYWORD,
        parameter.KEYWORD_ONLY,
    )


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    function = getattr(target, "__init__", target) if isinstance(target, type) else target
    try:
        return typing.get_type_hints(function)
    except Exception:  # a name that only exists under TYPE_CHECKING: fall back to what the signature shows
        return {}


def _annotation(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    if parameter.name in hints:
        return hints[parameter.name]
    if isinstance(parameter.annotation, str):
        simple = {"int": int, "float": float, "bool": bool, "str": str}
        return simple.get(parameter.annotation, str)
    if parameter.annotation is not parameter.empty:
        return parameter.annotation
    if parameter.default is parameter.empty or parameter.default is None:
        return str
    return type(parameter.default)


def _convert(text: str, annotation: Any, where: str) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        return _convert_union(text, get_args(annotation), where)
    if get_origin(annotation) is Literal:
        for choice in get_args(annotation):
            if text == str(choice):
                return choice
        raise UnknownNameError("value", text, map(str, get_args(annotation)), where)
    try:
        if annotation is bool:
            return _BOOLS[text.lower()]
        if annotation is types.NoneType:
            return {"none": None}[text.lower()]
        if annotation in (int, float, Path):
            return annotation(text)
    except (KeyError, ValueError):
        expected = _EXPECTED.get(annotation, annotation)
        raise ConfigError(f"{where} is {text!r}; expected {expected}") from None
    if annotation in (str, Any, object):
        return text
    raise ConfigError(f"{where} has type {annotation!r}, which cannot be given as text")


def _convert_union(text: str, members: tuple[Any, ...], where: str) -> Any:
    # str swallows everything, and int must be tried before float: "3" is a whole number.
    order = [types.NoneType, bool, int, float]
    ranked = sorted(members, key=lambda m: (m is str, order.index(m) if m in order else len(order)))
    if int in members or float in members:
        ranked = sorted(ranked, key=lambda m: (m is str, m is bool))  # "1" is a number first
    for member in ranked:
        try:
            return _convert(text, member, where)
        except ConfigError:
            continue
    expected = " or ".join(_EXPECTED.get(m, getattr(m, "__name__", str(m))) for m in members)
    raise ConfigError(f"{where} is {text!r}; expected {expected}")
