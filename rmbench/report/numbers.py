"""Sections of a report (models on the same items), the rows of its tables, and the notes beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmbench.core.digits import Digits, digits_of_estimates
from rmbench.format.pages import ARROWS, Scale, better, estimate_parts, scale_of
from rmbench.format.tables import no_value
from rmbench.metrics.kinds import at_largest_n, headlines_of, is_official, kinds_of, meaning_of, metric_of
from rmbench.plot import Source, name_sources
from rmbench.report.tables import side_by_side
from rmbench.results.read import find_runs
from rmbench.results.record import caveats, dropped, items_left_out, kept_empty, remarks
from rmbench.results.run import Run
from rmbench.tasks.spec import task_name


@dataclass(frozen=True, slots=True)
class Section:
    """Models on the same items."""

    key: str
    """Prefix of this section's ids."""
    tasks: tuple[str, ...]
    """Names; several for tasks with equal numbers (`preference` and `calibration`)."""
    sources: tuple[Source, ...]

    @property
    def task(self) -> str:
        """The first task."""
        return self.tasks[0]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are measured."""
        return self.sources[0].kinds


def runs_of(names: Sequence[str], results: Path, tasks: Sequence[str] = ()) -> list[Run]:
    """Return the records that `names` mean: paths of records or folders, or models in `results`.

    They are in the order of `tasks`; without `tasks` in the order of `names`, pools last.

    Args:
        names: Paths or model names, as on the command line.
        results: Folder where the records of a model are.
        tasks: Only records of these tasks; empty: of all tasks.

    Raises:
        ConfigError: If a path has no record.
        UnknownNameError: If there is no such model, or no record of such a task.
        DataError: If a file is not a record.
    """
    runs = find_runs(names, results, tasks)
    place = {task_name(task): n for n, task in enumerate(tasks)}
    return sorted(runs, key=lambda run: (place.get(run.task, 0), *(() if tasks else _rank(run))))


def _rank(run: Run) -> tuple[bool, bool]:
    """Return a sort key: pools stand last, before them tasks whose headline is a calibration error."""
    return "best_of_n" in run.kinds, run.record.primary.startswith("ece")


def sections_of(runs: Sequence[Run]) -> list[Section]:
    """Return runs by their items, in the order of the tasks' first records."""
    return [
        Section(f"s{n}", tuple(dict.fromkeys(name for name, _ in tasks)), tuple(name_sources(group)))
        for n, (tasks, group) in enumerate(side_by_side(runs), 1)
    ]


