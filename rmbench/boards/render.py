"""A board as Markdown, CSV, LaTeX, JSON and HTML. Same board, same bytes: no clock, no locale."""

import json
from typing import Any

from rmbench.boards.board import Board, Row
from rmbench.boards.links import Links
from rmbench.boards.numbers import better, rank_text, row_texts
from rmbench.boards.page import page_of
from rmbench.boards.paper import board_block
from rmbench.escape import for_markdown
from rmbench.latex import as_latex
from rmbench.notebook import html_table
from rmbench.records import estimate_to_json
from rmbench.tabular import csv_text


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
    heads = ("rank", "group", "model", "score", *(c.label for c in spec.columns))
    rows = [
        (
            rank_text(row),
            row.group or "–",
            f"{row.model} (shortcut)" if row.shortcut else row.model,
            *numbers,
        )
        for row, numbers in zip(board.rows, row_texts(board), strict=True)
    ]
    notes = ["95% intervals, clustered by prompt; models that share a letter are not told apart."]
    if board.left_out:
        notes.append(f"{len(board.left_out)} records left out: see left_out.")
    return html_table(heads, rows, about=[spec.title], notes=notes)


def _markdown(board: Board) -> str:
    spec = board.spec
    heads = ["rank", "group", "model", "score", *[c.label for c in spec.columns]]
    lines = [
        f"# {spec.title}",  # the definition is the board maker's own Markdown
        "",
        spec.summary,
        "",
        "| " + " | ".join(for_markdown(h) for h in heads) + " |",
        "|" + "|".join(["---:", ":---", ":---"] + ["---:"] * (len(heads) - 3)) + "|",
    ]
    rows = zip(board.rows, row_texts(board), strict=True)
    lines += ["| " + " | ".join([*_markdown_row(row), *numbers]) + " |" for row, numbers in rows]
    lines += ["", *_legend(board), ""]
    return "\n".join(lines)


def _markdown_row(row: Row) -> list[str]:
    name = for_markdown(row.model)
    return [
        rank_text(row),
        row.group or "–",
        f"*{name}* (shortcut)" if row.shortcut else name,
    ]


def _legend(board: Board) -> list[str]:
    spec = board.spec
    ranked_by = ", ".join(for_markdown(c.label) for c in spec.columns if c.id in spec.rank_by)
    lines = [
        (
            "Values with 95% intervals, clustered by prompt. *Score* and rank: unweighted mean of "
            f"{ranked_by}. In parentheses, the ranks that the tests allow. Models that share a letter are "
            "not told apart (paired tests on the same prompts, Holm-corrected, 5%). *Shortcut* rows read no "
            "meaning: a model must beat them. A dash: no record of that task, or no value (see below). A "
            "rank needs a value in every ranking column."
        ),
        "",
    ]
    for column in spec.columns:
        n, clusters = board.sizes[column.id]
        direction = better(board, column.id)
        lines.append(
            f"- {for_markdown(column.label)}: `{board.metrics[column.id]}` of task "
            f"`{column.task.name}` version {column.task.version}{f', {direction}' if direction else ''}; "
            + (f"n = {n:,}, prompts = {clusters:,}" if n else "no record")
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
    if board.missing_shortcuts:
        names = ", ".join(f"`{name}`" for name in board.missing_shortcuts)
        lines += ["", f"Shortcuts without a rank here: {names}. `rmbench eval --model NAME` measures one."]
    if board.undefined:
        lines += ["", "No value:", "", *[f"- {for_markdown(line)}" for line in board.undefined]]
    if board.left_out:
        lines += ["", "Records left out:", "", *[f"- {for_markdown(line)}" for line in board.left_out]]
    lines += ["", f"Made by `rmbench leaderboard {spec.name}` from the records in `results/`."]
    return lines


def _csv(board: Board) -> str:
    heads = ["rank", "rank_best", "rank_worst", "group", "model", "shortcut"]
    ids = ["score", *[c.id for c in board.spec.columns]]
    rows = []
    for row in board.rows:
        best, worst = row.rank_range or (None, None)
        line: list[Any] = [row.rank, best, worst, row.group, row.model, int(row.shortcut)]
        cells = [row.cells.get(c.id) for c in board.spec.columns]
        for estimate in (row.score, *(cell.estimate if cell else None for cell in cells)):
            ends = (estimate.ci95 if estimate else None) or (None, None)
            line += [estimate.value if estimate else None, *ends]
        rows.append(line)
    return csv_text(heads + [f"{i}{suffix}" for i in ids for suffix in ("", "_low", "_high")], rows, ".6f")


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
                "score": estimate_to_json(row.score) if row.score else None,
                "cells": {
                    c: {
                        **estimate_to_json(cell.estimate),
                        "run_id": cell.run_id,
                        "truncated": cell.truncated,
                        "invalid": cell.invalid,
                        "trained_on": cell.trained_on,
                    }
                    for c, cell in row.cells.items()
                },
            }
            for row in board.rows
        ],
        "left_out": list(board.left_out),
        "undefined": list(board.undefined),
        "missing_shortcuts": list(board.missing_shortcuts),
    }
    return json.dumps(value, indent=1, allow_nan=False) + "\n"
