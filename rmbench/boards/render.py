"""A board as Markdown, CSV, LaTeX, JSON and HTML. Same board, same bytes: no clock, no locale.

A board for a paper: its table, what bold means, and what is to be said below it.

A board for those who have one in the hand: it gives itself as text, page and files.

Numbers of a board as text, the same in all its formats.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from rmbench.boards.board import Board, Cell, Row
from rmbench.boards.numbers import FEWER, better, family_text, fewer, rank_text, ranks_text, row_texts
from rmbench.boards.page import FEWER_TEXT, Links, board_notes, column_notes, fewer_items, page_of
from rmbench.boards.separation import SHOWS
from rmbench.core.escape import for_markdown
from rmbench.core.files import write_atomic
from rmbench.format.tables import Block, Column, Table, as_latex, cell_of, csv_text, html_table
from rmbench.format.tables import Cell as TableCell
from rmbench.results.record import estimate_to_json, rounded

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


def render_board(board: Board, links: Links | None = None) -> dict[str, str]:
    """Return file name -> content: `<board>.md`, `.csv`, `.tex`, `.json` and `.html`.

    Args:
        board: What to write.
        links: What the names and numbers of the page link to.
    """
    name = board.spec.name
    return {
        f"{name}.md": _markdown(board),
        f"{name}.csv": _csv(board),
        f"{name}.tex": as_latex([board_block(board)]) + "\n",
        f"{name}.json": _json(board),
        f"{name}.html": page_of(board, links),
    }


def board_table(board: Board) -> str:
    """Return a board's table as a piece of HTML, for a notebook."""
    spec = board.spec
    heads = ("ranks", "rank", "model", "score", "group", *(c.label for c in spec.columns))
    rows = [
        (
            ranks_text(row),
            rank_text(row),
            f"{row.model} (shortcut)" if row.shortcut else row.model,
            *numbers,
        )
        for row, numbers in zip(board.rows, row_texts(board), strict=True)
    ]
    notes = ["95% intervals, clustered by prompt. Ranks: those that the tests allow."]
    notes.append("Models that share a letter are not told apart.")
    if tests := family_text(board, "score", "the score"):
        notes.append(f"Tests: {tests}. {SHOWS}")
    if board.left_out:
        notes.append(f"{len(board.left_out)} records left out: see left_out.")
    notes += [f"{FEWER} {line}" for line in fewer_items(board)]
    return html_table(heads, rows, about=[spec.title], notes=notes)


def _markdown(board: Board) -> str:
    spec = board.spec
    heads = ["ranks", "rank", "model", "score", "group", *[c.label for c in spec.columns]]
    lines = [
        f"# {spec.title}",  # the definition is the board maker's own Markdown
        "",
        spec.summary,
        "",
        "| " + " | ".join(for_markdown(h) for h in heads) + " |",
        "|" + "|".join(["---:", "---:", ":---", "---:", ":---"] + ["---:"] * len(spec.columns)) + "|",
    ]
    rows = zip(board.rows, row_texts(board), strict=True)
    lines += ["| " + " | ".join([*_markdown_row(row), *numbers]) + " |" for row, numbers in rows]
    lines += ["", *_legend(board), ""]
    return "\n".join(lines)


def _markdown_row(row: Row) -> list[str]:
    name = for_markdown(row.model)
    return [
        ranks_text(row),
        rank_text(row),
        f"*{name}* (shortcut)" if row.shortcut else name,
    ]


def _legend(board: Board) -> list[str]:
    spec = board.spec
    ranked_by = ", ".join(for_markdown(c.label) for c in spec.columns if c.id in spec.rank_by)
    lines = [
        (
            "Values with 95% intervals, clustered by prompt. *Ranks*: those that paired tests on the same "
            "prompts allow. *Score*, and *rank* by it alone: unweighted mean of "
            f"{ranked_by}. *Group*: models that share a letter are not told apart. *Shortcut* rows read no "
            "meaning: a model must beat them. A dash: no record of that task, or no value (see below). A "
            "rank needs a value in every ranking column."
        ),
        "",
    ]
    if tests := family_text(board, "score", "the score"):
        lines += [f"Tests of ranks and groups: {tests}. {SHOWS}", ""]
    for column in spec.columns:
        n, clusters = board.sizes[column.id]
        direction = better(board, column.id)
        lines.append(
            f"- {for_markdown(column.label)}: `{board.metrics[column.id]}` of task "
            f"`{column.task.name}` version {column.task.version}{f', {direction}' if direction else ''}; "
            + (f"n = {n:,}, prompts = {clusters:,}" if n else "no record")
            + (f"; {tests}" if (tests := family_text(board, column.id, "it")) else "")
        )
    noted = [
        f"- {for_markdown(row.model)}: {cell.truncated or 0:,} truncated, {cell.invalid:,} invalid responses "
        f"on {for_markdown(column.task.name)}"
        for row in board.rows
        for column in spec.columns
        if (cell := row.cells.get(column.id)) and (cell.truncated or cell.invalid)
    ]
    seen = sorted(
        {
            f"- {for_markdown(row.model)}: {cell.trained_on:,} prompts of {for_markdown(column.task.name)}"
            for row in board.rows
            for column in spec.columns
            if (cell := row.cells.get(column.id)) and cell.trained_on
        }
    )
    if seen:
        lines += ["", "Trained on prompts of the test (exactly, or 13 words in a row):", "", *seen]
    if noted:  # several columns may rest on one record
        lines += ["", "Truncated and invalid:", "", *dict.fromkeys(noted)]
    if rests := fewer_items(board):
        lines += ["", f"{FEWER_TEXT}:", "", *[f"- {for_markdown(line)}" for line in rests]]
    if board.missing_shortcuts:
        names = ", ".join(f"`{name}`" for name in board.missing_shortcuts)
        lines += ["", f"Shortcuts without a rank here: {names}. `rmbench eval --model NAME` measures one."]
    if board.undefined:
        lines += ["", "No value:", "", *[f"- {for_markdown(line)}" for line in board.undefined]]
    if board.left_out:
        lines += ["", "Records left out:", "", *[f"- {for_markdown(line)}" for line in board.left_out]]
    if board.untested:
        pairs = [f"- {for_markdown(line)}" for line in board.untested]
        lines += ["", "Not tested, as they have no number on common items:", "", *pairs]
    lines += ["", f"Made by `rmbench leaderboard {spec.name}` from the records in `results/`."]
    return lines


