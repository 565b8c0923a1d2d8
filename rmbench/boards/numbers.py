"""Numbers of a board as text, the same in all its formats."""

from rmbench.boards.board import Board, Cell, Row
from rmbench.core.digits import Digits, digits_of_estimates
from rmbench.types import Estimate


def score_digits(board: Board) -> Digits:
    """Return how scores are written."""
    return digits_of_estimates([row.score for row in board.rows if row.score])


FEWER = "\u2021"
"""Marks a number that rests on fewer items than its task has, because of the model's own rewards."""


def fewer(cell: Cell | None) -> str:
    """Return the mark of a number on fewer items; else nothing."""
    return FEWER if cell is not None and cell.answered is not None else ""


def column_digits(board: Board) -> dict[str, Digits]:
    """Return column id -> how its numbers are written."""
    return {
        c.id: digits_of_estimates([row.cells[c.id].estimate for row in board.rows if c.id in row.cells])
        for c in board.spec.columns
    }


def row_texts(board: Board) -> list[list[str]]:
    """Return for each row its score, its group and the numbers of its columns with their intervals."""
    score, columns = score_digits(board), column_digits(board)
    return [
        [
            _text(row.score, score, FEWER if row.partial else ""),
            row.group or "–",
            *(
                _text(cell.estimate if (cell := row.cells.get(c)) else None, d, fewer(cell))
                for c, d in columns.items()
            ),
        ]
        for row in board.rows
    ]


def _text(estimate: Estimate | None, digits: Digits, mark: str) -> str:
    """Return a number, its mark and its interval; a dash for none."""
    if estimate is None:
        return "–"
    text = digits.write(estimate.value) + mark
    return text if estimate.ci95 is None else f"{text} {digits.interval(estimate.ci95)}"


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
    return "none" if family.smallest is None else _digits(board, name).write(family.smallest)


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
    smallest = family.smallest
    could = "it could show no difference"
    shown = could if smallest is None else f"shows from {_digits(board, name).write(smallest)}"
    return f"{family.words(of)}, {shown}"


def _digits(board: Board, name: str) -> Digits:
    return score_digits(board) if name == "score" else column_digits(board)[name]


def better(board: Board, column: str) -> str:
    """Return which direction of a column is better, in words; empty where none is, or nothing is known."""
    for row in board.rows:
        if column in row.cells:
            higher = row.cells[column].estimate.higher_is_better
            return "" if higher is None else "higher is better" if higher else "lower is better"
    return ""
