"""Curves of best of N: their row, column and line; and curves as CSV, LaTeX and JSON."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.format.tables import (
    Block,
    Cell,
    Column,
    Table,
    as_latex,
    cell_of,
    csv_text,
    no_value,
    value_low_high,
)
from rmbench.metrics import Panel
from rmbench.metrics.over_optimisation import OverOptimisation, measure_over_optimisation
from rmbench.metrics.selection import rule_of
from rmbench.results.read import runs_at
from rmbench.results.record import Record, estimate_to_json, rounded
from rmbench.results.run import Run

FIELDS = ("task", "model", "size", "data", "gold", "source", "seed", "rule")
"""Fields that records are arranged by, besides `model.KEY` of the fingerprint and strata of the items."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Fields of records, or strata of their items, that make rows, columns and lines of a figure."""

    rows: str = "task"
    columns: str | None = None
    lines: str = "model"

    @property
    def names(self) -> tuple[str, ...]:
        """The fields in use."""
        return (self.rows, *([self.columns] if self.columns else []), self.lines)


@dataclass(frozen=True, slots=True)
class Series:
    """One line of one panel."""

    row: str
    column: str
    """Empty without a field for columns."""
    line: str
    record: Record
    found: OverOptimisation

    @property
    def name(self) -> str:
        """Row, column and line."""
        return " / ".join(filter(None, (self.row, self.column, self.line)))


@dataclass(frozen=True, slots=True)
class Left:
    """A record, or a part of one, that has no curve."""

    what: str
    why: str


def gather(paths: Sequence[Path], layout: Layout) -> tuple[list[Series], list[Left]]:
    """Return the curves of all records at or below `paths`, in their order, and what was left out.

    With the model's size in the layout, smaller models come first and unknown sizes last.

    Raises:
        ConfigError: If there is no record, none of best of n, none with a curve, or two of them would be the
            same line.
        UnknownNameError: If a field of the layout does not exist.
        StoreError: If rewards are missing or damaged.
    """
    runs, left = _best_of_n(paths)
    series: list[Series] = []
    taken: dict[tuple[str, str, str], Path] = {}
    for run in runs:
        for one in _series_of(run, layout):
            if isinstance(one, Left):
                left.append(one)
                continue
            place = (one.row, one.column, one.line)
            if place in taken:
                free = [f for f in FIELDS if f not in layout.names]
                raise ConfigError(
                    f"{taken[place]} and {run.path} are the same line ({', '.join(filter(None, place))});"
                    f" tell them apart with --rows, --columns or --lines ({', '.join(free)}, model.KEY, a"
                    f" stratum)"
                )
            taken[place] = run.path
            series.append(one)
    if not series:
        raise ConfigError(f"nothing to draw; {left[-1].what}: {left[-1].why}")
    if "size" in layout.names:
        series.sort(key=lambda s: _parameters(s.record) or math.inf)
    return series, left


def notes_of(series: Iterable[Series]) -> list[str]:
    """Return notes: panels whose lines rest on different data, lines without rewards."""
    data: dict[tuple[str, str], set[str]] = {}
    lacking: list[tuple[str, dict[str, str]]] = []
    left_out: dict[tuple[str, str], dict[str, frozenset[str]]] = {}
    for s in series:
        data.setdefault((s.row, s.column), set()).add(str(s.record.identity["data"]))
        left_out.setdefault((s.row, s.column), {})[s.line] = s.found.left_out
        why = s.found.undefined.get("reward")
        if why is None and s.found.reward_sd == 0.0:
            why = "its rewards are equal in every pool; it is not in the figure of gold against reward"
        lacking.append((s.name, {"reward": why} if why else {}))
    return (
        no_value(lacking)
        + [
            f"the lines of {' / '.join(filter(None, place))} rest on {len(found)} different sets of items"
            for place, found in data.items()
            if len(found) > 1
        ]
        + [line for place, lines in left_out.items() for line in _uneven(place, lines)]
    )


