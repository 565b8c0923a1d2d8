"""Records to curves: which row, column and line each belongs to, measured again from its stored rewards."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.metrics import Panel
from rmbench.metrics.over_optimisation import OverOptimisation, measure_over_optimisation
from rmbench.metrics.selection import rule_of
from rmbench.record_reader import StoredRun, find_records, stored_panel
from rmbench.records import Record

FIELDS = ("task", "model", "size", "data", "gold", "source", "seed", "rule")
"""What a record can be arranged by, besides `model.KEY` of its fingerprint and the strata of its items."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What rows, columns and lines of a figure are: fields of records, or strata of their items."""

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
    """Empty where there is one column."""
    line: str
    record: Record
    found: OverOptimisation


@dataclass(frozen=True, slots=True)
class Left:
    """A record, or a part of one, that has no curve."""

    what: str
    why: str


def gather(paths: Sequence[Path], layout: Layout) -> tuple[list[Series], list[Left]]:
    """Return the curves of all records at or below `paths`, in their order, and what has none.

    Where the size of the model is a field of the layout, smaller ones come first and unknown ones last.

    Raises:
        ConfigError: If there is no record, none of best of n, none with a curve, or two of them would be the
            same line.
        UnknownNameError: If a field of the layout is none.
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
    """Return what a reader must know: panels whose lines rest on different data, lines without rewards."""
    data: dict[tuple[str, str], set[str]] = {}
    lacking = []
    left_out: dict[tuple[str, str], dict[str, frozenset[str]]] = {}
    for s in series:
        data.setdefault((s.row, s.column), set()).add(str(s.record.identity["data"]))
        left_out.setdefault((s.row, s.column), {})[s.line] = s.found.left_out
        why = s.found.undefined.get("reward")
        if why is None and s.found.reward_sd == 0.0:
            why = "its rewards are equal in every pool; it is not in the figure of gold against reward"
        if why:
            lacking.append(f"no reward of {' / '.join(filter(None, (s.row, s.column, s.line)))}: {why}")
    return (
        lacking
        + [
            f"the lines of {' / '.join(filter(None, place))} rest on {len(found)} different sets of items"
            for place, found in data.items()
            if len(found) > 1
        ]
        + [line for place, lines in left_out.items() for line in _uneven(place, lines)]
    )


def _uneven(place: tuple[str, str], lines: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Say which lines of a panel leave out items that others do not, because of their own rewards."""
    if len(set(lines.values())) > 1:
        shown = ", ".join(f"{line} lacks {len(items):,}" for line, items in lines.items() if items)
        yield (
            f"the lines of {' / '.join(filter(None, place))} rest on different items, as some rewards "
            f"are not valid: {shown}; `rmbench compare` compares on common items"
        )


def _best_of_n(paths: Sequence[Path]) -> tuple[list[StoredRun], list[Left]]:
    runs: dict[Path, StoredRun] = {}
    left: list[Left] = []
    for path in paths:
        if not path.exists():
            raise ConfigError(f"there is no file or folder {path}")
        for run in find_records(path):
            if "best_of_n" in run.record.identity["task"]["kinds"]:
                runs.setdefault(run.path.resolve(), run)
            else:
                left.append(Left(f"{run.record.model} on {run.record.task}", "no best of n among its kinds"))
    if not runs:
        raise ConfigError(f"no record of best of n at {', '.join(map(str, paths))}")
    return list(runs.values()), left


def _series_of(run: StoredRun, layout: Layout) -> Iterator[Series | Left]:
    task = run.record.identity["task"]
    params = {**task["params"], "seed": run.record.identity["seed"]}
    panel = stored_panel(run.rows())
    for values, part in _parts(run, panel, layout):
        labels = [values[name] for name in (layout.rows, layout.columns, layout.lines) if name]
        found = measure_over_optimisation(part, params)
        if not found.n_values:
            shown = ", ".join(dict.fromkeys([run.record.model, run.record.task, *labels]))
            yield Left(shown, found.undefined.get("win_rate", "nothing to measure"))
            continue
        column = values[layout.columns] if layout.columns else ""
        yield Series(values[layout.rows], column, values[layout.lines], run.record, found)


def _parts(run: StoredRun, panel: Panel, layout: Layout) -> Iterator[tuple[dict[str, str], Panel]]:
    """Yield the values of the layout's fields and the items that have them."""
    fixed = _fields(run.record)
    for name in layout.names:
        if name not in fixed and name not in panel.strata:
            raise UnknownNameError("field", name, {*fixed, *panel.strata}, str(run.path))
    keys = [name for name in dict.fromkeys(layout.names) if name not in fixed]
    columns = {key: np.array(panel.strata[key], dtype=str) for key in keys}
    for values in product(*(map(str, np.unique(column)) for column in columns.values())):
        keep = np.ones(panel.n_items, dtype=bool)
        for key, value in zip(keys, values, strict=True):
            keep &= columns[key] == value
        if keep.any():
            shown = {key: value or "(none)" for key, value in zip(keys, values, strict=True)}
            yield {**fixed, **shown}, panel.take(keep) if keys else panel


def _fields(record: Record) -> dict[str, str]:
    params: Mapping[str, Any] = record.identity["task"]["params"]
    return {
        "task": record.task,
        "model": record.model,
        "size": _size(_parameters(record)),
        "data": str(record.identity["data"])[:8],
        "gold": str((record.identity.get("gold") or {}).get("spec", "of the data")),
        # The name of its file or folder: where it lies is nobody's concern.
        "source": str(record.provenance.get("data") or "").rpartition("/")[2],
        "seed": str(record.identity["seed"]),
        "rule": str(rule_of(params)),
        **{f"model.{key}": str(value) for key, value in record.identity["model"].items()},
    }


def _parameters(record: Record) -> int | None:
    found = record.provenance.get("parameters")
    return found if isinstance(found, int) and found > 0 else None


def _size(n: int | None) -> str:
    """Return a number of parameters as people say it: 135M."""
    if n is None:
        return "size unknown"
    n = int(float(f"{n:.3g}"))  # else 999,999 would be 1e+03K
    unit, name = next(((u, x) for u, x in ((10**9, "B"), (10**6, "M"), (10**3, "K")) if n >= u), (1, ""))
    return f"{n / unit:.3g}{name}"
