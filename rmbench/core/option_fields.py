"""Options said once, as fields of a dataclass: command line, Python API and files are made from them.

    limit: int | None = option(None, "Measure a sample of N items.", metavar="N", min=1)

is `--limit N` of a command, `limit=N` of a function and `limit: N` in a file, with the same
default and bounds.
"""

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rmbench.core.options import parse_part
from rmbench.errors import ConfigError, UnknownNameError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """How a user gives the value of a field."""

    help: str
    flags: tuple[str, ...] = ()
    """On the command line; empty: `--` and the field's name."""
    metavar: str | None = None
    """Stands for the value in the help. With one, click does not check a `Literal`: its dataclass does."""
    min: float | None = None
    max: float | None = None
    min_open: bool = False
    """Whether `min` itself is outside."""
    max_open: bool = False
    env: str | None = None
    """Environment variable that the command line reads."""
    unset: str = ""
    """What happens without a value, where the default does not say it."""
    path: Literal["any", "file", "folder"] = "any"


@dataclass(frozen=True, slots=True)
class OptionField:
    """A field of a dataclass that is an option."""

    name: str
    type: Any
    """Annotation, without None."""
    hint: Any
    """Annotation, as it stands."""
    default: Any
    """MISSING: it has to be given."""
    option: Option


def option(default: Any, help_text: str, *flags: str, **more: Any) -> Any:
    """Return a dataclass field that is an option.

    Args:
        default: Its default; `MISSING` if it has to be given, a type such as `dict` for a new one each time.
        help_text: One or two sentences, for the command's help.
        flags: On the command line, in place of `--` and the field's name.
        more: Further fields of `Option`.
    """
    metadata = {"option": Option(help=help_text, flags=flags, **more)}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def group(default: Callable[[], Any] | Any, *names: str) -> Any:
    """Return a dataclass field whose own fields are options beside those of the dataclass that holds it.

    Args:
        default: Makes the default; `MISSING` where one of its fields has to be given.
        names: Only these of its fields; empty: all that are options.
    """
    if default is MISSING:
        return field(metadata={"group": names})
    return field(default_factory=default, metadata={"group": names})


@cache
def option_fields(cls: type) -> Mapping[str, OptionField]:
    """Return the options of a dataclass by name, in order, those of its groups among them."""
    hints, found = get_type_hints(cls), dict[str, OptionField]()
    for one in fields(cls):
        if "group" in one.metadata:
            inner = option_fields(hints[one.name])
            found |= {name: inner[name] for name in one.metadata["group"] or inner}
        elif "option" in one.metadata:
            default = one.default if one.default_factory is MISSING else one.default_factory()
            hint = hints[one.name]
            found[one.name] = OptionField(
                one.name, _without_none(hint), hint, default, one.metadata["option"]
            )
    return found


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """Return a dataclass from the values of its fields and of those of its groups, as they are."""
    hints, given = get_type_hints(cls), {}
    for one in fields(cls):  # type: ignore[arg-type]
        if "group" in one.metadata:
            inner = hints[one.name]
            names = one.metadata["group"] or tuple(option_fields(inner))
            given[one.name] = build(inner, {name: values[name] for name in names if name in values})
        elif one.name in values:
            given[one.name] = values[one.name]
    return cls(**given)


def from_values(cls: type[T], values: Mapping[str, Any], owner: str) -> T:
    """Return a dataclass from what a caller or a file gave; None stands for an option's default.

    Raises:
        UnknownNameError: If `owner` has no such option.
        ConfigError: If a value is of another type or outside its bounds.
    """
    known = option_fields(cls)  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise UnknownNameError("option", name, known, owner)
    return build(cls, {k: converted(known[k], v) for k, v in values.items() if v is not None})


def converted(of: OptionField, value: Any) -> Any:
    """Return a value as the type of an option.

    Raises:
        ConfigError: If it is of another type or outside its bounds.
    """
    kind, origin = of.type, get_origin(of.type)
    if kind in (int, float):
        return _number(of, value)
    if kind is bool and not isinstance(value, bool):
        raise ConfigError(f"{of.name} is {value!r}; expected True or False")
    if origin is Literal and of.option.metavar is None and value not in get_args(kind):
        raise ConfigError(f"{of.name} is {value!r}; expected {' or '.join(map(str, get_args(kind)))}")
    if kind is Path:
        return Path(value)
    if kind == tuple[float, float]:
        return parse_part(value if isinstance(value, str) else ":".join(map(str, value)), of.name)
    if origin is tuple:
        return (value,) if isinstance(value, str) else tuple(map(str, value))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {str(key): str(text) for key, text in value.items()}  # typed where they are used
    return value


def _number(of: OptionField, value: Any) -> Any:
    bounds, whole = of.option, of.type is int
    fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if fits and isfinite(value):
        low, high = bounds.min, bounds.max
        above = low is None or (value > low if bounds.min_open else value >= low)
        below = high is None or (value < high if bounds.max_open else value <= high)
        if above and below:
            return of.type(value)
    edges: Sequence[tuple[float | None, str]] = (
        (bounds.min, " above" if bounds.min_open else " from"),
        (bounds.max, " below" if bounds.max_open else " to"),
    )
    said = "".join(f"{word} {edge:g}" for edge, word in edges if edge is not None)
    raise ConfigError(f"{of.name} is {value!r}; expected {'a whole number' if whole else 'a number'}{said}")


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    (kind,) = (member for member in get_args(annotation) if member is not types.NoneType)
    return kind


def takes_options(*classes: type, without: Sequence[str] = ()) -> Callable[[F], F]:
    """Return a decorator for a function with `**options`: its signature and its help list the options.

    Args:
        classes: Dataclasses that declare them. Those that have to be given or that the function names are not
            added.
        without: Options that are not added either.
    """

    def decorate(function: F) -> F:
        named = inspect.signature(function).parameters
        known = {name: of for cls in classes for name, of in option_fields(cls).items()}
        added = [
            of for name, of in known.items() if name not in (*named, *without) and of.default is not MISSING
        ]
        parameters = [
            inspect.Parameter(of.name, inspect.Parameter.KEYWORD_ONLY, default=of.default, annotation=of.hint)
            for of in added
        ]
        rest = [p for p in named.values() if p.kind is p.VAR_KEYWORD]
        own = [p for p in named.values() if p not in rest]
        function.__signature__ = inspect.Signature([*own, *parameters, *rest])  # type: ignore[attr-defined]
        told = "".join(f"    {of.name}: {of.option.help}\n" for of in added)
        head, args, tail = (inspect.getdoc(function) or "").partition("Args:\n")
        function.__doc__ = f"{head}{args}{told}{tail}"
        return function

    return decorate
