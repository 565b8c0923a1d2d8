"""Figures of a study, as SVG and PNG: a row per task (or quantity), a column per base, a line per method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmbench.core.identity import slug
from rmbench.plot.style import COLOURS, MARKERS, drawing, image_files
from rmbench.study.run import BatchRow, Cell, StudyRun
from rmbench.study.spec import DataSource, StudySpec


@dataclass(frozen=True, slots=True)
class Line:
    """One method in one panel: mean over seeds, and the seeds' standard deviation as error bars."""

    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float]


Panel = Mapping[str, Line]
"""Method -> line."""


@dataclass(frozen=True, slots=True)
class _Style:
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
        kinds: tuple[tuple[str, Callable[[Any], _Points], str, _Style], ...] = (
            ("best-of-n", _win_rates, "win rate", _Style("N (responses to choose from)", True, 0.5)),
            ("gold", _gold, "gold", _Style("N (responses to choose from)", True)),
            ("deciles", _tenths, "accuracy", _Style("tenth of |margin|, least sure first", level=0.5)),
            ("margins", _quantiles, "share of pairs", _Style("margin", level=0.5, marked=False)),
        )
        for kind, points, y_label, style in kinds:
            grid = {}
            for task in tasks:
                row = {base: _panel(spec, run, base, data, task, points) for base in spec.bases}
                if any(row.values()):
                    shown = next(o.run.record.task for (_, t), o in run.outcomes.items() if t == task)
                    grid[f"{shown}\n{y_label}"] = row
            if grid:
                files |= _draw(f"{slug(data.name)}.{kind}", _title(data), grid, style)
        grid = {
            label: {base: _training(spec, run, base, data, key) for base in spec.bases}
            for key, label in _CURVES.items()
        }
        grid = {label: row for label, row in grid.items() if any(row.values())}
        if grid:
            style = _Style("optimiser steps", marked=False)
            files |= _draw(f"{slug(data.name)}.training", _title(data), grid, style)
    if batches:
        title = "mu_B of confidence-margin from step to step, first seed"
        files |= _draw("batch-size", title, _batch_grid(batches), _Style("share of training", marked=False))
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
) -> Panel:
    found = {}
    for method in spec.methods:
        records = [run.outcomes[Cell(base, data, method, s).name, task].run.record for s in range(spec.seeds)]
        line = _over_seeds([points(record) for record in records])
        if line is not None:
            found[method.name] = line
    return found


def _training(spec: StudySpec, run: StudyRun, base: str, data: DataSource, key: str) -> Panel:
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
    return Line(_six(x.mean(axis=0)), _six(y.mean(axis=0)), _six(deviation))


def _six(values: Any) -> list[float]:
    """Return six decimals: a record in memory and the same one from its file differ far below a pixel."""
    return [round(float(v), 6) for v in values]


def _at_n(record: Any, stem: str) -> _Points:
    n_values = sorted(int(m.partition("@")[2]) for m in record.metrics if m.startswith(f"{stem}@"))
    return [float(n) for n in n_values], [record.metrics[f"{stem}@{n}"].value for n in n_values]


def _win_rates(record: Any) -> _Points:
    return _at_n(record, "win_rate")


def _gold(record: Any) -> _Points:
    return _at_n(record, "gold")


def _tenths(record: Any) -> _Points:
    rows = [d["accuracy"] for d in record.curves.get("margin_deciles", [])]
    return ([float(k) for k in range(1, 11)], rows) if len(rows) == 10 else ([], [])


def _quantiles(record: Any) -> _Points:
    """Return the distribution of margins: (margin, share of pairs at or below it)."""
    found = record.curves.get("margin_quantiles") or {}
    return [float(v) for v in found.values()], [float(k) for k in found]


def _batch_grid(batches: Sequence[BatchRow]) -> dict[str, dict[str, Panel]]:
    grid: dict[str, dict[str, Panel]] = {}
    for b in batches:
        n = len(b.curve)
        window = max(1, n // 40)
        starts = range(0, n - window + 1, window)
        y = [np.mean(b.curve[k : k + window]) for k in starts]
        error = [np.std(b.curve[k : k + window]) for k in starts]
        panel = grid.setdefault(f"{b.data}\nmu_B", {}).setdefault(b.base, {})
        shown = [(k + window / 2) / n for k in starts]
        panel[f"{b.batch_size} pairs per step"] = Line(_six(shown), _six(y), _six(error))  # type: ignore[index]
    return grid


def _draw(stem: str, title: str, grid: Mapping[str, Mapping[str, Panel]], style: _Style) -> dict[str, bytes]:
    columns = list(dict.fromkeys(base for row in grid.values() for base in row))
    names = list(dict.fromkeys(m for row in grid.values() for panel in row.values() for m in panel))
    with drawing() as figure_class:
        size = (1.9 + 2.7 * len(columns), 0.7 + 1.9 * len(grid))
        figure = figure_class(figsize=size, layout="constrained")
        axes = figure.subplots(len(grid), len(columns), squeeze=False)
        for i, (label, row) in enumerate(grid.items()):
            for j, base in enumerate(columns):
                _fill(axes[i][j], row.get(base, {}), names, style)
                axes[i][j].set(title=base if i == 0 else "", ylabel=label if j == 0 else "")
                axes[i][j].set_xlabel(style.x_label if i == len(grid) - 1 else "")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False)
        lines = [line for row in grid.values() for panel in row.values() for line in panel.values()]
        bars = "; bars: standard deviation" if any(any(line.error) for line in lines) else ""
        figure.suptitle(f"{title}{bars}", fontsize=9)
        return image_files(figure, stem)


def _fill(axes: Any, panel: Panel, names: Sequence[str], style: _Style) -> None:
    for name, line in panel.items():
        k = names.index(name)
        axes.errorbar(
            line.x,
            line.y,
            yerr=line.error if any(line.error) else None,
            marker=MARKERS[k % len(MARKERS)] if style.marked else None,
            color=COLOURS[k % len(COLOURS)],
            label=name,
            markersize=3,
            linewidth=1,
            elinewidth=0.6,
        )
    if style.level is not None:
        axes.axhline(style.level, color="#888888", linewidth=0.8, linestyle=":")
    if style.doubling and panel:
        axes.set_xscale("log", base=2)
        ticks = next(iter(panel.values())).x
        axes.set_xticks(list(ticks), [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.3)
