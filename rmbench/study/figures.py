"""Figures of a study, as SVG and PNG: a row per task (or quantity), a column per base, a line per method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmbench.core.files import slug
from rmbench.metrics.kinds import sizes_of
from rmbench.metrics.margins import QUANTILES
from rmbench.plot.style import doublings, dress, label, legend_columns, level, panel_files, six, style_of
from rmbench.stats.clusters import Floats
from rmbench.study.run import BatchRow, Cell, StudyRun
from rmbench.study.spec import DataSource, StudySpec


@dataclass(frozen=True, slots=True)
class Line:
    """One method in one panel: mean over seeds, and the seeds' standard deviation as error bars."""

    x: Floats
    y: Floats
    error: Floats


_PANEL, _AROUND = 2.7, 1.2
"""Inches: width of a panel, and of what stands beside all of them."""
Lines = Mapping[str, Line]
"""Method -> line."""


@dataclass(frozen=True, slots=True)
class Look:
    """How the panels of a figure look."""

    x_label: str
    doubling: bool = False
    level: float | None = None
    """A dotted line, such as chance."""
    marked: bool = True


def render_figures(spec: StudySpec, run: StudyRun, batches: Sequence[BatchRow] = ()) -> dict[str, bytes]:
    """Return file name -> content. The same records give the same bytes on the same versions."""
    tasks = dict.fromkeys(e.task for e in spec.evaluate)
    files: dict[str, bytes] = {}
    for data in spec.data:
        kinds: tuple[tuple[str, Callable[[Any], _Points], str, Look], ...] = (
            ("best-of-n", _win_rates, "win rate", Look("N (responses to choose from)", True, 0.5)),
            ("gold", _gold, "gold", Look("N (responses to choose from)", True)),
            ("deciles", _tenths, "accuracy", Look("tenth of |margin|, least sure first", level=0.5)),
            ("margins", _quantiles, "share of pairs", Look("margin", level=0.5, marked=False)),
        )
        for kind, points, y_label, style in kinds:
            grid = {}
            for task in tasks:
                row = {base: _panel(spec, run, base, data, task, points) for base in spec.bases}
                if any(row.values()):
                    shown = next(o.run.record.task for (_, t), o in run.outcomes.items() if t == task)
                    grid[f"{shown}\n{y_label}"] = row
            if grid:
                files |= draw_grid(f"{slug(data.name)}.{kind}", _title(data), grid, style)
        grid = {
            words: {base: _training(spec, run, base, data, key) for base in spec.bases}
            for key, words in _CURVES.items()
        }
        grid = {words: row for words, row in grid.items() if any(row.values())}
        if grid:
            style = Look("optimiser steps", marked=False)
            files |= draw_grid(f"{slug(data.name)}.training", _title(data), grid, style)
    if batches:
        title = "mu_B of confidence-margin from step to step, first seed"
        files |= draw_grid("batch-size", title, _batch_grid(batches), Look("share of training", marked=False))
    return files


def _title(data: DataSource) -> str:
    return f"trained on {data.name} (mean over seeds)"


_Points = tuple[list[float], list[float]]
_CURVES = {
    "eval_nll": "held-out NLL",
    "eval_margin": "held-out margin",
    "eval_scale": "s.d. of rewards",
    "mu_batch": "mu_B of the step",
}


def _panel(
    spec: StudySpec, run: StudyRun, base: str, data: DataSource, task: str, points: Callable[[Any], _Points]
) -> Lines:
    found = {}
    for method in spec.methods:
        records = [run.outcomes[Cell(base, data, method, s).name, task].run.record for s in range(spec.seeds)]
        line = _over_seeds([points(record) for record in records])
        if line is not None:
            found[method.name] = line
    return found


def _training(spec: StudySpec, run: StudyRun, base: str, data: DataSource, key: str) -> Lines:
    found = {}
    for method in spec.methods:
        curves = [run.models[Cell(base, data, method, s).name]["curve"] for s in range(spec.seeds)]
        seen = [([p["step"] for p in c if key in p], [p[key] for p in c if key in p]) for c in curves]
        line = _over_seeds(seen)
        if line is not None:
            found[method.name] = line
    return found


