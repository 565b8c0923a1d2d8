"""Tables for people: one per task, a model per row, an interval beside every number."""

from collections.abc import Sequence

from tabulate import tabulate

from rmbench.caveats import caveats, dropped
from rmbench.escape import one_line
from rmbench.gold import describe_gold
from rmbench.metrics.headlines import HEADLINES, at_largest_n
from rmbench.metrics.selection import BEST, rule_of
from rmbench.records import Record
from rmbench.specs import OFFICIAL_KINDS, kinds_of
from rmbench.types import Estimate


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
    parts = []
    for tasks, rows in _alike(records):
        names = ", ".join(f"{one_line(name)} (version {version})" for name, version in tasks)
        parts.append(f"{names}: {_size(rows)}")
        params = rows[0].identity["task"]["params"]
        if meaning := describe_gold(rows[0].identity) or params.get("gold_meaning"):
            parts.append(f"gold: {one_line(meaning)}")
        if (rule := rule_of(params)) != BEST:
            parts.append(f"selected: {rule}")
        kinds = rows[0].identity["task"]["kinds"]
        for kind in kinds_of(kinds, convention):
            if kinds_of(kinds, "official"):
                parts.append(f"official, as {kind} defines it:" if kind in OFFICIAL_KINDS else f"{kind}:")
            parts.append(_kind_table(kind, rows))
        parts += _gold_notes(rows[0])
        parts += _left_out(rows)
        parts += [note for row in rows for note in _not_as_is(row)]
        parts += _undefined(rows, convention)
        parts.append("")
    return "\n".join(parts).rstrip()


def _left_out(records: Sequence[Record]) -> list[str]:
    """Return one line per way in which data was left out, with the models that it concerns unless all."""
    found: dict[str, list[str]] = {}
    for record in records:
        found.setdefault(one_line(dropped(record)), []).append(one_line(record.model, 40))
    return [
        f"  left out of the data{'' if len(names) == len(records) else ' of ' + ', '.join(names)}: {reasons}"
        for reasons, names in found.items()
        if reasons
    ]


def _gold_notes(record: Record) -> list[str]:
    """Return what is to be said of gold that was not the data's; a record says it for all on its data."""
    counts = record.counts.get("gold") or {}
    return [f"  gold of {count:,} responses: {one_line(reason)}" for reason, count in counts.items()]


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


def _kind_table(kind: str, records: Sequence[Record]) -> str:
    columns = HEADLINES.get(kind) or tuple(records[0].metrics)
    resolved = [at_largest_n(column, [r.metrics for r in records]) for column in columns]
    # A number that no record has, nor a reason for its absence, is none of this task.
    names = [n for n in resolved if any(n in r.metrics or n in r.undefined for r in records)]
    rows = [[one_line(r.model, 40), *(show_estimate(r.metrics.get(name)) for name in names)] for r in records]
    return tabulate(rows, headers=["model", *names], tablefmt="simple", disable_numparse=True)


def _not_as_is(record: Record) -> list[str]:
    parts = caveats(record)
    return [f"  {one_line(record.model, 40)}: {one_line(', '.join(parts))}"] if parts else []


def _undefined(records: Sequence[Record], convention: str) -> list[str]:
    """Return one line per reason: which metrics have no value, for which models (all: unnamed)."""
    found: dict[tuple[str, str], list[str]] = {}
    for record in records:
        shown = {n: w for n, w in record.undefined.items() if _is_shown(n, convention) and n != "recovery@1"}
        for why in sorted(set(shown.values())):
            names = one_line(", ".join(n for n, w in shown.items() if w == why))
            found.setdefault((names, why), []).append(one_line(record.model, 40))
    return [
        f"  no {names}{'' if len(models) == len(records) else ' for ' + ', '.join(models)}: {one_line(why)}"
        for (names, why), models in found.items()
    ]


def _is_shown(metric: str, convention: str) -> bool:
    official = metric.partition("_")[0] == "official"
    return convention == "both" or official == (convention == "official")
