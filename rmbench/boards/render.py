"""A board as Markdown, CSV, LaTeX, JSON and HTML. Same board, same bytes: no clock, no locale."""

import json
from pathlib import Path
from typing import Any

from rmbench.boards.board import FEWER, BoardCell, BoardRow, Leaderboard
from rmbench.boards.definition import ColumnSpec
from rmbench.boards.page import FEWER_TEXT, Links, board_notes, column_notes, fewer_items, page_of
from rmbench.boards.separation import SHOWS
from rmbench.core.escape import for_markdown
from rmbench.format.pages import better
from rmbench.format.tables import (
    Block,
    Cell,
    Column,
    Table,
    Text,
    as_latex,
    cell_of,
    csv_text,
    markdown_table,
    value_low_high,
)
from rmbench.results.record import estimate_to_json, rounded

_BOLD = (
    "Bold: not told apart from the best of its column by paired tests on the same prompts (Holm-corrected, "
    "5%), where another model is."
)
_RANKS = "Ranks: those that the tests of the score allow; rank: by the score alone."
_LETTERS = "Models that share a letter are not told apart by these tests of the score."
_SEEN = "\u2020: the model was trained on prompts of the task, or its gold is its own."


def paper_block(board: Leaderboard) -> Block:
    """Return the board for a paper: its table with bold numbers and marks, caption and notes."""
    spec = board.spec
    ranked_by = ", ".join(c.label for c in spec.columns if c.id in spec.rank_by)
    notes = [
        f"{d['label']}: {d['metric']} of task {d['task']}, {d['direction']}, n = {d['n']}, "
        f"prompts = {d['clusters']}" + (f", {d['tests']}" if d["tests"] else "")
        for d in column_notes(board)
    ]
    # Only counts: the lines themselves are in the board's other files.
    notes += [f"{note['title']}: {len(note['lines']):,}, see {spec.name}.md" for note in board_notes(board)]
    if tests := board.tests("score"):
        notes.insert(0, f"Tests of ranks and groups: {tests}. {SHOWS}")
    if any(row.contaminated for row in board.rows):
        notes.insert(0, _SEEN)
    if rests := fewer_items(board):
        notes = [f"{FEWER_TEXT}.", *rests, *notes]
    return Block(
        name=spec.name,
        lines=(spec.title, _what_ranks(board, ranked_by), _RANKS, _BOLD, _LETTERS),
        table=board_table(board, paper=True),
        notes=tuple(notes),
    )


def _what_ranks(board: Leaderboard, ranked_by: str) -> str:
    """Return a sentence on what ranks the models."""
    if len(board.spec.rank_by) == 1:
        return f"Ranked by {ranked_by}."
    return f"Score: unweighted mean of {ranked_by}."


def notebook_block(board: Leaderboard) -> Block:
    """Return the board for a notebook."""
    notes = ["95% intervals, clustered by prompt. Ranks: those that the tests allow."]
    notes.append("Models that share a letter are not told apart.")
    if tests := board.tests("score"):
        notes.append(f"Tests: {tests}. {SHOWS}")
    if board.left_out:
        notes.append(f"{len(board.left_out)} records left out: see left_out.")
    notes += [f"{FEWER} {line}" for line in fewer_items(board)]
    return Block(board.spec.name, (board.spec.title,), board_table(board), tuple(notes))


def terminal_block(board: Leaderboard, out: Path) -> Block:
    """Return the board for a terminal: its table, what it lacks in numbers, and where its page lies."""
    spec = board.spec
    ranks = _what_ranks(board, ", ".join(c.label for c in spec.columns if c.id in spec.rank_by))
    notes = [f"95% intervals by prompt. {ranks} Models that share a letter are not told apart."]
    if tests := board.tests("score"):
        notes.append(f"Tests: {tests}.")
    notes += [f"{FEWER} {line}" for line in fewer_items(board)]
    lacks = [f"{note['title'].lower()}: {len(note['lines']):,}" for note in board_notes(board)]
    if lacks:
        notes.append(f"{'; '.join(lacks)} (see {out / spec.name}.md)")
    notes.append(f"page: {out / spec.name}.html")
    return Block(spec.name, (spec.title,), board_table(board), tuple(notes))


def board_table(board: Leaderboard, *, paper: bool = False) -> Table:
    """Return the board's table; for a paper with bold numbers, and with a mark on contaminated ones.

    A column that alone ranks the models is the score, and stands once.
    """
    shown = board.beside_score
    columns = [
        Column("ranks", "count"),
        Column("rank", "count", drop=4),
        Column("model", "text", 80 if paper else None),
        Column(board.score_label),
        Column("group", "text", drop=1),
        *(Column(c.label, drop=_drop(board, c)) for c in shown),
    ]
    rows = [
        (
            row.ranks,
            "–" if row.rank is None else str(row.rank),
            Text(row.model, "shortcut") if row.shortcut else row.model,
            cell_of(row.score, strong=row.leads and paper, mark=_score_mark(board, row, paper)),
            row.group or None,
            *(_cell(row.cells.get(c.id), paper) for c in shown),
        )
        for row in board.rows
    ]
    return Table(tuple(columns), tuple(rows))


