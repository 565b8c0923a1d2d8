"""Options, each declared once: a field of a dataclass, or a parameter of a function.

    limit: Annotated[int | None, Option("A seeded random sample of N items.", metavar="N", low=1)] = None

One declaration is `--limit N` of a command, `limit=N` of a Python function, `-T`, `-M`, `-G` or `-L limit=N`,
and the key `limit` of a file. `rmbench.core.schema` reads values.
"""

import ast
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, dataclass, field, fields, is_dataclass
from functools import cache, wraps
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

from rmbench.errors import ConfigError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

REQUIRED = inspect.Parameter.empty
"""Default of an option that must be given."""
NO_OPTION = "no option"
"""Annotation of a field that is no option: the program fills it in, such as the seed of a kind."""


@dataclass(frozen=True, slots=True)
class Option:
    """Help, limits and forms of an option, beside its type in `Annotated`."""

    text: str = ""
    """Help; empty: the text below the field, else its entry in the section `Args:` of the docstring."""
    _: KW_ONLY
    low: float | None = None
    """The smallest number, or the fewest entries."""
    above: float | None = None
    """Numbers are larger than this."""
    high: float | None = None
    """The largest number."""
    below: float | None = None
    """Numbers are smaller than this."""
    pattern: str | None = None
    """Regular expression that the whole text matches."""
    expected: str = ""
    """The form in words, for messages: `org/name@<40-hex commit>`."""
    single: bool = False
    """One entry may stand for a list of one."""
    short: str = ""
    """A text alone may stand for a mapping with this key."""
    as_text: bool = False
    """A number, true or false, or a path is taken as its text."""
    convert: Callable[[Any, str], Any] | None = None
    """Makes the value from its text, or from a list, and the place for messages."""
    later: bool = False
    """True for an option that was added after records had been published. At its default it is not part of a
    task's identity, so older records keep theirs."""
    only_with: tuple[str, tuple[str, ...]] | None = None
    """Another option and the values of it that this one applies to. There it must be given if its default is
    None; elsewhere it must not."""
    flags: str = ""
    """On the command line, separated by spaces; empty: `--` and the name."""
    metavar: str | None = None
    """Stands for the value in a command's help, in place of the choices."""
    env: str | None = None
    """Environment variable that the command line reads."""
    unset: str = ""
    """What happens without a value, for a command's help, where the default does not say it."""
    folder: bool = False
    """The path is a folder's."""

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


class Group:
    """Beside a dataclass in `Annotated`: its options stand among those of the dataclass that holds it."""

    def __init__(self, *names: str) -> None:
        """Take these of its options; without names all."""
        self.names = names


@dataclass(frozen=True)
class NoOptions:
    """Options of what takes none."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named option: its annotation, its default, and what declares it."""

    name: str
    hint: Any
    default: Any
    """`REQUIRED`: it must be given. None: left to another option, as the help says."""
    owner: Any = field(compare=False, repr=False)
    """The dataclass, class or function."""

    @property
    def kind(self) -> Any:
        """Its type, without None and `Annotated`."""
        return _single(self.hint)[0]

    @property
    def option(self) -> Option:
        """All that is said of it."""
        return _single(self.hint)[1]

    @property
    def help(self) -> str:
        """Its meaning; empty if nobody says it."""
        return self.option.text or texts_of(self.owner).get(self.name, "")


def unwrapped(hint: Any) -> tuple[Any, Option]:
    """Return an annotation without `Annotated`, and what is said of it; the outer of two options wins."""
    if get_origin(hint) is not Annotated:
        return hint, Option()
    base, *rest = get_args(hint)
    said = [one for one in rest if isinstance(one, Option)]
    if len(said) == 1:
        return base, said[0]
    given = [(f.name, getattr(one, f.name), f.default) for one in said for f in fields(one)]
    return base, Option(**{name: value for name, value, default in given if value != default})


