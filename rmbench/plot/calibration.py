"""Figures of margins: reliability diagram, histogram, accuracy by size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmbench.core.digits import Digits
from rmbench.metrics.calibration import NO_PAIR
from rmbench.metrics.margins import too_large
from rmbench.metrics.reliability import Forecasts, bin_edges
from rmbench.plot.source import Source
from rmbench.plot.style import (
    COLOURS,
    INK,
    QUIET,
    dress,
    label,
    legend,
    level,
    new_figure,
    offsets,
    points,
    six,
    style_of,
)
from rmbench.stats.clusters import Floats

_HALF = 20
"""Bins of the histogram on either side of 0."""
_ECES = 4
"""Largest number of records whose ECEs a reliability diagram shows."""
_SHOWN = 0.995
"""Quantile of |margin| at the ends of the histogram; larger ones are in its first and last bin."""


@dataclass(frozen=True, slots=True)
class Bins:
    """One reliability diagram, B bins."""

    forecast: list[float]
    observed: list[float]
    interval: list[tuple[float, float] | None]
    n: list[int]
    ece: float | None
    """From the record."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """Bins as measured, and after the cross-fitted temperature (or why there is none)."""

    raw: Bins
    scaled: Bins | str


def find_reliability(source: Source) -> Reliability | str:
    """Return the bins of a record, or the reason for none."""
    if why := source.lacks("calibration"):
        return why
    claims = source.claims
    if len(claims.pairs) == 0:
        return NO_PAIR
    if why := too_large(claims.margin):
        return why
    n_bins = int(source.params.get("bins", 15))
    scaled = claims.scaled
    return Reliability(
        _bins(source, claims.raw, n_bins, "ece"),
        scaled if isinstance(scaled, str) else _bins(source, scaled, n_bins, "ece_scaled"),
    )


def _bins(source: Source, forecasts: Forecasts, n_bins: int, metric: str) -> Bins:
    edges = bin_edges(forecasts, n_bins, equal_mass=True)
    rows = forecasts.table(edges)
    estimates = [s.estimate() for s in forecasts.observed(edges)]
    ece = source.record.metrics.get(metric)
    return Bins(
        [r["forecast"] for r in rows],
        [e.value for e in estimates],
        [e.ci95 for e in estimates],
        [int(r["n"]) for r in rows],
        None if ece is None else ece.value,
    )


def draw_reliability(figure_class: Any, found: Sequence[tuple[str, Reliability]]) -> Any:
    """Draw observed shares against forecasts, as measured and rescaled, with the forecasts' counts below."""
    figure = new_figure(figure_class, 3.0)
    axes = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=[4, 1])
    for column, what in enumerate(("as measured", "after a cross-fitted temperature")):
        upper, lower = axes[0][column], axes[1][column]
        upper.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=":")
        lines = []
        for k, (name, one) in enumerate(found):
            bins = one.scaled if column else one.raw
            if isinstance(bins, str):
                lines.append(f"{name}: {bins}" if len(found) > 1 else bins)
                continue
            faint, colour = len(found) > 2, style_of(k)["color"]
            points(upper, bins.forecast, bins.observed, bins.interval, k, name, faint=faint)
            lower.vlines(six(bins.forecast), 0, bins.n, color=colour, linewidth=2.2, alpha=0.75)
            if bins.ece is not None and len(found) <= _ECES:
                at = 0.04 + 0.08 * (len(found) - 1 - k)
                upper.text(0.97, at, f"ECE {Digits().write(bins.ece)}", ha="right", fontsize=7, color=colour)
        for row, line in enumerate(lines):
            upper.text(0.03, 0.93 - 0.08 * row, label(line, 48), fontsize=6, color=QUIET)
        upper.set(
            title=what, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="" if column else "observed share"
        )
        lower.set(xlabel="claimed probability", ylabel="" if column else "count", ylim=(0, None))
        lower.yaxis.get_major_locator().set_params(nbins=2)
        dress(upper)
        dress(lower)
    if len(found) > 1:
        legend(figure, [axes[0][0], axes[0][1]])
    return figure


