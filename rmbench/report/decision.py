"""What `rmbench compare` prints: the verdict first, then the tables, the strata, the items."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rmbench.core.digits import digits_of_estimates
from rmbench.core.escape import one_line
from rmbench.format.tables import Block, Column, Table, cell_of, number
from rmbench.report.compare_tables import (
    answered_notes,
    as_json_values,
    blocks_of,
    item_blocks,
    matrix_cell,
    matrix_notes,
    undefined_lines,
    values_of,
)
from rmbench.results.record import estimate_to_json
from rmbench.results.strata import StrataReport, StratumDifference
from rmbench.results.verdict import Decision, Gated, verdict_json
from rmbench.types import Estimate

FEW_ITEMS = 3
"""Most items of the short answer."""
MOST_STRATA = 8
"""Most strata of a table in the terminal."""


def decision_blocks(
    decisions: Sequence[Decision],
    prompts: Sequence[Mapping[str, str]],
    n_items: int,
    *,
    terminal: bool,
    short: bool = False,
) -> list[Block]:
    """Return the tables of comparisons on one task or more; the verdicts of all come first.

    Args:
        decisions: One per task.
        prompts: Per task: item id -> its prompt, where known.
        n_items: Number of disagreements that were asked for.
        terminal: Whether the tables must fit into a terminal.
        short: In a terminal, three models or more have one table, of the verdict's metric.
    """
    blocks = [Block("compare-verdict", tuple(verdict_lines(decisions)), None)]
    for decision, known in zip(decisions, prompts, strict=True):
        if terminal and short and len(decision.report.models) > 2:
            blocks += short_blocks(decision, known, min(n_items, FEW_ITEMS))
            continue
        found = blocks_of(decision.report, known, n_items, terminal=terminal)
        place = len(found) - (n_items > 0)  # the items come last
        blocks += [*found[:place], *strata_blocks(decision), *found[place:]]
    return blocks


def short_blocks(decision: Decision, prompts: Mapping[str, str], n_items: int) -> list[Block]:
    """Return one table of three models or more, best first: the verdict's metric and its differences."""
    report, metric = decision.report, decision.metric
    found = report.estimates[metric]
    order = _best_first(found)
    columns = (
        Column(report.task, "text", 40),
        Column(metric),
        *(Column(f"({place})", "number") for place in range(1, len(order) + 1)),
    )
    rows = [
        (
            f"({place}) {report.models[i]}",
            None if (e := found[i]) is None else cell_of(e),
            *(matrix_cell(report, metric, i, j)[0] for j in order),
        )
        for place, i in enumerate(order, 1)
    ]
    few = replace(report, disagreements=report.disagreements[:n_items])
    return [
        Block(f"compare-{report.task}", (), Table(columns, tuple(rows)), tuple(_short_notes(decision))),
        *(item_blocks(few, prompts, n_items) if n_items else ()),
    ]


def _best_first(found: Sequence[Estimate | None]) -> list[int]:
    """Return the places of the models, best first; those without a value come last."""
    known = [n for n, e in enumerate(found) if e is not None]
    lower = next((e.higher_is_better is False for e in found if e is not None), False)
    values = {n: e.value for n, e in enumerate(found) if e is not None}
    ranked = sorted(known, key=lambda n: values[n] if lower else -values[n])
    return [*ranked, *(n for n, e in enumerate(found) if e is None)]


def _short_notes(decision: Decision) -> list[str]:
    report, metric = decision.report, decision.metric
    tests = sum(m.p_holm is not None for pair in report.pairs for m in pair.metrics if m.metric == metric)
    equal = "; =: equivalent" if report.margin is not None else ""
    lacking = {m: why for m, why in report.undefined.items() if m == metric}
    notes = [
        f"(n): row minus that model. *: p < 0.05 after Holm's correction over {tests} tests{equal}.",
        *matrix_notes(report, metric),
        *answered_notes(report),
        *undefined_lines(replace(report, undefined=lacking)),
    ]
    if others := len(report.estimates) - 1:
        more = f"{others} more metric{'s' if others > 1 else ''}"
        notes.append(f"{more}, every test with its interval: --wide or --metric NAME; a page: --html FILE.")
    return notes


