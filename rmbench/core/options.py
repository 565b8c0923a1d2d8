"""Typed options: of task kinds and readers (`-T`, YAML), models (`-M`), verifiers (`-G`) and losses (`-L`).

A dataclass declares options by its fields, a function or another class by its signature and the `Args:` of
its docstring. `Annotated[int, Help("most bins", low=2)]` says more of one. All are read, checked and listed
by the same functions.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from rmbench.core.schema import from_text, json_type
from rmbench.errors import ConfigError, UnknownNameError

T = TypeVar("T")
REQUIRED = inspect.Parameter.empty
"""Default of an option that must be given."""

_WRITTEN: Mapping[Any, str] = {
    int: "whole number", float: "number", bool: "yes|no", str: "text", Path: "path", REQUIRED: "text",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Help:
    """Help text and limits of an option, beside its type in `Annotated`."""

    text: str = ""
    low: float | None = None
    """Least value."""
    later: bool = False
    """True for an option that was added after records had been published. At its default it is not part of a
    task's identity, so older records keep theirs."""
    only_with: tuple[str, tuple[str, ...]] | None = None
    """Another option and the values of it that this one applies to. There it must be given if its default is
    None; elsewhere it must not."""


GIVEN_BY_RUN = "given by the run"
"""Annotation of a field that is no option: the run fills it in, such as the seed."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its name, its type, its default and what else is said of it."""

    name: str
    type: Any
    """Annotation: int, float, bool, str, Path, Literal, or a union of them with None."""
    default: Any = REQUIRED
    """None: left to another option, as the help says."""
    about: Help = Help()

    @property
    def written(self) -> str:
        """How values are written on the command line: `text`, `whole number`, `auto|sdpa`."""
        return _written(self.type)

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its values."""
        said = {"description": self.about.text} if self.about.text else {}
        low = {} if self.about.low is None else {"minimum": self.about.low}
        default = {} if self.default in (REQUIRED, None) else {"default": self.default}
        return {**json_type(self.type), **said, **low, **default}

    def parse(self, text: str, where: str) -> Any:
        """Return `text` as a value of the option's type.

        Raises:
            ConfigError: If it does not fit the type, is not one of the choices, is below the least value, or
                is not finite.
        """
        value = from_text(self.type, text, where)
        if self.about.low is not None and value is not None and value < self.about.low:
            raise ConfigError(f"{where} is {value}; expected at least {self.about.low:g}")
        return value


@dataclass(frozen=True)
class NoOptions:
    """Options of what takes none."""


def options_of(target: Any, reserved: Collection[str] = ()) -> dict[str, Option]:
    """Return the options that a dataclass or a callable declares, by name, without `reserved` ones."""
    target = inspect.unwrap(target)
    hints, told = _hints(target), argument_help(inspect.getdoc(target) or "")
    found = {}
    for p in inspect.signature(target).parameters.values():
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in reserved:
            annotation = _annotation(p, hints)
            about: tuple[Any, ...] = getattr(annotation, "__metadata__", ())
            if GIVEN_BY_RUN not in about:
                plain = get_args(annotation)[0] if about else annotation
                said = next((a for a in about if isinstance(a, Help)), Help(told.get(p.name, "")))
                found[p.name] = Option(p.name, plain, p.default, said)
    return found


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
    known = options_of(target, reserved)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(target).parameters.values())
    typed: dict[str, Any] = {}
    for key, text in options.items():
        if key in known:
            typed[key] = known[key].parse(text, f"{where}: option {key!r}")
        elif takes_any and key not in reserved:
            typed[key] = text
        else:
            raise UnknownNameError("option", key, known, where)
    if missing := [n for n, o in known.items() if o.default is REQUIRED and n not in typed]:
        raise ConfigError(f"{where}: option {missing[0]!r} is required; expected {missing[0]}=VALUE")
    return typed


def filled(given: Mapping[str, Any], known: Mapping[str, Option], where: str) -> dict[str, Any]:
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
            raise ConfigError(f"{where}: key {key!r} is missing ({one.about.text or one.written})")
    values = {
        key: one.parse(str(given[key]), f"{where}, key {key!r}") if key in given else one.default
        for key, one in known.items()
    }
    return settled(values, known, where)


def settled(values: Mapping[str, Any], known: Mapping[str, Option], where: str) -> dict[str, Any]:
    """Return `values` without later options at their default.

    Raises:
        ConfigError: If an option is given where it does not apply, or is missing where it does.
    """
    for name, one in known.items():
        if one.about.only_with is None:
            continue
        other, meant = one.about.only_with
        applies = values.get(other, known[other].default) in meant
        given = values.get(name, one.default) is not None
        if given and not applies:
            raise ConfigError(f"{where}: {name!r} means something only with {other}={' or '.join(meant)}")
        if applies and not given:
            raise ConfigError(f"{where}: {other}={values[other]} needs {name!r} ({one.about.text})")
    return {
        k: v for k, v in values.items() if k not in known or not known[k].about.later or v != known[k].default
    }


def made_of(options: type[T], values: Any) -> T:
    """Return an instance of the dataclass `options` from a mapping that may hold more; an instance stays."""
    if isinstance(values, options):
        return values
    names = [f.name for f in dataclasses.fields(options)]  # type: ignore[arg-type]
    return options(**{name: values[name] for name in names if name in values})


def accepts(target: Callable[..., Any], name: str) -> bool:
    """Return whether `target` has a parameter called `name` that can be passed by keyword."""
    return name in options_of(target)


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


def _hints(target: Any) -> dict[str, Any]:
    is_class = isinstance(target, type) and not dataclasses.is_dataclass(target)
    try:
        return typing.get_type_hints(target.__init__ if is_class else target, include_extras=True)
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


def argument_help(doc: str) -> dict[str, str]:
    """Return the text of each argument in the section `Args:` of a docstring."""
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?)+)", doc, re.MULTILINE)
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _written(annotation: Any) -> str:
    if annotation in _WRITTEN:
        return _WRITTEN[annotation]
    members = [member for member in get_args(annotation) if member is not types.NoneType]
    if get_origin(annotation) is Literal:
        return "|".join(map(str, members))
    return "|".join(map(_written, members)) or getattr(annotation, "__name__", str(annotation))
