"""Tables for people: one per task, a model per row, an interval beside every number."""

from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from rmbench.caveats import caveats, dropped
from rmbench.escape import one_line
from rmbench.gold import describe_gold
from rmbench.metrics.headlines import HEADLINES, at_largest_n
from rmbench.metrics.selection import BEST, rule_of
from rmbench.records import Record
from rmbench.specs import OFFICIAL_KINDS, kinds_of
from rmbench.types import Estimate


@dataclass(frozen=True, slots=True)
class Grid:
    """Models by the headline numbers of one task kind, as text that is safe to show in one line."""

    label: str
    """What convention it follows, where a task has both; else empty."""
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """What there is to say of records of one task, or of tasks whose numbers are the same."""

    about: tuple[str, ...]
    """Lines above the grids: the task and its size, gold, how a response is selected."""
    grids: tuple[Grid, ...]
    notes: tuple[str, ...]
    """Lines below: what was left out, and why a number is missing."""


def show_estimate(estimate: Estimate | None) -> str:
    """Return an estimate as `0.712 [0.690, 0.733]`; a dash where there is none."""
    if estimate is None:
        return "-"
    if estimate.ci95 is None:
        return number(estimate.value)
    low, high = estimate.ci95
    return f"{number(estimate.value)} [{number(low)}, {number(high)}]"


def number(value: float) -> str:
    """Return three decimals for ordinary numbers, whole numbers as such, else three digits."""
    if value == int(value) and abs(value) >= 1:
        return str(int(value))
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:.3f}"
    return f"{value:.3g}"


def record_tables(records: Sequence[Record], convention: str = "both") -> str:
    """Return the tables of `records`: grouped by task and task kind, with what was left out below each.

    Args:
        records: What to show.
        convention: `official` or `clean` shows the tables of that one alone; `both`, official first.
    """
    parts: list[str] = []
    for section in record_sections(records, convention):
        parts += section.about
        for grid in section.grids:
            parts += [grid.label] if grid.label else []
            parts.append(tabulate(grid.rows, headers=grid.heads, tablefmt="simple", disable_numparse=True))
        parts += [*(f"  {note}" for note in section.notes), ""]
    return "\n".join(parts).rstrip()


def record_sections(records: Sequence[Record], convention: str = "both") -> list[Section]:
    """Return what `record_tables` shows, to be written in any form."""
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
                label = f"official, as {kind} defines it:" if kind in OFFICIAL_KINDS else f"{kind}:"
            grids.append(_grid(label, kind, rows))
        notes = [*_gold_notes(rows[0]), *_left_out(rows), *(n for row in rows for n in _not_as_is(row))]
        found.append(Section(tuple(about), tuple(grids), (*notes, *_undefined(rows, convention))))
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


def _grid(label: str, kind: str, records: Sequence[Record]) -> Grid:
    columns = HEADLINES.get(kind) or tuple(records[0].metrics)
    resolved = [at_largest_n(column, [r.metrics for r in records]) for column in columns]
    # A number that no record has, nor a reason for its absence, is none of this task.
    names = [n for n in resolved if any(n in r.metrics or n in r.undefined for r in records)]
    rows = [(one_line(r.model, 40), *(show_estimate(r.metrics.get(name)) for name in names)) for r in records]
    return Grid(label, ("model", *names), tuple(rows))


def _not_as_is(record: Record) -> list[str]:
    parts = caveats(record)
    return [f"{one_line(record.model, 40)}: {one_line(', '.join(parts))}"] if parts else []


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