def _csv(board: Board) -> str:
    heads = ["rank", "rank_best", "rank_worst", "group", "model", "shortcut"]
    ids = ["score", *[c.id for c in board.spec.columns]]
    partial = [i for i in ids if any((cell := r.cells.get(i)) and cell.answered for r in board.rows)]
    rows = []
    for row in board.rows:
        best, worst = row.rank_range or (None, None)
        line: list[Any] = [row.rank, best, worst, row.group, row.model, int(row.shortcut)]
        cells = [row.cells.get(c.id) for c in board.spec.columns]
        for estimate in (row.score, *(cell.estimate if cell else None for cell in cells)):
            ends = (estimate.ci95 if estimate else None) or (None, None)
            line += [estimate.value if estimate else None, *ends]
        line += [board.families[i].smallest if i in board.families else None for i in ids]
        line += [cell.answered[0] if (cell := row.cells.get(c)) and cell.answered else None for c in partial]
        rows.append(line)
    heads += [f"{i}{suffix}" for i in ids for suffix in ("", "_low", "_high")]
    heads += [f"{i}_shows_from" for i in ids]
    return csv_text(heads + [f"{c}_items" for c in partial], rows, ".6f")


def _answered(cell: Cell) -> dict[str, int]:
    return {} if cell.answered is None else {"items": cell.answered[0], "of_items": cell.answered[1]}


def _json(board: Board) -> str:
    spec = board.spec
    value = {
        "board": spec.name,
        "title": spec.title,
        "rank_by": list(spec.rank_by),
        "columns": [
            {
                "id": c.id,
                "label": c.label,
                "task": c.task.name,
                "version": c.task.version,
                "metric": board.metrics[c.id],
            }
            for c in spec.columns
        ],
        "rows": [
            {
                "model": row.model,
                "shortcut": row.shortcut,
                "rank": row.rank,
                "rank_range": list(row.rank_range) if row.rank_range else None,
                "group": row.group,
                **({"better_below": list(row.better_below)} if row.better_below else {}),
                "score": estimate_to_json(row.score) if row.score else None,
                "cells": {
                    c: {
                        **estimate_to_json(cell.estimate),
                        "run_id": cell.run_id,
                        "truncated": cell.truncated,
                        "invalid": cell.invalid,
                        "trained_on": cell.trained_on,
                        **_answered(cell),
                    }
                    for c, cell in row.cells.items()
                },
            }
            for row in board.rows
        ],
        "families": {
            name: {
                "words": family.words("the score" if name == "score" else name),
                "models": family.n_models,
                "tests": family.n_tests,
                "shows_from": rounded(family.smallest),
            }
            for name, family in board.families.items()
        },
        "left_out": list(board.left_out),
        "undefined": list(board.undefined),
        "missing_shortcuts": list(board.missing_shortcuts),
        **({"untested": list(board.untested)} if board.untested else {}),
    }
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


@dataclass(frozen=True, slots=True)
class Leaderboard(Board):
    """A board with the formats that `rmbench leaderboard` writes."""

    @classmethod
    def of(cls, board: Board) -> Self:
        """Return a board with its formats."""
        return cls(**{field.name: getattr(board, field.name) for field in fields(board)})

    def to_markdown(self) -> str:
        """Return the board as `rmbench leaderboard` writes and prints it."""
        return self._files()[".md"]

    def to_csv(self) -> str:
        """Return the board as CSV, with columns for the ends of intervals."""
        return self._files()[".csv"]

    def to_latex(self) -> str:
        """Return the board's table for a paper (package booktabs), with caption and label."""
        return self._files()[".tex"]

    def to_html(self) -> str:
        """Return the board as a page: one file that opens from disk and asks no network."""
        return self._files()[".html"]

    def save(self, folder: Path | str) -> None:
        """Write the board into `folder` in all its formats."""
        for suffix, content in self._files().items():
            write_atomic(Path(folder) / f"{self.spec.name}{suffix}", content)

    def _repr_html_(self) -> str:
        """Return the table as notebooks show it; `to_html` is the whole page."""
        return board_table(self)

    def __str__(self) -> str:
        return self.to_markdown()

    def _files(self) -> dict[str, str]:
        return {name.removeprefix(self.spec.name): text for name, text in render_board(self).items()}
