"""Numbers of a board as text, the same in all its formats."""

from math import isfinite

from rmbench.boards.board import Board, Row
from rmbench.types import Estimate


def three(value: float) -> str:
    """Return three decimals, never `-0.000`; NaN and infinity as what they are."""
    if not isfinite(value):
        return "NaN" if value != value else ("∞" if value > 0 else "-∞")
    text = f"{value:.3f}"
    return text if float(text) else "0.000"


def interval_text(estimate: Estimate | None) -> str:
    """Return a number with its interval; a dash for none."""
    if estimate is None:
        return "–"
    if estimate.ci95 is None:
        return three(estimate.value)
    return f"{three(estimate.value)} [{three(estimate.ci95[0])}, {three(estimate.ci95[1])}]"


def rank_text(row: Row) -> str:
    """Return the rank with the ranks that the tests allow; a dash for none."""
    if row.rank is None or row.rank_range is None:
        return "–"
    low, high = row.rank_range
    return str(row.rank) if low == high else f"{row.rank} ({low}–{high})"


def better(board: Board, column: str) -> str:
    """Return which direction of a column is better, in words; empty where none is, or nothing is known."""
    for row in board.rows:
        if column in row.cells:
            higher = row.cells[column].estimate.higher_is_better
            return "" if higher is None else "higher is better" if higher else "lower is better"
    return ""