def _over_seeds(seeds: Sequence[_Points]) -> Line | None:
    """Return mean and deviation at the places that all seeds share (margins: the mean of the places too)."""
    seeds = [s for s in seeds if s[0]]
    n = min((len(x) for x, _ in seeds), default=0)
    if n == 0:
        return None
    x = np.array([s[0][:n] for s in seeds])
    y = np.array([s[1][:n] for s in seeds])
    deviation = y.std(axis=0, ddof=1) if len(seeds) > 1 else np.zeros(n)
    return Line(six(x.mean(axis=0)), six(y.mean(axis=0)), six(deviation))


def _at_n(record: Any, stem: str) -> _Points:
    n_values = sizes_of(stem, record.metrics)
    return [float(n) for n in n_values], [record.metrics[f"{stem}@{n}"].value for n in n_values]


def _win_rates(record: Any) -> _Points:
    return _at_n(record, "win_rate")


def _gold(record: Any) -> _Points:
    return _at_n(record, "gold")


def _tenths(record: Any) -> _Points:
    rows = [d["accuracy"] for d in record.curves.get("margin_deciles") or []]
    return ([float(k) for k in range(1, 11)], rows) if len(rows) == 10 else ([], [])


def _quantiles(record: Any) -> _Points:
    """Return the distribution of margins: (margin, share of pairs at or below it)."""
    found = record.curves.get("margin_quantiles") or {}
    shares = [q for q in QUANTILES if f"{q:g}" in found]
    return [float(found[f"{q:g}"]) for q in shares], list(shares)


def _batch_grid(batches: Sequence[BatchRow]) -> Mapping[str, Mapping[str, Lines]]:
    grid: dict[str, dict[str, dict[str, Line]]] = {}
    for b in batches:
        n = len(b.curve)
        window = max(1, n // 40)
        starts = range(0, n - window + 1, window)
        y = [np.mean(b.curve[k : k + window]) for k in starts]
        error = [np.std(b.curve[k : k + window]) for k in starts]
        lines = grid.setdefault(f"{b.data}\nmu_B", {}).setdefault(b.base, {})
        shown = [(k + window / 2) / n for k in starts]
        lines[f"{b.batch_size} pairs per step"] = Line(six(shown), six(y), six(error))
    return grid


def draw_grid(
    stem: str, title: str, grid: Mapping[str, Mapping[str, Lines]], style: Look
) -> dict[str, bytes]:
    """Return `stem`.svg and `stem`.png: a row per label of the grid, a column per base, a line per method."""
    rows, columns = list(grid.values()), list(dict.fromkeys(base for row in grid.values() for base in row))
    panels = [panel for row in rows for panel in row.values()]
    names = list(dict.fromkeys(name for panel in panels for name in panel))
    bars = bool(any(np.any(line.error) for panel in panels for line in panel.values()))

    labels = [label(name) for name in names]
    n_columns = min(len(labels) or 1, legend_columns(labels, _AROUND + _PANEL * len(columns)))
    n_rows = -(-len(labels) // n_columns)

    def finish(figure: Any, axes: Any) -> None:
        found: dict[str, Any] = {}
        for panel in axes.flat:
            handles, shown = panel.get_legend_handles_labels()
            found |= dict(zip(shown, handles, strict=True))
        order = [name for name in labels if name in found]
        look = {"ncols": n_columns, "frameon": False, "fontsize": 7}
        figure.legend([found[n] for n in order], order, loc="outside lower left", **look)
        said = [label(title, 60), "bars: standard deviation"][: 1 + bars]
        figure.suptitle("\n".join(said), fontsize=8, x=0.01, ha="left")

    return panel_files(
        stem,
        list(grid),
        columns,
        lambda axes, i, j: _fill(axes, rows[i].get(columns[j], {}), names, style),
        finish,
        panel=(_PANEL, 1.9),
        around=(_AROUND, 0.75 + 0.16 * n_rows),
        x_label=style.x_label,
    )


def _fill(axes: Any, lines: Lines, names: Sequence[str], style: Look) -> None:
    for name, line in lines.items():
        look = style_of(names.index(name)) | ({} if style.marked else {"marker": None})
        error = line.error if np.any(line.error) else None
        axes.errorbar(
            line.x, line.y, yerr=error, label=label(name), markersize=3, linewidth=1, elinewidth=0.6, **look
        )
    if style.level is not None:
        level(axes, style.level, color="#888888", linewidth=0.8)
    if style.doubling and lines:
        doublings(axes, next(iter(lines.values())).x)
    dress(axes, linewidth=0.3)
