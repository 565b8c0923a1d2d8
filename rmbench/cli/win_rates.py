"""Win rates of AlpacaEval's generators, in its own units and under its own names."""

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from rmbench.escape import one_line
from rmbench.published import WinRate


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


def win_rate_table(found: Sequence[WinRate]) -> str:
    """Return the table of generators, best first; empty without any."""
    if not found:
        return ""
    rows = []
    for entry in sorted(found, key=lambda w: (-w.win_rate.value, w.generator)):
        row = win_rate_row(entry)
        interval = "" if row["ci95"] is None else " [{:.2f}, {:.2f}]".format(*row["ci95"])
        rows.append(
            [
                one_line(entry.generator, 40) + (" (adversarial)" if entry.adversarial else ""),
                f"{row['win_rate']:.2f}{interval}",
                "-" if row["standard_error"] is None else f"{row['standard_error']:.2f}",
                f"{row['discrete_win_rate']:.2f}",
                *(f"{row[key]:,}" for key in ("n_draws", "n_total", "n_missing")),
            ]
        )
    columns = ["generator", "win_rate", "standard_error", "discrete", "draws", "n_total", "missing"]
    return tabulate(rows, headers=columns, tablefmt="simple", disable_numparse=True)
