"""The lists of `rmbench models`: models, and the options of a model."""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rmbench.core.options import REQUIRED, argument_help, parameters_of
from rmbench.core.schema import written
from rmbench.errors import ConfigError
from rmbench.models import MODELS, SCHEMES
from rmbench.models.resolve import options_of


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A value of `--model`, or a pattern of values."""

    name: str
    kind: str
    """`reward`, `pairwise`, `precomputed`, `factory`, `pattern`, or `broken` (its import failed)."""
    summary: str
    source: str
    """`module:attribute`."""


def list_models() -> list[ModelRow]:
    """Return every registered model, then the patterns; a plug-in that cannot be imported says why."""
    rows = [_row(name) for name in MODELS]
    for scheme in map(SCHEMES.get, SCHEMES):
        source = SCHEMES.source(scheme.name)
        rows += [ModelRow(name, scheme.kind, summary, source) for name, summary in scheme.patterns.items()]
    own = "your own class or function in any Python file"
    return [*rows, ModelRow("FILE.py:CLASS", "pattern", own, "rmbench.models.resolve:load_model")]


@dataclass(frozen=True, slots=True)
class OptionRow:
    """An option of a model (`-M`) or of a verifier (`-G`)."""

    name: str
    type: str
    default: str
    """Empty for an option that must be given."""
    summary: str


def describe_model(spec: str) -> tuple[str, list[OptionRow]]:
    """Return a summary of the model of `spec`, or of a scheme, and its options.

    Raises:
        UnknownNameError: If `spec` is neither.
    """
    factory, parameters = options_of(spec)
    known = {name: text for scheme in map(SCHEMES.get, SCHEMES) for name, text in scheme.patterns.items()}
    return known.get(spec) or summary_of(factory), describe_options(factory, parameters)


def describe_options(factory: Any, parameters: Iterable[inspect.Parameter]) -> list[OptionRow]:
    """Return parameters of `factory` as options, described by its signature and docstring."""
    known = parameters_of(factory) if callable(factory) else {}
    told = argument_help(inspect.getdoc(factory) or "")
    rows = []
    for p in parameters:
        if p.kind is p.VAR_KEYWORD:  # any option, called as its annotation says
            if names := getattr(p.annotation, "__metadata__", ()):
                rows.append(OptionRow(str(names[0]), "text", "none", told.get(p.name, "")))
            continue
        one = known[p.name]
        default = "" if one.default is REQUIRED else str(one.default)
        rows.append(OptionRow(one.name, written(one.hint), default, one.help))
    return rows


def summary_of(thing: Any) -> str:
    """Return the first paragraph of a docstring, as one line."""
    text = inspect.getdoc(thing) or ""
    return text.strip().split("\n\n")[0].replace("\n", " ")


def _row(name: str) -> ModelRow:
    source = MODELS.source(name)
    try:
        thing = MODELS.get(name)
    except ConfigError as error:
        return ModelRow(name, "broken", str(error), source)
    return ModelRow(name, _kind(thing), summary_of(thing), source)


def _kind(thing: Any) -> str:
    for method, kind in (("score", "reward"), ("prefer", "pairwise"), ("rewards", "precomputed")):
        if hasattr(thing, method):
            return kind
    return "factory"