def find_margins(source: Source) -> Floats | str:
    """Return the margin of every pair, chosen minus rejected, or why there is none."""
    if why := source.lacks("calibration") and source.lacks("preference"):
        return why
    margin = source.claims.pairs.margin
    return too_large(margin) or (margin if len(margin) else NO_PAIR)


def draw_margins(figure_class: Any, found: Sequence[tuple[str, Floats]]) -> Any:
    """Draw the histogram of margins, a panel with its own scale per record."""
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    figure = new_figure(figure_class, 0.5 + 2.0 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for k, (name, margin) in enumerate(found):
        axes = grid[k // columns][k % columns]
        edge, counts = histogram(margin)
        middle, width = (edge[:-1] + edge[1:]) / 2, edge[1] - edge[0]
        for part, what, colour in ((middle > 0, "right", COLOURS[0]), (middle < 0, "wrong", COLOURS[1])):
            axes.bar(six(middle[part]), counts[part], width=width * 0.92, color=colour, label=what)
        right = middle > 0
        axes.step(
            six(middle[right]),
            counts[::-1][right],
            where="mid",
            color=INK,
            linewidth=0.9,
            label="wrong, mirrored",
        )
        tied = int((margin == 0).sum())
        if tied:
            axes.bar([0], [tied], width=width * 0.92, color=QUIET, label="tied")
        axes.set(title=label(name, 27) if len(found) > 1 else "", xlabel="margin (chosen minus rejected)")
        dress(axes)
    for empty in grid.flat[len(found) :]:
        empty.axis("off")
    for row in grid:
        row[0].set_ylabel("pairs")
    legend(figure, list(grid.flat), order=("right", "wrong", "wrong, mirrored", "tied"))
    return figure


def histogram(margin: Floats) -> tuple[Floats, Any]:
    """Return edges, symmetric around 0, and counts of margins that are not 0.

    The first and last bin hold larger margins too. An edge is at 0: no bin mixes right and wrong pairs.
    """
    apart = margin[margin != 0]
    largest = float(np.quantile(np.abs(apart), _SHOWN)) if len(apart) else 1.0
    edges = largest * (np.arange(-_HALF, _HALF + 1) / _HALF)
    inside = np.clip(apart, np.nextafter(-largest, 0), np.nextafter(largest, 0))
    return edges, np.histogram(inside, edges)[0]


@dataclass(frozen=True, slots=True)
class Tenths:
    """Accuracy by tenth of |margin|, the least sure first."""

    accuracy: list[float]
    interval: list[tuple[float, float] | None]


def find_margin_deciles(source: Source) -> Tenths | str:
    """Return the accuracy by tenth of |margin|, or why there is none."""
    if why := source.lacks("calibration"):
        return why
    rows = source.curve("margin_deciles")
    if not rows:
        return NO_PAIR
    return Tenths([r["accuracy"] for r in rows], [tuple(r["ci95"]) if r.get("ci95") else None for r in rows])


def draw_margin_deciles(figure_class: Any, found: Sequence[tuple[str, Tenths]]) -> Any:
    """Draw accuracy against the tenth of |margin|: a model that knows what it knows rises."""
    figure = new_figure(figure_class, 2.4)
    axes = figure.subplots()
    for k, (name, one) in enumerate(found):
        x = np.arange(1, len(one.accuracy) + 1) + offsets(len(found), 0.3)[k]
        points(axes, x, one.accuracy, one.interval, k, name, faint=len(found) > 2)
    level(axes, 0.5)
    most = max(len(one.accuracy) for _, one in found)
    axes.set(xlabel="tenth of |margin|, least sure first", ylabel="accuracy", xticks=range(1, most + 1))
    axes.set_ylim(top=1.02)
    dress(axes)
    if len(found) > 1:
        legend(figure, [axes])
    return figure
