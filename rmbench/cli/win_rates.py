"""Win rates of AlpacaEval's generators, in its own units and under its own names."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rmbench.published import WinRate
from rmbench.tabular import Block, Cell, Column, Number, Table


def win_rate_row(found: WinRate) -> dict[str, Any]:
    """Return a generator's numbers as AlpacaEval's leaderboard has them, in percent, and the 95% interval."""
    estimate = found.win_rate
    return {
        "generator": found.generator,
        "win_rate": 100 * estimate.value,
        "standard_error": None if estimate.stderr is None else 100 * estimate.stderr,
        "ci95": None if estimate.ci95 is None else [100 * bound for bound in estimate.ci95],
        "discrete_win_rate": 100 * found.discrete_win_rate,
        "n_wins": found.n_wins,
        "n_wins_base": found.n_wins_base,
        "n_draws": found.n_draws,
        "n_total": found.n_total,
        "n_missing": found.n_missing,
        "adversarial": found.adversarial,
    }


def win_rate_blocks(found: Sequence[WinRate]) -> list[Block]:
    """Return the table of generators, best first; none without any."""
    if not found:
        return []
    columns = (
        Column("generator", "text"),
        *(Column(head) for head in ("win_rate", "standard_error", "discrete")),
        *(Column(head, "count") for head in ("draws", "n_total", "missing")),
    )
    rows = []
    for entry in _best_first(found):
        row = win_rate_row(entry)
        rows.append(
            (
                f"{entry.generator[:40]}{' (adversarial)' if entry.adversarial else ''}",
                _percent(row["win_rate"], row["ci95"]),
                None if row["standard_error"] is None else _percent(row["standard_error"]),
                _percent(row["discrete_win_rate"]),
                *(row[key] for key in ("n_draws", "n_total", "n_missing")),
            )
        )
    caption = ("Win rates of generators in percent, with 95% intervals",)
    return [Block("win-rates", (), Table(columns, tuple(rows)), caption=caption)]


def win_rate_values(numbers: Table, found: Sequence[WinRate]) -> Table:
    """Return the table of a row per number with the win rates below."""
    rows: list[tuple[Cell, ...]] = []
    for entry in _best_first(found):
        row = win_rate_row(entry)
        for metric, interval in (("win_rate", row["ci95"]), ("discrete_win_rate", None)):
            value = _percent(row[metric], interval)
            size = ("percent", entry.n_total, entry.n_total, None)
            rows.append(("alpacaeval", None, "win_rate", entry.generator, metric, value, *size))
    return replace(numbers, rows=(*numbers.rows, *rows))


def _best_first(found: Sequence[WinRate]) -> list[WinRate]:
    return sorted(found, key=lambda w: (-w.win_rate.value, w.generator))


def _percent(value: float, interval: list[float] | None = None) -> Number:
    return Number(value, (interval[0], interval[1]) if interval else None, "percent")
