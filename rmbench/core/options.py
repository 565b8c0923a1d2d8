"""Typed parameters of tasks: one table, so that the YAML, `-T` and the help say the same.

`-M key=value` (-G, -L): texts from the command line, typed by the signature of what they are passed to.
"""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from rmbench.errors import ConfigError, UnknownNameError


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter."""

    type: type
    """`str`, `int`, `float` or `bool`."""
    default: Any
    """None: left to another parameter, as the help says."""
    help: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    later: bool = False
    """Came after records had been published: at its default it is no part of a task's identity, so theirs
    stays what it was."""
    only_with: tuple[str, tuple[str, ...]] | None = None
    """Another parameter, and its values with which this one means something; there it is needed if its
    default is None."""


PARAMS: dict[str, Mapping[str, Param]] = {
    "all": {
        "invalid": Param(
            str,
            "fail",
            "what a reward that is not finite does: stop, count the item as wrong, or drop it",
            ("fail", "wrong", "drop"),
        ),
    },
    "preference": {
        "convention": Param(
            str,
            "clean",
            "whose published convention to follow",
            ("clean", "judgebench", "rm-bench", "rewardbench"),
        ),
        "ties": Param(
            str,
            None,
            "credit of tied rewards: 0.5, 0, or 1/k; by default what the convention gives",
            ("half", "zero", "fractional"),
        ),
    },
    "calibration": {
        "bins": Param(int, 15, "most bins of the reliability curve; few pairs get fewer", low=2),
        "folds": Param(int, 5, "folds of the cross-fitted temperature", low=2),
    },
    "best_of_n": {
        "gold_meaning": Param(str, "", "what gold is, in words; shown, never computed with"),
        "select": Param(
            str,
            "best",
            "which of n responses is selected: the best; one by softmax of reward / temperature; one of the k"
            " best; one at random, likelier with reward, none far below the best (pessimistic); the best of"
            " reward - penalty x characters, or of reward - penalty x (-log P(response))",
            ("best", "soft", "top-k", "pessimistic", "length-penalty", "logprob-penalty"),
            later=True,
        ),
        "temperature": Param(
            float,
            None,
            "of select=soft or pessimistic, in units of reward; 0 is the best",
            low=0,
            later=True,
            only_with=("select", ("soft", "pessimistic")),
        ),
        "k": Param(
            int,
            None,
            "of select=top-k: how many of the best to choose from",
            low=1,
            later=True,
            only_with=("select", ("top-k",)),
        ),
        "penalty": Param(
            float,
            None,
            "of the penalties: reward per character, or per nat",
            later=True,
            only_with=("select", ("length-penalty", "logprob-penalty")),
        ),
    },
    "reader:alpacaeval": {
        "mode": Param(
            str, "pool", "all models as one pool per prompt, or each against the reference", ("pool", "pairs")
        ),
        "reference": Param(bool, False, "put the reference's own answer into the pool, gold 0.5"),
        "adversarial": Param(
            bool, False, "keep the generators made to fool the judge, marked as such: NullModel, gpt4_gamed"
        ),
        "annotator": Param(str, "weighted_alpaca_eval_gpt4_turbo", "folder of annotations to read"),
    },
    "reader:judgebench": {
        "response_model": Param(str, "", "only pairs written by this model; empty for all"),
    },
    "reader:pku-safe-rlhf": {
        "preference": Param(
            str, "better", "which of the two annotations is gold: more helpful, or safer", ("better", "safer")
        ),
    },
    "reader:summeval": {
        "aspect": Param(
            str,
            "mean",
            "human rating that is gold",
            ("mean", "coherence", "consistency", "fluency", "relevance"),
        ),
    },
    "reader:helpsteer2": {
        "gold": Param(str, "strength", "how much better, or the share of annotators", ("strength", "votes")),
        "split": Param(str, "val", "rows to read; one file holds both splits", ("val", "train", "all")),
    },
    "reader:helpsteer3": {
        "gold": Param(str, "strength", "how much better, or the share of annotators", ("strength", "votes")),
    },
}
"""Group -> name -> parameter. Groups: `all`, a task kind, or `reader:<name>`."""


def parse_part(text: str, where: str) -> tuple[float, float]:
    """Return (low, high) of `LOW:HIGH`, a share of the prompts.

    Raises:
        ConfigError: If it is not 0 <= LOW < HIGH <= 1.
    """
    low, _, high = text.partition(":")
    try:
        part = (float(low), float(high))
    except ValueError:
        part = (1.0, 0.0)
    if not 0.0 <= part[0] < part[1] <= 1.0:
        raise ConfigError(f"{where}: {text!r}; expected LOW:HIGH with 0 <= LOW < HIGH <= 1, such as 0:0.5")
    return part


def parse_value(param: Param, text: str, where: str) -> Any:
    """Return `text` as the parameter's type.

    Raises:
        ConfigError: If it is not of that type, below its bound, or not one of its choices.
    """
    if param.choices and text not in param.choices:
        raise UnknownNameError("value", text, param.choices, where)
    if param.type is bool:
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"{where}: {text!r}; expected true or false")
        return text.lower() == "true"
    try:
        value = param.type(text)
    except ValueError:
        raise ConfigError(f"{where}: {text!r}; expected {param.type.__name__}") from None
    if param.type is float and not isfinite(value):
        raise ConfigError(f"{where}: {text!r}; expected a finite number")
    if param.low is not None and value < param.low:
        raise ConfigError(f"{where}: {value}; expected at least {param.low:g}")
    return value


def settle(values: Mapping[str, Any], known: Mapping[str, Param], where: str) -> dict[str, Any]:
    """Return `values` without later parameters at their default, once those that go together do.

    Raises:
        ConfigError: If a parameter is given where it means nothing, or lacks where it is needed.
    """
    for name, param in known.items():
        if param.only_with is None:
            continue
        other, meant = param.only_with
        applies = values.get(other, known[other].default) in meant
        given = values.get(name, param.default) is not None
        if given and not applies:
            raise ConfigError(f"{where}: {name!r} means something only with {other}={' or '.join(meant)}")
        if applies and not given:
            raise ConfigError(f"{where}: {other}={values[other]} needs {name!r} ({param.help})")
    return {k: v for k, v in values.items() if k not in known or not known[k].later or v != known[k].default}


def filled(given: Mapping[str, Any], known: Mapping[str, Param], where: str) -> dict[str, Any]:
    """Return every known parameter: the given value, checked, or its default.

    Raises:
        UnknownNameError: If one that is given is not known.
        ConfigError: If a value is not of the parameter's type, or not one of its choices.
    """
    for key in given:
        if key not in known:
            raise UnknownNameError("parameter", key, known, where)
    values = {
        key: parse_value(param, str(given[key]), f"{where}, key {key!r}") if key in given else param.default
        for key, param in known.items()
    }
    return settle(values, known, where)


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