def verdict_lines(decisions: Sequence[Decision]) -> list[str]:
    """Return the sentences of the verdicts, and how many prompts a difference that is not shown needs."""
    lines = []
    for decision in decisions:
        lead = f"{one_line(decision.report.task)}: " if len(decisions) > 1 else ""
        for verdict in decision.verdicts:
            lines.append(f"{lead}{verdict.sentence()}.")
            if needed := verdict.needed():
                lines.append(f"  {needed}")
    return lines


def strata_note(strata: StrataReport) -> str:
    """Return in how many strata the models are told apart."""
    n = len(strata.rows)
    left = f"; {strata.n_left:,} more strata have no number or are too small to show" * (strata.n_left > 0)
    return (
        f"{len(strata.apart)} of {n} strata tell them apart by {strata.metric} (paired, Holm's correction"
        f" over {n} tests{left})."
    )


def strata_blocks(decision: Decision) -> list[Block]:
    """Return the strata in which two models are told apart; a line where there is none."""
    strata = decision.strata
    if strata is None or not strata.rows:
        return []
    name = f"compare-{decision.report.task}-strata"
    rows = strata.apart[:MOST_STRATA]
    if not rows:
        far = max(strata.rows, key=lambda row: abs(row.test.paired.difference.value))
        e = far.test.paired.difference
        told = digits_of_estimates([e]).estimate(e.value, e.ci95, plus=True)
        return [Block(name, (f"{strata_note(strata)} Farthest: {one_line(far.label, 60)}, {told}.",), None)]
    lines = (f"Where they part: {strata_note(strata)}",)
    return [Block(name, lines, strata_table(decision, rows))]


def strata_table(decision: Decision, rows: Sequence[StratumDifference]) -> Table:
    """Return a row per stratum: items, difference of the first two models, p-value, verdict."""
    first, second = decision.report.models[:2]
    columns = (
        Column("stratum", "text", 50),
        Column("items", "count"),
        Column(f"{one_line(first, 24)} - {one_line(second, 24)}"),
        Column("p (Holm)", "number"),
        Column("verdict", "text"),
    )
    cells = tuple(
        (
            row.label,
            row.n_items,
            cell_of(row.test.paired.difference, "signed", strong=row.test.told_apart),
            number(row.test.p_holm, "probability"),
            row.test.words,
        )
        for row in rows
    )
    return Table(columns, cells)


def decision_values(decisions: Sequence[Decision]) -> Table:
    """Return the numbers of all comparisons, a row per task, metric and pair of models."""
    tables = [values_of(decision.report) for decision in decisions]
    widest = max(tables, key=lambda table: len(table.columns))
    width = len(widest.columns)
    rows = [(*row, *[None] * (width - len(row))) for table in tables for row in table.rows]
    return Table(widest.columns, tuple(rows))


def decision_json(decisions: Sequence[Decision], gated: Gated | None) -> dict[str, Any]:
    """Return comparisons as JSON values: of one task its own, of several a list under `tasks`."""
    found = [
        {
            **as_json_values(decision.report),
            "verdicts": [verdict_json(verdict) for verdict in decision.verdicts],
            **({} if decision.strata is None else {"strata": _strata_json(decision.strata)}),
        }
        for decision in decisions
    ]
    gate = (
        {} if gated is None else {"gate": {"rule": gated.rule, "shown": gated.shown, "why": gated.sentence}}
    )
    whole = found[0] if len(found) == 1 else {"tasks": found}
    return whole if gate is None else {**whole, "gate": gate}


def _strata_json(strata: StrataReport) -> dict[str, Any]:
    return {
        "metric": strata.metric,
        "left_out": strata.n_left,
        "rows": [
            {
                "key": row.key,
                "value": row.value,
                "items": row.n_items,
                "difference": estimate_to_json(row.test.paired.difference),
                "p_holm": row.test.p_holm,
                "verdict": row.test.verdict,
            }
            for row in strata.rows
        ],
    }
