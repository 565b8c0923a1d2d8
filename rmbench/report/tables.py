"""Tables for people: one per task, a model per row, an interval beside every number."""

from collections.abc import Sequence
from dataclasses import dataclass

from rmbench.core.escape import one_line
from rmbench.format.tables import Block, Column, Table, as_text, cell_of
from rmbench.gold.source import describe_gold
from rmbench.metrics.kinds import at_largest_n, headlines_of, is_official, kinds_of
from rmbench.metrics.selection import BEST, rule_of
from rmbench.results.record import Record, caveats, dropped, kept_empty, remarks


@dataclass(frozen=True, slots=True)
class Grid:
    """Models by the headline numbers of one task kind."""

    label: str
    """What convention it follows, where a task has both; else empty."""
    kind: str
    metrics: tuple[str, ...]
    records: tuple[Record, ...]

    @property
    def table(self) -> Table:
        """A row per model, a column per metric."""
        rows = [(r.model, *(cell_of(r.metrics.get(name)) for name in self.metrics)) for r in self.records]
        return Table((Column("model", "text", 40), *map(Column, self.metrics)), tuple(rows))


@dataclass(frozen=True, slots=True)
class Section:
    """What there is to say of records of one task, or of tasks whose numbers are the same."""

    tasks: tuple[tuple[str, int], ...]
    """Name and version of each."""
    about: tuple[str, ...]
    """Lines above the grids: the task and its size, gold, how a response is selected."""
    grids: tuple[Grid, ...]
    notes: tuple[str, ...]
    """Lines below: what was left out, and why a number is missing."""


def record_tables(records: Sequence[Record], convention: str = "both") -> str:
    """Return the tables of `records` for a terminal; see `record_sections`."""
    return as_text(record_blocks(records, convention))


def record_blocks(records: Sequence[Record], convention: str = "both") -> list[Block]:
    """Return the tables of `records`, to be written in any form."""
    blocks = []
    for section in record_sections(records, convention):
        names = "-".join(name for name, _ in section.tasks)
        for grid in section.grids:
            first, last = grid is section.grids[0], grid is section.grids[-1]
            label = (grid.label,) if grid.label else ()
            blocks.append(
                Block(
                    name=f"{names}-{grid.kind}" if len(section.grids) > 1 else names,
                    lines=(*section.about, *label) if first else label,
                    table=grid.table,
                    notes=section.notes if last else (),
                    joined=not first,
                    caption=(f"{grid.kind}, task {section.about[0]}", *section.about[1:]),
                )
            )
    return blocks


def record_values(records: Sequence[Record], convention: str = "both") -> Table:
    """Return the numbers of these tables one below the other: a row per task, kind, model and metric."""
    texts = ("task", "version", "kind", "model", "metric")
    columns = (
        *(Column(head, "text") for head in texts),
        Column("value"),
        Column("unit", "text"),
        *(Column(head, "count") for head in ("n", "prompts")),
        Column("undefined", "text"),
    )
    rows = []
    for section in record_sections(records, convention):
        # Tasks whose numbers are the same are one section: its records stand for all of them.
        shown = [
            (task, grid, record)
            for task in section.tasks
            for grid in section.grids
            for record in grid.records
        ]
        for (task, task_version), grid, record in shown:
            for metric in grid.metrics:
                e = record.metrics.get(metric)
                about = (task, task_version, grid.kind, record.model, metric)
                why = record.undefined.get(metric, "not measured")
                size = (None, None, None, why) if e is None else (e.unit, e.n, e.n_clusters, None)
                rows.append((*about, cell_of(e), *size))
    return Table(columns, tuple(rows))


def record_sections(records: Sequence[Record], convention: str = "both") -> list[Section]:
    """Return what is shown of `records`: grouped by task and task kind, with what was left out below each.

    Args:
        records: What to show.
        convention: `official` or `clean` shows the tables of that one alone; `both`, official first.
    """
    found = []
    for tasks, rows in _alike(records):
        names = ", ".join(f"{one_line(name)} (version {version})" for name, version in tasks)
        about, grids = [f"{names}: {_size(rows)}"], []
        params = rows[0].identity["task"]["params"]
        if meaning := describe_gold(rows[0].identity) or params.get("gold_meaning"):
            about.append(f"gold: {one_line(meaning)}")
        if (rule := rule_of(params)) != BEST:
            about.append(f"selected: {rule}")
        kinds = rows[0].identity["task"]["kinds"]
        for kind in kinds_of(kinds, convention):
            label = ""
            if kinds_of(kinds, "official"):
                label = f"official, as {kind} defines it:" if is_official(kind) else f"{kind}:"
            grids.append(Grid(label, kind, _columns(kind, rows), tuple(rows)))
        notes = [
            *_gold_notes(rows[0]),
            *_empty(rows[0]),
            *_left_out(rows),
            *(n for row in rows for n in _not_as_is(row, convention)),
        ]
        notes += _undefined(rows, convention)
        found.append(Section(tuple(tasks), tuple(about), tuple(grids), tuple(notes)))
    return found


