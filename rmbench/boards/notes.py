"""What a page says around its table: marks of rows, definitions of columns, what is missing and why."""

from typing import Any

from rmbench.boards.board import Board, Cell, Row
from rmbench.boards.numbers import FEWER, better, family_text, shows_text
from rmbench.boards.separation import MOST_IN_COLUMNS

FEWER_TEXT = (
    f"{FEWER}: a number on fewer items, as the model has no valid reward on the others. Two models are "
    "tested on the items that both answered: the ranks that the tests allow may leave out the rank by score"
)


def row_notes(board: Board, row: Row) -> list[dict[str, str]]:
    """Return the marks of a row: a short text, what it means, and its kind."""
    marks = []
    if row.shortcut:
        marks.append(_mark("shortcut", "shortcut", "Reads no meaning: a reward model must beat it."))
    if seen := _per_task(board, row, lambda cell: cell.trained_on):
        what = _listed(seen, "prompts of")
        marks.append(
            _mark(
                "contaminated", "trained on test prompts", f"Trained on {what}, whole or 13 words in a row."
            )
        )
    if any(cell.facts.self_gold for cell in row.cells.values()):
        marks.append(_mark("contaminated", "self-gold", "Its gold is its own: no independent measure."))
    if cut := _per_task(board, row, lambda cell: cell.truncated or 0):
        marks.append(_mark("note", "truncated", f"Texts cut to fit: {_listed(cut, 'of')}."))
    if invalid := _per_task(board, row, lambda cell: cell.invalid):
        marks.append(
            _mark("note", "invalid", f"Rewards that are no finite number: {_listed(invalid, 'of')}.")
        )
    if rests := rests_on(board, row):
        marks.append(_mark("contaminated" if row.partial else "note", "fewer items", f"{rests}."))
    if row.better_below:
        marks.append(_mark("contaminated", "ranked too high", better_below_text(row)))
    remarks = [
        f"{column.label}: {cell.estimate.remark}"
        for column in board.spec.columns
        if (cell := row.cells.get(column.id)) is not None and cell.estimate.remark
    ]
    if remarks:
        marks.append(_mark("note", "rests on little", f"{'; '.join(remarks)}."))
    return marks


def rests_on(board: Board, row: Row) -> str:
    """Return on how many items a model's numbers rest, where it left items out; else nothing."""
    found: dict[tuple[str, int, int], list[str]] = {}
    for column in board.spec.columns:
        cell = row.cells.get(column.id)
        if cell is not None and cell.answered is not None:
            found.setdefault((column.task.name, *cell.answered), []).append(column.label)
    return "; ".join(
        f"{', '.join(labels)}: {n:,} of {of:,} items of {task}" for (task, n, of), labels in found.items()
    )


def better_below_text(row: Row) -> str:
    """Return which models with a lower score the tests find better than this one; else nothing."""
    if not row.better_below:
        return ""
    names = ", ".join(row.better_below)
    return f"On the items that both answered, these models with a lower score are better: {names}."


def fewer_items(board: Board) -> list[str]:
    """Return a line per model with numbers on fewer items, and what the tests say against its rank."""
    return [
        f"{row.model}: {rests}{f'. {text}' if (text := better_below_text(row)) else ''}"
        for row in board.rows
        if (rests := rests_on(board, row)) or row.better_below
    ]


def column_notes(board: Board) -> list[dict[str, str]]:
    """Return what each column is: its label, metric, task, direction, size, and what its tests show."""
    notes = []
    for column in board.spec.columns:
        n, clusters = board.sizes[column.id]
        notes.append(
            {
                "label": column.label,
                "metric": board.metrics[column.id],
                "task": f"{column.task.name}, version {column.task.version}",
                "direction": better(board, column.id) or "–",
                "n": f"{n:,}" if n else "no record",
                "clusters": f"{clusters:,}" if n else "–",
                "ranks": "yes" if column.id in board.spec.rank_by else "no",
                "tests": family_text(board, column.id, "it"),
                "shows": shows_text(board, column.id),
            }
        )
    return notes


def board_notes(board: Board) -> list[dict[str, Any]]:
    """Return what is not on the board, by heading; headings without a line are left out."""
    shortcuts = [f"{name}: rmbench eval --model {name}" for name in board.missing_shortcuts]
    small = len(board.rows) <= MOST_IN_COLUMNS
    limits = (
        [] if small else [f"Columns have no groups of their own on boards above {MOST_IN_COLUMNS} models."]
    )
    found = {
        "No value": list(board.undefined),
        "Records left out": list(board.left_out),
        "Not tested: no number on common items": list(board.untested),
        "Shortcuts without a rank here": shortcuts,
        "Limits": limits,
    }
    return [{"title": title, "lines": lines} for title, lines in found.items() if lines]


def _mark(kind: str, text: str, title: str) -> dict[str, str]:
    return {"kind": kind, "text": text, "title": title}


def _per_task(board: Board, row: Row, count: Any) -> dict[str, int]:
    """Return task -> a count of its record, where it is not 0; several columns may rest on one record."""
    found: dict[str, int] = {}
    for column in board.spec.columns:
        cell: Cell | None = row.cells.get(column.id)
        if cell is not None and (number := count(cell)):
            found[column.task.name] = number
    return found


def _listed(counts: dict[str, int], between: str) -> str:
    return ", ".join(f"{n:,} {between} {task}" for task, n in counts.items())
