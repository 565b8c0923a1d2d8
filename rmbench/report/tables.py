"""Tables of runs: one per task and task kind, a model per row, an interval beside every number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rmbench.core.digits import digits_of_estimates
from rmbench.core.escape import one_line
from rmbench.format.tables import Block, Column, Number, Table, cell_of, no_value
from rmbench.format.terminal import as_text
from rmbench.gold.source import describe_gold
from rmbench.metrics.kinds import at_largest_n, headlines_of, is_official, kinds_of, metric_of
from rmbench.metrics.selection import BEST, rule_of
from rmbench.results.record import Record, caveats, dropped, kept_empty, remarks
from rmbench.results.run import Run, shown_name
from rmbench.types import Estimate


@dataclass(frozen=True, slots=True)
class Grid:
    """Models by the headline numbers of one task kind."""

    label: str
    """Names the convention where a task has both; else empty."""
    kind: str
    metrics: tuple[str, ...]
    records: tuple[Record, ...]
    names: tuple[str, ...]
    """Of the models, one per record; two models never share one."""

    @property
    def facts(self) -> dict[str, Estimate]:
        """Metrics that describe the data alone, where all models have the same value of it."""
        found = {}
        for name in self.metrics:
            known = metric_of(name, (self.kind,))
            first = self.records[0].metrics.get(name)
            if known is not None and known.of_data and first is not None:
                told = (first.value, first.ci95)
                others = (record.metrics.get(name) for record in self.records)
                if all(e is not None and (e.value, e.ci95) == told for e in others):
                    found[name] = first
        return found

    @property
    def table(self) -> Table:
        """A row per model, a column per metric without the facts of the data."""
        facts = self.facts
        shown = [name for name in self.metrics if name not in facts]
        rows = [
            (model, *(cell_of(record.metrics.get(name)) for name in shown))
            for model, record in zip(self.names, self.records, strict=True)
        ]
        columns = [Column(name, drop=self._drop(name)) for name in shown]
        return Table((Column("model", "text", 40), *columns), tuple(rows), turns=True)

    def _drop(self, name: str) -> int:
        known = metric_of(name, (self.kind,))
        return 0 if known is None or known.brief else 1


@dataclass(frozen=True, slots=True)
class TaskTables:
    """Tables and notes of one task, or of tasks with equal numbers."""

    tasks: tuple[tuple[str, int], ...]
    """Name and version of each."""
    about: tuple[str, ...]
    """Lines above the grids: the task and its size, gold, how a response is selected."""
    grids: tuple[Grid, ...]
    notes: tuple[str, ...]
    """Lines below the grids: data that was left out, and reasons for missing numbers."""


def side_by_side(runs: Sequence[Run]) -> list[tuple[list[tuple[str, int]], list[Run]]]:
    """Return runs of the same items together, each group with its tasks (name, version).

    Tasks with the same items, models, numbers and counts are one group: `preference` and `calibration`
    measure the same kinds, and would show each table twice.
    """
    by_items: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        place = (run.task, run.version, run.data, run.limit, run.seed)
        by_items.setdefault(place, []).append(run)
    found: list[tuple[list[tuple[str, int]], list[Run]]] = []
    for group in by_items.values():
        task = (group[0].task, group[0].version)
        same = next((tasks for tasks, others in found if _numbers(others) == _numbers(group)), None)
        if same is None:
            found.append(([task], group))
        else:
            same.append(task)
    return found


def _numbers(runs: Sequence[Run]) -> list[Any]:
    items = (runs[0].data, runs[0].limit, runs[0].seed)
    return [items, *((r.model, r.fingerprint, r.metrics, r.record.undefined, r.record.counts) for r in runs)]


def record_tables(runs: Sequence[Run], convention: str = "both") -> str:
    """Return the tables of runs for a terminal; see `record_sections`."""
    return as_text(record_blocks(runs, convention))


def record_blocks(runs: Sequence[Run], convention: str = "both") -> list[Block]:
    """Return the tables of runs, for every format; see `record_sections`."""
    blocks = []
    for section in record_sections(runs, convention):
        names = "-".join(name for name, _ in section.tasks)
        facts = _facts_line(section.grids)
        for grid in section.grids:
            first, last = grid is section.grids[0], grid is section.grids[-1]
            label = (grid.label,) if grid.label else ()
            blocks.append(
                Block(
                    name=f"{names}-{grid.kind}" if len(section.grids) > 1 else names,
                    lines=(*section.about, *facts, *label) if first else label,
                    table=grid.table,
                    notes=section.notes if last else (),
                    joined=not first,
                    caption=(f"{grid.kind}, task {section.about[0]}", *section.about[1:], *facts),
                )
            )
    return blocks


def _facts_line(grids: Sequence[Grid]) -> tuple[str, ...]:
    """Return a line with the facts of the data; no line without any."""
    found = {name: estimate for grid in grids for name, estimate in grid.facts.items()}
    told = [f"{name} {Number(e.value, e.ci95).told(digits_of_estimates([e]))}" for name, e in found.items()]
    return (f"of the data: {', '.join(told)}",) if told else ()


def record_values(runs: Sequence[Run], convention: str = "both") -> Table:
    """Return the numbers of these tables for CSV: a row per task, kind, model and metric."""
    texts = ("task", "version", "kind", "model", "metric")
    columns = (
        *(Column(head, "text") for head in texts),
        Column("value"),
        Column("unit", "text"),
        *(Column(head, "count") for head in ("n", "prompts")),
        Column("undefined", "text"),
    )
    rows = []
    for section in record_sections(runs, convention):
        # Tasks with equal numbers are one section: its records stand for each of them.
        shown = [
            (task, grid, *row)
            for task in section.tasks
            for grid in section.grids
            for row in zip(grid.names, grid.records, strict=True)
        ]
        for (task, task_version), grid, model, record in shown:
            for metric in grid.metrics:
                e = record.metrics.get(metric)
                about = (task, task_version, grid.kind, model, metric)
                why = record.undefined.get(metric, "not measured")
                size = (None, None, None, why) if e is None else (e.unit, e.n, e.n_clusters, None)
                rows.append((*about, cell_of(e), *size))
    return Table(columns, tuple(rows))


def record_sections(runs: Sequence[Run], convention: str = "both") -> list[TaskTables]:
    """Return the tables of runs by task and task kind, with notes on what was left out.

    Args:
        runs: Evaluations, in the order of the rows.
        convention: `official` or `clean`: only the tables of that convention; `both`: official ones first.
    """
    found = []
    for tasks, group in side_by_side(runs):
        first, records = group[0], [run.record for run in group]
        models = [shown_name(run, runs) for run in group]
        names = ", ".join(f"{one_line(name)} (version {version})" for name, version in tasks)
        about, grids = [f"{names}: {first.size()}, 95% intervals by prompt"], []
        if meaning := describe_gold(first.record.identity) or first.params.get("gold_meaning"):
            about.append(f"gold: {one_line(meaning)}")
        if (rule := rule_of(first.params)) != BEST:
            about.append(f"selected: {rule}")
        for kind in kinds_of(first.kinds, convention):
            label = ""
            if kinds_of(first.kinds, "official"):
                label = f"official, as {kind} defines it:" if is_official(kind) else f"{kind}:"
            grids.append(Grid(label, kind, _columns(kind, records), tuple(records), tuple(models)))
        gold = first.record.counts.get("gold") or {}
        notes = [
            *(f"gold of {count:,} responses: {one_line(reason)}" for reason, count in gold.items()),
            *filter(None, [kept_empty(first.record)]),
            *_left_out(models, records),
            *(n for row in zip(models, records, strict=True) for n in _not_as_is(*row, convention)),
            *_undefined(models, records, convention),
        ]
        found.append(TaskTables(tuple(tasks), tuple(about), tuple(grids), tuple(notes)))
    return found


def _left_out(models: Sequence[str], records: Sequence[Record]) -> list[str]:
    """Return one line per reason for which data was left out; models are named unless all are meant."""
    found: dict[str, list[str]] = {}
    for model, record in zip(models, records, strict=True):
        found.setdefault(one_line(dropped(record)), []).append(one_line(model, 40))
    return [
        f"left out of the data{'' if len(names) == len(records) else ' of ' + ', '.join(names)}: {reasons}"
        for reasons, names in found.items()
        if reasons
    ]


def _columns(kind: str, records: Sequence[Record]) -> tuple[str, ...]:
    columns = headlines_of(kind) or tuple(records[0].metrics)
    resolved = [at_largest_n(column, [r.metrics for r in records]) for column in columns]
    # A metric without a value and without a reason does not belong to this task.
    return tuple(n for n in resolved if any(n in r.metrics or n in r.undefined for r in records))


def _not_as_is(model: str, record: Record, convention: str) -> list[str]:
    parts = caveats(record)
    name = one_line(model, 40)
    found = [f"{name}: {one_line(', '.join(parts))}"] if parts else []
    said = remarks(record, lambda metric: _is_shown(metric, convention))
    return [*found, *(f"{name}: {one_line(remark)}" for remark in said)]


def _undefined(models: Sequence[str], records: Sequence[Record], convention: str) -> list[str]:
    return no_value(
        (
            one_line(model, 40),
            {n: w for n, w in record.undefined.items() if _is_shown(n, convention) and n != "recovery@1"},
        )
        for model, record in zip(models, records, strict=True)
    )


def _is_shown(metric: str, convention: str) -> bool:
    official = metric.partition("_")[0] == "official"
    return convention == "both" or official == (convention == "official")
