"""Numbers of a board as text, the same in all its formats."""

from math import isfinite

from rmbench.boards.board import Board, Cell, Row
from rmbench.types import Estimate


def three(value: float) -> str:
    """Return three decimals, never `-0.000`; NaN and infinity as what they are."""
    if not isfinite(value):
        return "NaN" if value != value else ("∞" if value > 0 else "-∞")
    text = f"{value:.3f}"
    return text if float(text) else "0.000"


FEWER = "\u2021"
"""Marks a number that rests on fewer items than its task has, because of the model's own rewards."""


def interval_text(estimate: Estimate | None, mark: str = "") -> str:
    """Return a number, its mark and its interval; a dash for none."""
    if estimate is None:
        return "–"
    if estimate.ci95 is None:
        return three(estimate.value) + mark
    return f"{three(estimate.value)}{mark} [{three(estimate.ci95[0])}, {three(estimate.ci95[1])}]"


def fewer(cell: Cell | None) -> str:
    """Return the mark of a number on fewer items; else nothing."""
    return FEWER if cell is not None and cell.answered is not None else ""


def ranks_text(row: Row) -> str:
    """Return the ranks that the tests allow; a dash for none."""
    if row.rank_range is None:
        return "–"
    low, high = row.rank_range
    return str(low) if low == high else f"{low}–{high}"


def rank_text(row: Row) -> str:
    """Return the rank by the score alone; a dash for none."""
    return "–" if row.rank is None else str(row.rank)


def shows_text(board: Board, name: str) -> str:
    """Return the smallest difference that a column's tests show, `score` being one; a dash for no test."""
    family = board.families.get(name)
    if family is None:
        return "–"
    return "none" if family.smallest is None else three(family.smallest)


def family_text(board: Board, name: str, of: str) -> str:
    """Return the family of tests in words, and what it could have shown; empty where there is none.

    Args:
        board: The board.
        name: `score`, or a column's id.
        of: What the number is called.
    """
    family = board.families.get(name)
    if family is None:
        return ""
    shown = (
        "it could show no difference" if family.smallest is None else f"shows from {three(family.smallest)}"
    )
    return f"{family.words(of)}, {shown}"


def better(board: Board, column: str) -> str:
    """Return which direction of a column is better, in words; empty where none is, or nothing is known."""
    for row in board.rows:
        if column in row.cells:
            higher = row.cells[column].estimate.higher_is_better
            return "" if higher is None else "higher is better" if higher else "lower is better"
    return ""