def _drop(board: Leaderboard, column: ColumnSpec) -> int:
    """Return when a narrow terminal leaves a column out: empty ones first, then those that do not rank."""
    return 3 if not board.estimates(column.id) else 0 if column.id in board.spec.rank_by else 2


def _score_mark(board: Leaderboard, row: BoardRow, paper: bool) -> str:
    """Return the marks of a score; that of a column that alone ranks the models is marked as its cell is."""
    alone = row.cells.get(board.spec.rank_by[0]) if len(board.spec.rank_by) == 1 else None
    seen = "\u2020" if alone is not None and alone.contaminated and paper else ""
    return seen + (FEWER if row.partial else "")


def _cell(cell: BoardCell | None, paper: bool) -> Cell:
    if cell is None:
        return None
    mark = ("\u2020" if cell.contaminated and paper else "") + (FEWER if cell.answered else "")
    return cell_of(cell.estimate, strong=cell.leads and paper, mark=mark)


def render_board(board: Leaderboard, links: Links | None = None) -> dict[str, str]:
    """Return file name -> content: `<board>.md`, `.csv`, `.tex`, `.json` and `.html`.

    Args:
        board: The board.
        links: Links of names and numbers on the page.
    """
    name = board.spec.name
    return {
        f"{name}.md": _markdown(board),
        f"{name}.csv": _csv(board),
        f"{name}.tex": as_latex([paper_block(board)]) + "\n",
        f"{name}.json": _json(board),
        f"{name}.html": page_of(board, links),
    }


def _markdown(board: Leaderboard) -> str:
    spec = board.spec
    # The definition's title and summary are the board maker's own Markdown.
    lines = [f"# {spec.title}", "", spec.summary, "", *markdown_table(board_table(board))]
    return "\n".join([*lines, "", *_legend(board), ""])


def _legend(board: Leaderboard) -> list[str]:
    spec = board.spec
    ranked_by = ", ".join(for_markdown(c.label) for c in spec.columns if c.id in spec.rank_by)
    lines = [
        (
            "Values with 95% intervals, clustered by prompt. *Ranks*: those that paired tests on the same "
            f"prompts allow. {_what_ranks(board, ranked_by)} *Rank*: by it alone. "
            "*Group*: models that share a letter are not told apart. *Shortcut* rows read no "
            "meaning: a model must beat them. A dash: no record of that task, or no value (see below). A "
            "rank needs a value in every ranking column."
        ),
        "",
    ]
    if tests := board.tests("score"):
        lines += [f"Tests of ranks and groups: {tests}. {SHOWS}", ""]
    for column in spec.columns:
        n, clusters = board.sizes[column.id]
        direction = better(board.estimates(column.id))
        lines.append(
            f"- {for_markdown(column.label)}: `{board.metrics[column.id]}` of task "
            f"`{column.task.name}` version {column.task.version}{f', {direction}' if direction else ''}; "
            + (f"n = {n:,}, prompts = {clusters:,}" if n else "no record")
            + (f"; {tests}" if (tests := board.tests(column.id)) else "")
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


def _csv(board: Leaderboard) -> str:
    heads = ["rank", "rank_best", "rank_worst", "group", "model", "shortcut"]
    ids = ["score", *[c.id for c in board.spec.columns]]
    partial = [i for i in ids if any((cell := r.cells.get(i)) and cell.answered for r in board.rows)]
    rows = []
    for row in board.rows:
        best, worst = row.rank_range or (None, None)
        line: list[Any] = [row.rank, best, worst, row.group, row.model, int(row.shortcut)]
        cells = [row.cells.get(c.id) for c in board.spec.columns]
        for estimate in (row.score, *(cell.estimate if cell else None for cell in cells)):
            line += value_low_high(estimate)
        line += [board.families[i].smallest if i in board.families else None for i in ids]
        line += [cell.answered[0] if (cell := row.cells.get(c)) and cell.answered else None for c in partial]
        rows.append(line)
    heads += [f"{i}{suffix}" for i in ids for suffix in ("", "_low", "_high")]
    heads += [f"{i}_shows_from" for i in ids]
    return csv_text(heads + [f"{c}_items" for c in partial], rows, ".6f")


def _answered(cell: BoardCell) -> dict[str, int]:
    return {} if cell.answered is None else {"items": cell.answered[0], "of_items": cell.answered[1]}


def _json(board: Leaderboard) -> str:
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
