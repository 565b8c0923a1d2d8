"""Figures by name: how each finds its numbers in a record, draws several records, and its caption."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rmbench.errors import ConfigError
from rmbench.plot.calibration import (
    draw_margin_deciles,
    draw_margins,
    draw_reliability,
    find_margin_deciles,
    find_margins,
    find_reliability,
)
from rmbench.plot.groups import (
    draw_best_of_n,
    draw_length_bias,
    draw_strata,
    draw_styles,
    find_best_of_n,
    find_length_bias,
    find_strata,
    find_styles,
)
from rmbench.plot.source import RecordsLike, Source, sources_of
from rmbench.plot.style import canvas, title


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure."""

    title: str
    caption: str
    """How to read it: a sentence or two."""
    find: Callable[[Source], Any]
    """Return the numbers of a record, or the reason why there are none as a text."""
    draw: Callable[[Any, Sequence[tuple[str, Any]]], Any]
    """(class of figures, (name, found) of each record) -> figure; called while drawing."""


FIGURES: Mapping[str, Figure] = {
    "reliability": Figure(
        "Reliability",
        "How often a response was better against how often its margin claims it, in bins of equal size;"
        " each pair counts in both orders. On the dotted line margins mean what they say; a flatter line is"
        " overconfident. Right: after the temperature that is fitted on the other prompts.",
        find_reliability,
        draw_reliability,
    ),
    "margins": Figure(
        "Margins",
        "Reward of the chosen response minus that of the rejected one, over all pairs. The outline mirrors"
        " the wrong pairs: where it stays below the bars, a margin of that size is more often right than"
        " wrong. The outermost bars hold what lies beyond.",
        find_margins,
        draw_margins,
    ),
    "margin_deciles": Figure(
        "Accuracy by margin",
        "Pairs in tenths by the size of their margin. A model that knows what it knows rises to the right.",
        find_margin_deciles,
        draw_margin_deciles,
    ),
    "best_of_n": Figure(
        "Best of N",
        "What the pick of the highest reward among N is worth. Dashed: picking by gold itself; dotted: at"
        " random.",
        find_best_of_n,
        draw_best_of_n,
    ),
    "styles": Figure(
        "Styles",
        "Share of prompts whose chosen response, in the style of the row, beats the rejected one in that"
        " of the column. Below the diagonal the chosen one is the richer (easy), above it the plainer.",
        find_styles,
        draw_styles,
    ),
    "strata": Figure(
        "By stratum",
        "The same number within each group of items. Dotted: on everything.",
        find_strata,
        draw_strata,
    ),
    "length_bias": Figure(
        "Length",
        "Left: accuracy, what is left of it where neither response is longer, and what always taking the"
        " longer one would give. Right: accuracy by how much longer the chosen response is; a line that rises"
        " is a preference for length, one that falls for brevity.",
        find_length_bias,
        draw_length_bias,
    ),
}
"""Name -> figure, in the order of a report. Bars and bands are 95% intervals, clustered by prompt."""


def find(name: str, source: Source) -> Any:
    """Return the numbers that the figure `name` shows of a record, or the reason for none as a text."""
    return FIGURES[name].find(source)


def draw(name: str, found: Sequence[tuple[str, Any]], heading: str = "") -> Any:
    """Return the figure `name` of (label, result of `find`) of each record, under a heading.

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    with canvas(name) as figure_class:
        figure = FIGURES[name].draw(figure_class, found)
        if heading:
            title(figure, heading)
        return figure


def figure_of(name: str, records: RecordsLike) -> Any:
    """Return the figure `name` of records.

    Raises:
        ConfigError: If a record has nothing to show, or matplotlib is not installed.
        DataError: If a path is no record.
        StoreError: If its rewards are missing or damaged.
    """
    found = []
    sources = sources_of(records)
    for source in sources:
        one = find(name, source)
        if isinstance(one, str):
            raise ConfigError(f"no {name} of {source.label} on {source.record.task}: {one}")
        found.append((source.label, one))
    return draw(name, found, heading(sources))


def heading(sources: Sequence[Source]) -> str:
    """Return the heading of a figure: the tasks, and the model of a single record."""
    tasks = ", ".join(dict.fromkeys(source.record.task for source in sources))
    return f"{sources[0].label}: {tasks}" if len(sources) == 1 else tasks
