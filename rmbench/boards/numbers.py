"""Numbers of a board as text, the same in all its formats."""

from rmbench.boards.board import Board, Row
from rmbench.digits import Digits, digits_of_estimates
from rmbench.types import Estimate


def score_digits(board: Board) -> Digits:
    """Return how scores are written."""
    return digits_of_estimates([row.score for row in board.rows if row.score])


def column_digits(board: Board) -> dict[str, Digits]:
    """Return column id -> how its numbers are written."""
    return {
        c.id: digits_of_estimates([row.cells[c.id].estimate for row in board.rows if c.id in row.cells])
        for c in board.spec.columns
    }


def row_texts(board: Board) -> list[list[str]]:
    """Return for each row its score and the numbers of its columns with their intervals; a dash for none."""
    score, columns = score_digits(board), column_digits(board)
    return [
        [
            _text(row.score, score),
            *(_text(row.cells[c].estimate if c in row.cells else None, d) for c, d in columns.items()),
        ]
        for row in board.rows
    ]


def _text(estimate: Estimate | None, digits: Digits) -> str:
    return "–" if estimate is None else digits.estimate(estimate.value, estimate.ci95)


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