def headline_rows(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Return a row per headline metric that a record knows, with a cell per record."""
    held = [s.record.metrics for s in sources]
    rows: list[dict[str, Any]] = []
    for kind in kinds_of(sources[0].kinds, "both"):
        names = headlines_of(kind) or tuple(dict.fromkeys(m for metrics in held for m in metrics))
        for name in dict.fromkeys(at_largest_n(n, held) for n in names):
            known = any(name in s.record.metrics or name in s.record.undefined for s in sources)
            if known and name not in {row["name"] for row in rows}:
                rows.append(_row(name, sources) | {"official": is_official(kind)})
    return rows


def all_rows(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Return a row per metric of the records."""
    names = dict.fromkeys(name for s in sources for name in (*s.record.metrics, *s.record.undefined))
    return [_row(name, sources) for name in names]


def _row(name: str, sources: Sequence[Source]) -> dict[str, Any]:
    estimates = [s.record.metrics[name] for s in sources if name in s.record.metrics]
    scale, digits, direction = scale_of(estimates), digits_of_estimates(estimates), better(estimates)
    return {
        "name": name,
        "arrow": ARROWS[direction],
        "direction": direction,
        "meaning": meaning_of(name, sources[0].kinds),
        "unit": estimates[0].unit if estimates else "",
        "axis": scale.ends() if estimates else None,
        "once": len(sources) > 1 and _is_of_data(name, sources),
        "cells": [_cell(name, s, scale, digits) for s in sources],
    }


def _is_of_data(name: str, sources: Sequence[Source]) -> bool:
    """Return whether a metric describes the data alone, and all records have the same value of it."""
    known = metric_of(name, sources[0].kinds)
    told = {(e.value, e.ci95) if (e := s.record.metrics.get(name)) else None for s in sources}
    return known is not None and known.of_data and len(told) == 1 and None not in told


def _cell(name: str, source: Source, scale: Scale, digits: Digits) -> dict[str, Any]:
    estimate = source.record.metrics.get(name)
    n = f"n = {estimate.n:,}, {estimate.n_clusters:,} prompts" if estimate else ""
    why = source.record.undefined.get(name, "not in this record")
    return {**estimate_parts(estimate, digits, scale, why), "n": n}


def notes_of(sources: Sequence[Source]) -> list[str]:
    """Return notes on data left out, texts cut, ties, prompts trained on, and missing numbers."""
    lines = []
    for source in sources:
        left_out = dropped(source.record)
        parts = caveats(source.record) + ([f"left out of the data: {left_out}"] if left_out else [])
        parts += [told] if (told := kept_empty(source.record)) else []
        if parts:
            lines.append(f"{source.label}: {', '.join(parts)}")
        lines += [f"{source.label}: {remark}" for remark in remarks(source.record)]
    missing = no_value((source.label, source.record.undefined) for source in sources)
    return lines + _uneven(sources) + missing


def _uneven(sources: Sequence[Source]) -> list[str]:
    """Return a note if models left out items because of their own rewards."""
    shown = [
        f"{s.label} lacks {n:,} in {kind}"
        for s in sources
        for kind, n in items_left_out(s.record).items()
        if n
    ]
    if len(sources) < 2 or not shown:
        return []
    line = f"each model's numbers rest on the items that it answered: {', '.join(shown)}"
    return [f"{line}; `rmbench compare` compares models on common items"]


_PLAIN = {
    "items": "items measured",
    "items_available": "items in the data",
    "responses": "responses",
    "empty": "of these, empty responses",
    "distinct_texts": "distinct texts",
    "truncated": "texts cut to fit the model",
    "invalid": "rewards that are no finite number",
    "ties": "pairs with tied rewards",
}
_NESTED = {
    "dropped": "left out of the data",
    "unanswered": "without an answer",
    "trained_on": "prompts that the model was trained on",
    "gold": "gold of responses",
    "pairs": "pairs of responses",
    "steps": "steps of responses",
    "special_tokens": "with the text of a special token",
}


def count_rows(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Return a row per count of the records: measured, left out, cut, invalid, tied, with reasons."""
    found: dict[str, dict[int, str]] = {}
    unknown: dict[str, list[int]] = {}
    for k, source in enumerate(sources):
        for key, value in source.record.counts.items():
            what = _PLAIN.get(key) or _NESTED.get(key, key)
            if not isinstance(value, Mapping):
                found.setdefault(what, {})[k] = _count(value, "–" if key == "ties" else "not known")
                if key in _NESTED:
                    unknown.setdefault(what, []).append(k)
                continue
            for name, count in value.items():
                found.setdefault(f"{what}: {name.replace('_', ' ')}", {})[k] = _count(count, "not known")
            if not value and key in _NESTED:
                found.setdefault(what, {})[k] = "0"
    for what, records in unknown.items():
        # One model's parts are known, another's are not: each part has a row that says so.
        parts = [cells for name, cells in found.items() if name.startswith(f"{what}: ")]
        for cells in parts:
            cells |= dict.fromkeys(records, "not known")
        if parts and set(found[what]) <= set(records):
            del found[what]
    return [
        {"name": name, "cells": [cells.get(k, "–") for k in range(len(sources))]}
        for name, cells in found.items()
    ]


def _count(value: Any, without: str) -> str:
    return without if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)
