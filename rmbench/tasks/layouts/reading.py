"""Options of reading a layout, and what is known of a file while it is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from rmbench.core.options import Option, parameters_of
from rmbench.core.schema import from_text
from rmbench.errors import UnknownNameError
from rmbench.tasks.layouts.columns import Names
from rmbench.tasks.layouts.recognise import Layout
from rmbench.tasks.layouts.winners import Side
from rmbench.tasks.rows import BadRows


@dataclass(frozen=True, kw_only=True)
class LayoutOptions:
    """How columns are read that are not known by their names."""

    columns: Annotated[str | None, Option(later=True)] = None
    """Columns by their meaning, `prompt:question,chosen:good,rejected:bad`. Meanings: prompt, system, chosen,
    rejected; first, second, winner; responses, scores; strength, id; tools, reference,
    rubric, principle; any other becomes a stratum."""
    winner: Annotated[str | None, Option(later=True)] = None
    """What the values of the column of the winner mean, `1:first,0:second,2:tie`."""
    gold_from: Annotated[Literal["scores", "order"], Option(later=True)] = "scores"
    """Of pairs with scores: gold is the scores, or the order of the two replies alone."""


def reading_of(texts: Mapping[str, str], flag: str) -> LayoutOptions:
    """Return the options that `key=value` texts say.

    Raises:
        UnknownNameError: If there is no such option.
        ConfigError: If a value is not of the option's type.
    """
    known, given = parameters_of(LayoutOptions), {}
    for key, text in texts.items():
        if key not in known:
            raise UnknownNameError("option", key, known, flag)
        given[key] = from_text(known[key].hint, text, f"{flag} {key}")
    return LayoutOptions(**given)


@dataclass(slots=True)
class Reading:
    """One file while it is read."""

    options: LayoutOptions
    bad: BadRows
    renamed: Mapping[str, str]
    sides: Mapping[str, Side]
    first: Layout | None = None
    names: Names | None = None
    told: str = ""
    unread: dict[str, None] = field(default_factory=dict)
    strata: dict[str, None] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    n_implicit: int = 0
    known: dict[tuple[str, ...], tuple[Names, Layout | None]] = field(default_factory=dict)