def _uneven(place: tuple[str, str], lines: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Yield a note if lines of a panel left out different items because of their own rewards."""
    if len(set(lines.values())) > 1:
        shown = ", ".join(f"{line} lacks {len(items):,}" for line, items in lines.items() if items)
        yield (
            f"the lines of {' / '.join(filter(None, place))} rest on different items, as some rewards "
            f"are not valid: {shown}; `rmbench compare` compares on common items"
        )


def _best_of_n(paths: Sequence[Path]) -> tuple[list[Run], list[Left]]:
    runs: dict[Path, Run] = {}
    left: list[Left] = []
    for path in paths:
        for run in runs_at(path):
            run.check_rewards()
            if "best_of_n" in run.kinds:
                runs.setdefault(run.path.resolve(), run)
            else:
                left.append(Left(f"{run.record.model} on {run.record.task}", "no best of n among its kinds"))
    if not runs:
        raise ConfigError(f"no record of best of n at {', '.join(map(str, paths))}")
    return list(runs.values()), left


def _series_of(run: Run, layout: Layout) -> Iterator[Series | Left]:
    for values, part in _parts(run, layout):
        labels = [values[name] for name in (layout.rows, layout.columns, layout.lines) if name]
        found = measure_over_optimisation(part, run.settings)
        if not found.n_values:
            shown = ", ".join(dict.fromkeys([run.record.model, run.record.task, *labels]))
            yield Left(shown, found.undefined.get("win_rate", "nothing to measure"))
            continue
        column = values[layout.columns] if layout.columns else ""
        yield Series(values[layout.rows], column, values[layout.lines], run.record, found)


def _parts(run: Run, layout: Layout) -> Iterator[tuple[dict[str, str], Panel]]:
    """Yield the values of the layout's fields and the items that have them."""
    fixed, panel = _fields(run), run.panel
    for name in layout.names:
        if name not in fixed and name not in panel.strata:
            raise UnknownNameError("field", name, {*fixed, *panel.strata}, str(run.path))
    keys = [name for name in dict.fromkeys(layout.names) if name not in fixed]
    columns = {key: np.array(panel.strata[key], dtype=object) for key in keys}
    for values in product(*(map(str, np.unique(column)) for column in columns.values())):
        keep = np.ones(panel.n_items, dtype=bool)
        for key, value in zip(keys, values, strict=True):
            keep &= columns[key] == value
        if keep.any():
            shown = {key: value or "(none)" for key, value in zip(keys, values, strict=True)}
            yield {**fixed, **shown}, panel.take(keep) if keys else panel


def _fields(run: Run) -> dict[str, str]:
    return {
        "task": run.task,
        "model": run.model,
        "size": _size(_parameters(run.record)),
        "data": run.data[:8],
        "gold": str((run.gold or {}).get("spec", "of the data")),
        # Only the name of the file or folder: its path is private.
        "source": str(run.record.provenance.get("data") or "").rpartition("/")[2],
        "seed": str(run.seed),
        "rule": str(rule_of(run.params)),
        **{f"model.{key}": str(value) for key, value in run.fingerprint.items()},
    }


def _parameters(record: Record) -> int | None:
    found = record.provenance.get("parameters")
    return found if isinstance(found, int) and found > 0 else None


def _size(n: int | None) -> str:
    """Return a number of parameters in short, such as 135M."""
    if n is None:
        return "size unknown"
    n = int(float(f"{n:.3g}"))  # else 999,999 would be 1e+03K
    unit, name = next(((u, x) for u, x in ((10**9, "B"), (10**6, "M"), (10**3, "K")) if n >= u), (1, ""))
    return f"{n / unit:.3g}{name}"


MEASURED = ("win_rate", "gold", "gain", "reward", "regret", "oracle")
"""Metrics with intervals at each n. `reward_sd`, the figure's unit of rewards, is one number per line."""
_PLACE = ("row", "column", "line", "task", "version", "model", "run_id", "data")
_IN_PRINT = {"win_rate": "Win rate", "gold": "Gold of the pick"}
"""Metrics in LaTeX -> title; CSV has all of `MEASURED`."""
FITTED = ("best_n", "overoptimization_drop", "fit_alpha", "fit_beta", "fit_rmse", "fit_peak_kl")


def curves_csv(series: Iterable[Series]) -> str:
    """Return CSV with a row per line and n: KL in nats and its kind, values with intervals."""
    heads = [*_PLACE, "n", "prompts", "kl", "kl_is", "sqrt_kl"]
    heads += [f"{name}{end}" for name in MEASURED for end in ("", "_low", "_high")]
    heads.append("reward_sd")
    rows = []
    for s in series:
        metrics = s.found.metrics
        for n, kl in zip(s.found.n_values, s.found.kl, strict=True):
            gold = metrics[f"gold@{n}"]
            row: list[Any] = [n, gold.n, kl, s.found.kl_is, sqrt(kl)]
            for name in MEASURED:
                row += value_low_high(metrics.get(f"{name}@{n}"))
            row.append(s.found.reward_sd if "reward@1" in metrics else "")
            rows.append([*_place(s), *row])
    return csv_text(heads, rows)


def fits_csv(series: Iterable[Series]) -> str:
    """Return CSV with a row per line and number of the whole curve, or the reason for none."""
    rows = []
    for s in series:
        for name in FITTED:
            estimate = s.found.metrics.get(name)
            why = "" if estimate else s.found.undefined.get(name, "not measured")
            unit = estimate.unit if estimate else ""
            rows.append([*_place(s), name, *value_low_high(estimate), unit, why])
    return csv_text([*_PLACE, "metric", "value", "low", "high", "unit", "undefined"], rows)


def curves_latex(series: Sequence[Series]) -> str:
    """Return LaTeX tables: for each panel its lines by n; and the numbers of whole curves."""
    panels: dict[tuple[str, str], list[Series]] = {}
    for s in series:
        panels.setdefault((s.row, s.column), []).append(s)
    blocks = [_panel_block(place, lines, measure) for place, lines in panels.items() for measure in _IN_PRINT]
    return as_latex([*blocks, _fits_block(series)]) + "\n"


def _panel_block(place: tuple[str, str], lines: Sequence[Series], measure: str) -> Block:
    sizes = sorted({n for s in lines for n in s.found.n_values})
    shown = " / ".join(filter(None, place))
    rows: list[tuple[Cell, ...]] = [
        (s.line, *(cell_of(s.found.metrics.get(f"{measure}@{n}")) for n in sizes)) for s in lines
    ]
    table = Table((Column("line", "text"), *(Column(f"n = {n}") for n in sizes)), tuple(rows))
    caption = f"{_IN_PRINT[measure]} at the best of n responses: {shown}"
    return Block(f"curve-{shown}-{measure}", (caption,), table)


def _fits_block(series: Sequence[Series]) -> Block:
    keys = [Column(head, "text") for head in ("row", "column", "line")]
    rows: list[tuple[Cell, ...]] = [
        (s.row, s.column, s.line, *(cell_of(s.found.metrics.get(name)) for name in FITTED)) for s in series
    ]
    notes = no_value(
        (s.name, {f: s.found.undefined.get(f, "not measured") for f in FITTED if f not in s.found.metrics})
        for s in series
    )
    table = Table((*keys, *map(Column, FITTED)), tuple(rows))
    caption = "Numbers of whole curves: the best n, what is lost from it to the largest, and the fit"
    return Block("curve-fits", (caption,), table, (*notes_of(series), *notes))


def curves_json(series: Iterable[Series]) -> list[dict[str, Any]]:
    """Return every line as JSON values."""
    return [
        {
            **dict(zip(_PLACE, _place(s), strict=True)),
            "n": list(s.found.n_values),
            "kl": rounded(list(s.found.kl)),
            "kl_is": s.found.kl_is,
            "reward_sd": rounded(s.found.reward_sd) if "reward@1" in s.found.metrics else None,
            "metrics": {name: estimate_to_json(e) for name, e in s.found.metrics.items()},
            "undefined": dict(s.found.undefined),
            "counts": dict(s.found.counts),
        }
        for s in series
    ]


def _place(s: Series) -> list[str]:
    record = s.record
    texts = [s.row, s.column, s.line, record.task, str(record.task_version), record.model, record.run_id]
    return [*texts, str(record.identity["data"])]
