"""A board for a paper: its table, what bold means, and what is to be said below it."""

from rmbench.boards.board import Board, Cell, Row
from rmbench.boards.families import SHOWS
from rmbench.boards.notes import FEWER_TEXT, board_notes, column_notes, fewer_items
from rmbench.boards.numbers import FEWER, family_text, fewer, rank_text, ranks_text
from rmbench.tabular import Block, Column, Table, cell_of
from rmbench.tabular import Cell as TableCell

_BOLD = (
    "Bold: not told apart from the best of its column by paired tests on the same prompts (Holm-corrected, "
    "5%), where another model is."
)
_RANKS = "Ranks: those that the tests of the score allow; rank: by the score alone."
_LETTERS = "Models that share a letter are not told apart by these tests of the score."
_SEEN = "\u2020: the model was trained on prompts of the task, or its gold is its own."


def board_block(board: Board) -> Block:
    """Return the board as a table with its caption and notes."""
    spec = board.spec
    columns = [Column("ranks", "count"), Column("rank", "count"), Column("model", "text", 80)]
    columns += [Column("score"), Column("group", "text")]
    ranked_by = ", ".join(c.label for c in spec.columns if c.id in spec.rank_by)
    notes = [
        f"{d['label']}: {d['metric']} of task {d['task']}, {d['direction']}, n = {d['n']}, "
        f"prompts = {d['clusters']}" + (f", {d['tests']}" if d["tests"] else "")
        for d in column_notes(board)
    ]
    # All of them stand in the board's other files: hundreds of lines are none for a paper.
    notes += [f"{note['title']}: {len(note['lines']):,}, see {spec.name}.md" for note in board_notes(board)]
    if tests := family_text(board, "score", "the score"):
        notes.insert(0, f"Tests of ranks and groups: {tests}. {SHOWS}")
    if any(row.contaminated for row in board.rows):
        notes.insert(0, _SEEN)
    if rests := fewer_items(board):
        notes = [f"{FEWER_TEXT}.", *rests, *notes]
    heads = (*columns, *(Column(c.label) for c in spec.columns))
    return Block(
        name=spec.name,
        lines=(spec.title, f"Score: mean of {ranked_by}.", _RANKS, _BOLD, _LETTERS),
        table=Table(heads, tuple(_row(board, row) for row in board.rows)),
        notes=tuple(notes),
    )


def _row(board: Board, row: Row) -> tuple[TableCell, ...]:
    return (
        ranks_text(row),
        rank_text(row),
        f"{row.model} (shortcut)" if row.shortcut else row.model,
        cell_of(row.score, strong=row.leads, mark=FEWER if row.partial else ""),
        row.group or None,
        *(_number(row.cells.get(c.id)) for c in board.spec.columns),
    )


def _number(cell: Cell | None) -> TableCell:
    if cell is None:
        return None
    mark = ("\u2020" if cell.trained_on or cell.facts.self_gold else "") + fewer(cell)
    return cell_of(cell.estimate, strong=cell.leads, mark=mark)
