"""The figures: win rate and gold, each against n and against the square root of KL (gold as its gain)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from rmbench.curves.gather import Series
from rmbench.escape import one_line
from rmbench.plots import COLOURS, MARKERS, drawing, image_files

_DASHES = ("-", "--", ":", "-.")
_SHORT = 28


@dataclass(frozen=True, slots=True)
class _Kind:
    stem: str
    metric: str
    y_label: str
    against_kl: bool = False
    level: float | None = None


_KINDS = (
    _Kind("win-rate", "win_rate", "win rate", level=0.5),
    _Kind("win-rate-by-kl", "win_rate", "win rate", against_kl=True, level=0.5),
    _Kind("gold", "gold", "gold"),
    _Kind("gain-by-kl", "gain", "gain in gold", against_kl=True, level=0.0),
)


def draw_curves(series: Sequence[Series]) -> dict[str, bytes]:
    """Return file name -> content of every figure, SVG and PNG; the same series give the same bytes.

    Lines of a panel share its axes, bands are 95% intervals. Against KL the fitted curve of Gao et al. is
    dashed where there is one.

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    files: dict[str, bytes] = {}
    for kind in _KINDS:
        files |= _figure(series, kind)
    return files


def _figure(series: Sequence[Series], kind: _Kind) -> dict[str, bytes]:
    rows, columns, names = (
        list(dict.fromkeys(getattr(s, key) for s in series)) for key in ("row", "column", "line")
    )
    with drawing() as figure_class:
        size = (2.2 + 2.9 * len(columns), 0.6 + 2.3 * len(rows))
        figure = figure_class(figsize=size, layout="constrained")
        axes = figure.subplots(len(rows), len(columns), squeeze=False, sharex="col", sharey="row")
        handles: dict[str, Any] = {}
        ticks = max((s.found.n_values for s in series), key=max)  # panels of a column share their axis
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                inside = [s for s in series if (s.row, s.column) == (row, column)]
                for s in inside:
                    handle = _line(axes[i][j], s, kind, names.index(s.line))
                    handles.setdefault(s.line, handle)
                _dress(axes[i][j], inside, kind, ticks)
                axes[i][j].set(
                    title=_text(column) if i == 0 else "",
                    ylabel=f"{_text(row)}\n{kind.y_label}" if j == 0 else "",
                    xlabel=_x_label(series, kind) if i == len(rows) - 1 else "",
                )
        shown = [name for name in names if name in handles]
        figure.legend(
            [handles[n] for n in shown], [_text(n) for n in shown], loc="outside right upper", frameon=False
        )
        figure.supxlabel(_caption(series, kind), fontsize=7, color="#555555", x=0.01, ha="left")
        return image_files(figure, kind.stem)


def _x_label(series: Sequence[Series], kind: _Kind) -> str:
    if not kind.against_kl:
        return "n (responses to choose from)"
    found = {s.found.kl_is for s in series}
    what = {"bound": "upper bound on KL", "estimate": "estimated KL"}
    return rf"$\sqrt{{\mathrm{{KL}}}}$ ({' or '.join(what[f] for f in sorted(found))}, nats)"


def _caption(series: Sequence[Series], kind: _Kind) -> str:
    fitted = kind.metric == "gain" and any("fit_alpha" in s.found.metrics for s in series)
    return "bands: 95% intervals by prompt" + ("; dashed: fit of d (α − β d), d = √KL" if fitted else "")


def _line(axes: Any, s: Series, kind: _Kind, k: int) -> Any:
    estimates = [s.found.metrics[f"{kind.metric}@{n}"] for n in s.found.n_values]
    x = np.array([sqrt(v) for v in s.found.kl] if kind.against_kl else s.found.n_values, dtype=np.float64)
    # Six decimals: a record in memory and the same one from its file differ far below a pixel.
    x = np.round(x, 6)
    y = np.round([e.value for e in estimates], 6)
    bounds = np.round([e.ci95 or (e.value, e.value) for e in estimates], 6)
    colour = COLOURS[k % len(COLOURS)]
    fits = kind.metric == "gain" and "fit_alpha" in s.found.metrics
    (handle,) = axes.plot(
        x,
        y,
        color=colour,
        marker=MARKERS[k % len(MARKERS)],
        # More lines than colours: the dashes tell them apart. Dots alone where the fit is the line.
        linestyle="" if fits else _DASHES[k // len(COLOURS) % len(_DASHES)],
        markersize=3,
        linewidth=1,
    )
    axes.fill_between(x, bounds[:, 0], bounds[:, 1], color=colour, alpha=0.12, linewidth=0)
    if fits:
        alpha, beta = (s.found.metrics[f"fit_{name}"].value for name in ("alpha", "beta"))
        d = np.linspace(0.0, float(x.max()), 60)
        axes.plot(d, np.round(y[0] + d * (alpha - beta * d), 6), color=colour, linestyle="--", linewidth=0.8)
    return handle


def _dress(axes: Any, inside: Sequence[Series], kind: _Kind, ticks: Sequence[int]) -> None:
    if not inside:
        axes.axis("off")
        return
    if kind.level is not None:
        axes.axhline(kind.level, color="#888888", linewidth=0.8, linestyle=":")
    if not kind.against_kl:
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(ticks), [str(t) for t in ticks])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.3)


def _text(value: str) -> str:
    """Return a label that matplotlib takes for text: no formula, and not hidden for its first character."""
    safe = one_line(value, _SHORT).replace("$", r"\$")
    return f" {safe}" if safe.startswith("_") else safe
