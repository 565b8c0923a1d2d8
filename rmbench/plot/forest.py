"""Forest plot: differences of two models with their intervals, one row each."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from rmbench.plot.style import COLOURS, INK, QUIET, dress, image, label, new_figure, reach, six
from rmbench.plot.style import canvas as canvas_of
from rmbench.types import Estimate

MOST = 40
"""Most rows of one figure."""


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One difference."""

    label: str
    gain: Estimate
    """Difference, turned so that above 0 the first model is better."""
    told_apart: bool
    """True if the corrected test separates the models: the point is filled."""
    shows: float | None = None
    """Smallest difference that the data shows with 80% power: a grey bar around 0."""
    points: tuple[float, ...] = ()
    """What the difference is the mean of, such as one per seed, turned alike: drawn faint."""


def turned(difference: Estimate) -> Estimate:
    """Return a difference turned so that more is better; as it is where the metric has no direction."""
    if difference.higher_is_better is not False:
        return difference
    ends = difference.ci95
    return Estimate(
        value=-difference.value,
        ci95=None if ends is None else (-ends[1], -ends[0]),
        stderr=difference.stderr,
        n=difference.n,
        n_clusters=difference.n_clusters,
        unit=difference.unit,
        higher_is_better=True,
    )


def draw_forest(rows: Sequence[ForestRow], first: str, second: str, name: str, kind: str) -> bytes:
    """Return a forest plot as `svg` or `png`: the first model is better to the right of 0.

    Args:
        rows: Differences of one unit, from the top.
        first: Name of the first model, or what stands for all of them; empty where rows have several.
        second: Name of the other; empty where rows have several.
        name: Name of the figure, for its ids.
        kind: `svg` or `png`.
    """
    rows = rows[:MOST]
    with canvas_of(name) as figure_class:
        return image(_drawn(figure_class, rows, first, second), kind, dpi=200)


def _drawn(figure_class: Any, rows: Sequence[ForestRow], first: str, second: str) -> Any:
    figure = new_figure(figure_class, 0.75 + 0.2 * len(rows))
    axes = figure.subplots()
    ends = reach([row.gain.value for row in rows], [row.gain.ci95 for row in rows])
    axes.axvline(0.0, color=INK, linewidth=0.8)
    for y, row in enumerate(rows):
        if row.shows is not None and isfinite(row.shows):
            axes.barh([y], [2 * six(row.shows)], left=[-six(row.shows)], height=0.62, color=QUIET, alpha=0.15)
        axes.plot(six(row.points), [y] * len(row.points), linestyle="", marker="|", markersize=5, color=QUIET)
        axes.errorbar(
            [six(row.gain.value)],
            [y],
            xerr=ends[:, y : y + 1],
            color=COLOURS[0],
            marker="o",
            markersize=4.5,
            markerfacecolor=COLOURS[0] if row.told_apart else "#ffffff",
            elinewidth=1.2,
        )
    axes.set_yticks(range(len(rows)), [label(row.label, 34) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    _limits(axes, rows, ends)
    sides = [
        f"{label(name, 22)} better" if name else f"{other} better"
        for name, other in ((second, "the other"), (first, "the first"))
    ]
    # Below the figure, not the axes: long names leave those little room.
    figure.supxlabel(f"← {sides[0]} | {sides[1]} →", fontsize=7)
    dress(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    return figure


def _limits(axes: Any, rows: Sequence[ForestRow], ends: Any) -> None:
    """Show all intervals. What the data could show may be far wider: its bars are cut."""
    values = [float(row.gain.value) for row in rows]
    points = [float(point) for row in rows for point in row.points]
    low = min([0.0, *points, *(v - float(e) for v, e in zip(values, ends[0], strict=True))])
    high = max([0.0, *points, *(v + float(e) for v, e in zip(values, ends[1], strict=True))])
    room = 0.06 * (high - low) or 0.01
    axes.set_xlim(six(low - room), six(high + room))
