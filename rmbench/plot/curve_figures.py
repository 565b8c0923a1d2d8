"""Figures of curves: win rate and gold against n, the square root of KL, and the proxy's reward."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import numpy as np

from rmbench.plot.curves import Series
from rmbench.plot.style import doublings, dress, label, level, panel_files, six, style_of


@dataclass(frozen=True, slots=True)
class CurveFigure:
    """One figure of curves: a metric against n, KL or the proxy's reward."""

    stem: str
    metric: str
    y_label: str
    against: Literal["n", "kl", "reward"] = "n"
    level: float | None = None
    shows_peak: bool = False
    """Whether the n of the highest gold is drawn with its interval."""


FIGURES = (
    CurveFigure("win-rate", "win_rate", "win rate", level=0.5),
    CurveFigure("win-rate-by-kl", "win_rate", "win rate", against="kl", level=0.5),
    CurveFigure("gold", "gold", "gold", shows_peak=True),
    CurveFigure("gold-by-reward", "gold", "gold", against="reward"),
    CurveFigure("gain-by-kl", "gain", "gain in gold", against="kl", level=0.0, shows_peak=True),
)
"""All figures, in the order in which they are drawn."""
_LANE = 0.05
"""Height of a line's peak and interval below the curves, as a share of its panel."""


def draw_curves(series: Sequence[Series]) -> dict[str, bytes]:
    """Return file name -> content of every figure, SVG and PNG; the same series give the same bytes.

    Bands are 95% intervals. The fitted curve of Gao et al. against KL is dashed. Rewards are shown as their
    rise in standard deviations within a prompt's pool, as proxies differ in scale. A line without rewards, or
    with equal rewards, is not in that figure.

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    files: dict[str, bytes] = {}
    for kind in FIGURES:
        shown = [s for s in series if kind.against != "reward" or s.found.reward_sd > 0.0]
        if shown:
            files |= _figure(shown, kind)
    return files


def _figure(series: Sequence[Series], kind: CurveFigure) -> dict[str, bytes]:
    rows, columns, names = (
        list(dict.fromkeys(getattr(s, key) for s in series)) for key in ("row", "column", "line")
    )
    handles: dict[str, Any] = {}
    ticks = max((s.found.n_values for s in series), key=max)  # panels of a column share their axis

    def fill(axes: Any, i: int, j: int) -> None:
        inside = [s for s in series if (s.row, s.column) == (rows[i], columns[j])]
        for s in inside:
            k = names.index(s.line)
            handles.setdefault(s.line, _line(axes, s, kind, k))
            if kind.shows_peak:
                draw_peak(axes, s, kind, k, len(names))
        if not inside:
            axes.axis("off")
            return
        if kind.level is not None:
            level(axes, kind.level, color="#888888", linewidth=0.8)
        if kind.against == "n":
            doublings(axes, ticks)
        dress(axes, linewidth=0.3)

    def finish(figure: Any, axes: Any) -> None:
        if kind.shows_peak:
            for row in axes:
                _make_room(row[0], len(names))
        shown = [name for name in names if name in handles]
        figure.legend(
            [handles[n] for n in shown], [label(n) for n in shown], loc="outside right upper", frameon=False
        )
        figure.supxlabel(_caption(series, kind), fontsize=7, color="#555555", x=0.01, ha="left")

    return panel_files(
        kind.stem,
        [f"{label(row)}\n{kind.y_label}" for row in rows],
        [label(column) for column in columns],
        fill,
        finish,
        panel=(2.9, 2.3),
        around=(2.2, 0.6),
        x_label=_x_label(series, kind),
        sharex="col",
        sharey="row",
    )


def _x_label(series: Sequence[Series], kind: CurveFigure) -> str:
    if kind.against == "n":
        return "n (responses to choose from)"
    if kind.against == "reward":
        return "rise of the proxy's reward (SD within a prompt)"
    found = {s.found.kl_is for s in series}
    what = {"bound": "upper bound on KL", "estimate": "estimated KL"}
    return rf"$\sqrt{{\mathrm{{KL}}}}$ ({' or '.join(what[f] for f in sorted(found))}, nats)"


def _caption(series: Sequence[Series], kind: CurveFigure) -> str:
    fitted = kind.metric == "gain" and any("fit_alpha" in s.found.metrics for s in series)
    parts = ["bands: 95% intervals by prompt", *(["dashed: fit of d (α − β d), d = √KL"] if fitted else [])]
    if kind.shows_peak:
        parts.append("open marks below: where gold is highest, with its 95% interval")
    if kind.against == "reward":
        parts.append("from left to right n = 1, 2, 4, ...")
    return "; ".join(parts)


def _line(axes: Any, s: Series, kind: CurveFigure, k: int) -> Any:
    estimates = [s.found.metrics[f"{kind.metric}@{n}"] for n in s.found.n_values]
    x = places_along_x(s, kind)
    y = six([e.value for e in estimates])
    bounds = six([e.ci95 or (e.value, e.value) for e in estimates])
    style = style_of(k)
    colour = style["color"]
    fits = kind.metric == "gain" and "fit_alpha" in s.found.metrics
    if fits:
        style |= {"linestyle": ""}  # the fit is the line
    (handle,) = axes.plot(x, y, markersize=3, linewidth=1, **style)
    axes.fill_between(x, bounds[:, 0], bounds[:, 1], color=colour, alpha=0.12, linewidth=0)
    if fits:
        alpha, beta = (s.found.metrics[f"fit_{name}"].value for name in ("alpha", "beta"))
        d = np.linspace(0.0, float(x.max()), 60)
        axes.plot(d, six(y[0] + d * (alpha - beta * d)), color=colour, linestyle="--", linewidth=0.8)
    return handle


def places_along_x(s: Series, kind: CurveFigure) -> Any:
    """Return the places of a line's points along x, shape (n values,)."""
    found = s.found
    if kind.against == "reward":
        rewards = [found.metrics[f"reward@{n}"].value for n in found.n_values]
        x = [(reward - rewards[0]) / found.reward_sd for reward in rewards]
    else:
        x = [sqrt(v) for v in found.kl] if kind.against == "kl" else list(found.n_values)
    return six(x)


def draw_peak(axes: Any, s: Series, kind: CurveFigure, k: int, n_lines: int) -> None:
    """Draw the n of the highest gold with its interval, in a lane below the curves."""
    best = s.found.metrics["best_n"]
    low, high = best.ci95 or (best.value, best.value)
    x = np.interp([low, best.value, high], s.found.n_values, places_along_x(s, kind))
    y = (n_lines - k - 0.5) * _LANE
    style = style_of(k)
    at = {"color": style["color"], "transform": axes.get_xaxis_transform()}
    axes.plot(x[[0, 2]], [y, y], linewidth=1.5, alpha=0.6, **at)
    axes.plot(x[[0, 2]], [y, y], linestyle="", marker="|", markersize=4, **at)
    axes.plot(x[[1]], [y], marker=style["marker"], markersize=5, markerfacecolor="white", **at)


def _make_room(axes: Any, n_lines: int) -> None:
    """Make room for the peaks at the bottom of a row's panels."""
    low, high = axes.get_ylim()
    share = min(n_lines * _LANE, 0.5)
    axes.set_ylim(low - (high - low) * share / (1.0 - share), high)