def _left_out(records: Sequence[Record]) -> list[str]:
    """Return one line per way in which data was left out, with the models that it concerns unless all."""
    found: dict[str, list[str]] = {}
    for record in records:
        found.setdefault(one_line(dropped(record)), []).append(one_line(record.model, 40))
    return [
        f"left out of the data{'' if len(names) == len(records) else ' of ' + ', '.join(names)}: {reasons}"
        for reasons, names in found.items()
        if reasons
    ]


def _gold_notes(record: Record) -> list[str]:
    """Return what is to be said of gold that was not the data's; a record says it for all on its data."""
    counts = record.counts.get("gold") or {}
    return [f"gold of {count:,} responses: {one_line(reason)}" for reason, count in counts.items()]


def _empty(record: Record) -> list[str]:
    """Return how many responses are empty, which is the same for all records of the same data."""
    return [told] if (told := kept_empty(record)) else []


def _alike(records: Sequence[Record]) -> list[tuple[list[tuple[str, int]], list[Record]]]:
    """Return tasks and data with their records; tasks on the same data whose numbers are the same are one.

    `preference` and `calibration` hold both kinds: asked for together, they would print each table twice.
    """
    found: list[tuple[list[tuple[str, int]], list[Record]]] = []
    for task, data in dict.fromkeys(((r.task, r.task_version), r.identity["data"]) for r in records):
        rows = [r for r in records if (r.task, r.task_version) == task and r.identity["data"] == data]
        numbers = [(r.model, r.metrics) for r in rows]
        same = next(
            (tasks for tasks, others in found if [(r.model, r.metrics) for r in others] == numbers), None
        )
        if same is None:
            found.append(([task], rows))
        else:
            same.append(task)
    return found


def _size(records: Sequence[Record]) -> str:
    counts = records[0].counts
    some = counts["items"] != counts["items_available"]
    sample = f" (a sample of {counts['items_available']:,})" if some else ""
    return f"{counts['items']:,} items{sample}, {counts['responses']:,} responses, 95% intervals by prompt"


def _columns(kind: str, records: Sequence[Record]) -> tuple[str, ...]:
    columns = headlines_of(kind) or tuple(records[0].metrics)
    resolved = [at_largest_n(column, [r.metrics for r in records]) for column in columns]
    # A number that no record has, nor a reason for its absence, is none of this task.
    return tuple(n for n in resolved if any(n in r.metrics or n in r.undefined for r in records))


def _not_as_is(record: Record, convention: str) -> list[str]:
    parts = caveats(record)
    name = one_line(record.model, 40)
    found = [f"{name}: {one_line(', '.join(parts))}"] if parts else []
    said = remarks(record, lambda metric: _is_shown(metric, convention))
    return [*found, *(f"{name}: {one_line(remark)}" for remark in said)]


def _undefined(records: Sequence[Record], convention: str) -> list[str]:
    """Return one line per reason: which metrics have no value, for which models (all: unnamed)."""
    found: dict[tuple[str, str], list[str]] = {}
    for record in records:
        shown = {n: w for n, w in record.undefined.items() if _is_shown(n, convention) and n != "recovery@1"}
        for why in sorted(set(shown.values())):
            names = one_line(", ".join(n for n, w in shown.items() if w == why))
            found.setdefault((names, why), []).append(one_line(record.model, 40))
    return [
        f"no {names}{'' if len(models) == len(records) else ' for ' + ', '.join(models)}: {one_line(why)}"
        for (names, why), models in found.items()
    ]


def _is_shown(metric: str, convention: str) -> bool:
    official = metric.partition("_")[0] == "official"
    return convention == "both" or official == (convention == "official")
