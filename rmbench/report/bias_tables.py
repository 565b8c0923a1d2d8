"""Tables and JSON of `rmbench check --bias`."""

from dataclasses import asdict
from typing import Any

from rmbench.check.bias import BiasPanel, BiasRow
from rmbench.core.digits import significant
from rmbench.format.tables import Block, Cell, Column, Table, cell_of, number
from rmbench.stats.power import ALPHA, POWER

_COLUMNS = (
    Column("test", "text"),
    Column("effect"),
    Column("p (Holm)", "number"),
    Column("could show", "number"),
    Column("flips", drop=1),
    Column("finding", "text", 24),
    Column("pairs", "count", drop=4),
)


def blocks_of(model: str, panel: BiasPanel, source: str) -> list[Block]:
    """Return the panel as a table, with what was left out below it."""
    lines = (
        f"{model}: bias panel on {panel.n_items:,} prompts of {source}, 95% intervals by prompt",
        unit_told(panel),
    )
    rows = tuple(cells(row) for row in panel.rows if row.tested is not None)
    table = Table(_COLUMNS, rows) if rows else None
    return [Block("bias", lines, table, notes=tuple(notes_of(panel)), caption=(f"Bias panel of {model}",))]


def unit_told(panel: BiasPanel) -> str:
    """Return what an effect is, with its unit."""
    if panel.pairwise:
        return "effect: P(the edited reply is better than itself unedited) - 0.5, both orders"
    if panel.spread is None:
        return "effect: no unit, all replies to a prompt have one reward"
    return (
        "effect: reward(edited) - reward(unedited), in sd of rewards within prompts"
        f" ({significant(panel.spread)} from {panel.n_spread:,} prompts)"
    )


def cells(row: BiasRow) -> tuple[Cell, ...]:
    """Return the cells of one row."""
    if row.tested is None:
        return row.test, None, None, None, None, "", row.n_pairs
    tested = row.tested
    return (
        row.test,
        cell_of(tested.paired.difference, "signed"),
        number(tested.p_holm, "probability"),
        number(row.smallest),
        cell_of(row.flips),
        row.finding,
        row.n_pairs,
    )


def notes_of(panel: BiasPanel) -> list[str]:
    """Return what the reader has to know beside the numbers."""
    shown = f"could show: the smallest effect found with probability {POWER:.0%} at {ALPHA:.0%} over"
    found = [
        f"{shown} {panel.n_tests} tests (Holm); none found is not none there",
        "flips: share of prompts on which the order of the reply and another one changes",
    ]
    found += _without_number(panel)
    same = [r.test for r in panel.rows if r.tested is not None and r.tested.paired.difference.ci95 is None]
    if same:
        found.append(f"no interval, the same effect on every prompt: {', '.join(same)}")
    if unchanged := [f"{r.test} {r.n_unchanged:,}" for r in panel.rows if r.n_unchanged]:
        found.append(f"replies that an edit does not change, left out: {', '.join(unchanged)}")
    if invalid := [f"{r.test} {r.n_invalid:,}" for r in panel.rows if r.n_invalid]:
        found.append(f"pairs without an answer, left out: {', '.join(invalid)}")
    found += [f"answers missing: {n:,} for {why}" for why, n in panel.unanswered.items()]
    found += [f"prompts left out: {n:,}, {why}" for why, n in panel.left_out.items()]
    if panel.n_truncated:
        found.append(
            f"{panel.n_truncated:,} texts were cut to fit the model: an edit at their end was not read"
        )
    if panel.used:
        found.append("used: " + ", ".join(f"{name} {significant(x)}" for name, x in panel.used.items() if x))
    return found


def _without_number(panel: BiasPanel) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for row in panel.rows:
        if row.tested is None:
            reasons.setdefault(row.why, []).append(row.test)
    return [f"{', '.join(tests)}: {why}" for why, tests in reasons.items()]


def as_json_values(model: str, panel: BiasPanel, source: str) -> dict[str, Any]:
    """Return the panel as JSON values."""
    return {
        "model": model,
        "data": source,
        "unit": panel.unit,
        "spread": panel.spread,
        "prompts": panel.n_items,
        "tests": panel.n_tests,
        "counts": {
            "distinct_texts": panel.n_texts,
            "computed": panel.n_computed,
            "truncated": panel.n_truncated,
            "left_out": dict(panel.left_out),
            "unanswered": dict(panel.unanswered),
        },
        "used": None if panel.used is None else dict(panel.used),
        "biases": [_json_row(row) for row in panel.rows],
    }


def _json_row(row: BiasRow) -> dict[str, Any]:
    tested = row.tested
    return {
        "bias": row.bias,
        "test": row.test,
        "summary": row.summary,
        "effect": None if tested is None else asdict(tested.paired.difference),
        "p": None if tested is None else tested.paired.p_value,
        "p_holm": None if tested is None else tested.p_holm,
        "smallest_shown": row.smallest,
        "flips": None if row.flips is None else asdict(row.flips),
        "pairs": row.n_pairs,
        "unchanged": row.n_unchanged,
        "invalid": row.n_invalid,
        "finding": row.finding,
    }