def members_of(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, each with what is said of all; empty if it is none."""
    base, option = unwrapped(hint)
    if get_origin(base) not in (Union, types.UnionType):
        return ()
    return tuple(m if m is types.NoneType or base is hint else Annotated[m, option] for m in get_args(base))


def _single(hint: Any) -> tuple[Any, Option]:
    """Return type and option of an annotation, of its only member where it is `X | None`."""
    members = [m for m in members_of(hint) if m is not types.NoneType]
    return unwrapped(members[0] if len(members) == 1 else hint)


def _kept(function: Callable[[Any], T]) -> Callable[[Any], T]:
    """Compute once per class; anything else is looked at each time."""
    of_class = cache(function)
    return wraps(function)(lambda target: (of_class if isinstance(target, type) else function)(target))


@_kept
def parameters_of(target: Any) -> Mapping[str, Parameter]:
    """Return the options that a dataclass or a callable declares by name, those of its groups among them."""
    target = inspect.unwrap(target)
    hints, found = hints_of(target), dict[str, Parameter]()
    factories = {f.name: f.default_factory for f in fields(target)} if _has_fields(target) else {}
    for p in inspect.signature(target).parameters.values():
        if p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            continue
        hint = hints.get(p.name) or _guessed(p)
        if (group := _group(hint)) is not None:
            inner = parameters_of(get_args(hint)[0])
            found |= {name: inner[name] for name in group.names or inner}
        elif NO_OPTION not in getattr(hint, "__metadata__", ()):
            factory: Any = factories.get(p.name, MISSING)
            found[p.name] = Parameter(p.name, hint, p.default if factory is MISSING else factory(), target)
    return found


def _group(hint: Any) -> Group | None:
    return next((m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Group)), None)


def _has_fields(target: Any) -> bool:
    return isinstance(target, type) and is_dataclass(target)


@_kept
def hints_of(target: Any) -> Mapping[str, Any]:
    """Return the annotations of a dataclass or of what a callable takes, with `Annotated`."""
    has_fields = _has_fields(target)
    try:
        is_class = isinstance(target, type) and not has_fields
        return typing.get_type_hints(target.__init__ if is_class else target, include_extras=True)
    except Exception:  # a name that only exists under TYPE_CHECKING: fall back to what the signature shows
        if has_fields:
            raise
        return {}


def _guessed(parameter: inspect.Parameter) -> Any:
    """Return the annotation of a parameter whose names cannot be resolved, or that has none."""
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


@_kept
def texts_of(target: Any) -> Mapping[str, str]:
    """Return the text below each field of a dataclass and of its bases, else its entry in `Args:`."""
    found = argument_help(inspect.getdoc(target) or "")
    for owner in reversed([c for c in getattr(target, "__mro__", ()) if _has_fields(c)]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        except (OSError, TypeError, SyntaxError):  # made at run time: there is no text
            continue
        for above, below in pairwise(getattr(body, "body", [])):
            text = below.value if isinstance(below, ast.Expr) else None
            if isinstance(above, ast.AnnAssign) and isinstance(text, ast.Constant):
                found[ast.unparse(above.target)] = " ".join(str(text.value).split())
    return found


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """Return a dataclass from the values of its fields and of those of its groups, as they are."""
    hints, given = hints_of(cls), {}
    for one in fields(cls):  # type: ignore[arg-type]
        if (group := _group(hints[one.name])) is not None:
            inner = get_args(hints[one.name])[0]
            names = group.names or parameters_of(inner)
            given[one.name] = build(inner, {name: values[name] for name in names if name in values})
        elif one.name in values:
            given[one.name] = values[one.name]
    return cls(**given)


def made_of(options: type[T], values: Any) -> T:
    """Return an instance of the dataclass `options` from a mapping that may hold more; an instance stays."""
    return values if isinstance(values, options) else build(options, values)


def accepts(target: Callable[..., Any], name: str) -> bool:
    """Return whether `target` has a parameter called `name` that can be passed by keyword."""
    return name in parameters_of(target)


def takes_options(*classes: type, without: Sequence[str] = ()) -> Callable[[F], F]:
    """Return a decorator for a function with `**options`: its signature and its help list the options.

    Args:
        classes: Dataclasses that declare them. Those that have to be given or that the function names are not
            added.
        without: Options that are not added either.
    """

    def decorate(function: F) -> F:
        named = inspect.signature(function).parameters
        known = {name: of for cls in classes for name, of in parameters_of(cls).items()}
        added = [of for n, of in known.items() if n not in (*named, *without) and of.default is not REQUIRED]
        plain = {owner: typing.get_type_hints(owner) for owner in {of.owner for of in added}}
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            inspect.Parameter(of.name, keyword, default=of.default, annotation=plain[of.owner][of.name])
            for of in added
        ]
        rest = [p for p in named.values() if p.kind is p.VAR_KEYWORD]
        own = [p for p in named.values() if p not in rest]
        function.__signature__ = inspect.Signature([*own, *parameters, *rest])  # type: ignore[attr-defined]
        told = "".join(f"    {of.name}: {of.help}\n" for of in added)
        head, args, tail = (inspect.getdoc(function) or "").partition("Args:\n")
        function.__doc__ = f"{head}{args}{told}{tail}"
        return function

    return decorate


def parse_part(given: str | Sequence[float], where: str) -> tuple[float, float]:
    """Return (low, high) of `LOW:HIGH` or of a pair, a share of the prompts.

    Raises:
        ConfigError: If it is not 0 <= LOW < HIGH <= 1.
    """
    text = given if isinstance(given, str) else ":".join(map(str, given))
    low, _, high = text.partition(":")
    try:
        part = (float(low), float(high))
    except ValueError:
        part = (1.0, 0.0)
    if not 0.0 <= part[0] < part[1] <= 1.0:
        raise ConfigError(f"{where}: {text!r}; expected LOW:HIGH with 0 <= LOW < HIGH <= 1, such as 0:0.5")
    return part


Part: TypeAlias = Annotated[
    tuple[float, float] | None,
    Option(
        "Only prompts whose hash lies in this share: train on 0:0.5, evaluate on 0.5:1.",
        convert=parse_part, pattern=r"[\d.]+:[\d.]+", expected="LOW:HIGH, such as 0:0.5", metavar="LOW:HIGH",
    ),
]  # fmt: skip
OnBad: TypeAlias = Annotated[
    Literal["fail", "skip"], Option("A row that does not fit: stop, or leave it out and count it.")
]
Texts: TypeAlias = Mapping[str, Annotated[str, Option(as_text=True)]]
"""Options of another thing, by name, as texts: they are typed where they are used."""


def changed_from_default(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults: a new field changes no identity."""
    found = {}
    for each in fields(value):
        own = getattr(value, each.name)
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        if own != default:
            found[each.name] = changed_from_default(own) if is_dataclass(own) else own
    return found
