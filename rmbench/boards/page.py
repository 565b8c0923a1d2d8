"""A board as one HTML file, by the rules of `rmbench.html`. Same board, same bytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from rmbench.boards.board import Board, Row
from rmbench.boards.families import SHOWS
from rmbench.boards.links import Links, checked_link
from rmbench.boards.notes import FEWER_TEXT, board_notes, column_notes, fewer_items, row_notes
from rmbench.boards.numbers import better, column_digits, family_text, ranks_text, score_digits, shows_text
from rmbench.boards.pareto import plots_of
from rmbench.boards.scale import Scale, scale_of
from rmbench.digits import Digits
from rmbench.escape import one_line
from rmbench.html import prose, render_page
from rmbench.types import Estimate

LONGEST = 200
"""Characters of a name or a reason that the page shows; commands may be longer."""
LARGE = 60
"""Rows above which columns have fixed widths, so that a browser lays out what is in view alone."""
KIND_TITLES = {"preference": "Preference", "calibration": "Calibration", "best_of_n": "Best of N"}


def page_of(board: Board, links: Links | None = None) -> str:
    """Return the page of a board.

    Args:
        board: What to show.
        links: The target of numbers and names, such as a report on the model. Numbers without one are plain
            text; names without one lead to the commands that made their records.

    Raises:
        ValueError: If a link is neither relative nor an address that begins with http:// or https://.
    """
    groups = _groups(board)
    scales = {c.id: _column_scale(board, c.id) for c in board.spec.columns}
    score = scale_of([row.score for row in board.rows if row.score])
    kinds = _Numbers(scales, column_digits(board), score, score_digits(board))
    return render_page(
        "board",
        extra_style=_widths({group["span"] for group in groups}),
        board=board,
        summary=prose(board.spec.summary),
        groups=groups,
        columns=[_head(board, c.id, scales[c.id]) for c in board.spec.columns],
        score_axis=score.ends(),
        large=len(board.rows) > LARGE,
        rows=[_row(board, n, row, kinds, links or {}) for n, row in enumerate(board.rows, 1)],
        plots=plots_of(board),
        notes=board_notes(board),
        tests=family_text(board, "score", "the score"),
        shows=SHOWS,
        score_shows=_told_apart_from(board, "score"),
        definitions=column_notes(board),
        fewer=FEWER_TEXT if fewer_items(board) else "",
        n_shortcuts=sum(row.shortcut for row in board.rows),
        n_contaminated=sum(row.contaminated for row in board.rows),
    )


@dataclass(frozen=True, slots=True)
class _Numbers:
    """How the numbers of each column are drawn and written, and the scores."""

    scales: Mapping[str, Scale]
    digits: Mapping[str, Digits]
    score: Scale
    score_digits: Digits


def _widths(spans: set[int]) -> str:
    """Return the style of heads over several columns of fixed width."""
    rule = '#board.large .groups th[colspan="{0}"] {{ width: calc({0} * var(--column)); }}\n'
    return "".join(rule.format(n) for n in sorted(spans))


def _groups(board: Board) -> list[dict[str, Any]]:
    """Return neighbouring columns of one task kind as groups."""
    found: list[dict[str, Any]] = []
    for column in board.spec.columns:
        kind = board.kinds[column.id]
        if not found or found[-1]["kind"] != kind:
            title = KIND_TITLES.get(kind, f"Official: {kind}")
            found.append({"kind": kind, "title": title, "span": 0, "n": len(found)})
        found[-1]["span"] += 1
    return found


def _head(board: Board, column_id: str, scale: Scale) -> dict[str, Any]:
    column = next(c for c in board.spec.columns if c.id == column_id)
    direction = better(board, column_id)
    arrow = {"higher is better": "↑", "lower is better": "↓"}.get(direction, "")
    group = next(n for n, group in _group_of(board) if column_id in group)
    return {
        "id": column_id,
        "label": one_line(column.label, LONGEST),
        "metric": board.metrics[column_id],
        "task": column.task.name,
        "direction": direction,
        "shows": _told_apart_from(board, column_id),
        "arrow": arrow,
        "group": group,
        "axis": scale.ends(),
        "ranks": column_id in board.spec.rank_by,
    }


def _told_apart_from(board: Board, name: str) -> str:
    """Return what a head says of the letters below it; empty where there are none."""
    return f"; the tests show differences from {shows_text(board, name)}" if name in board.families else ""


def _group_of(board: Board) -> list[tuple[int, list[str]]]:
    ids = [c.id for c in board.spec.columns]
    found, start = [], 0
    for group in _groups(board):
        found.append((group["n"], ids[start : start + group["span"]]))
        start += group["span"]
    return found


def _column_scale(board: Board, column: str) -> Scale:
    return scale_of([row.cells[column].estimate for row in board.rows if column in row.cells])


def _row(board: Board, number: int, row: Row, numbers: _Numbers, links: Links) -> dict[str, Any]:
    ranks = Scale(0.5, max(len([r for r in board.rows if r.rank is not None]), 1) + 0.5)
    rank = None
    if row.rank is not None and row.rank_range is not None:
        low, high = row.rank_range
        rank = {"value": row.rank, "ranks": ranks_text(row), "bar": ranks.bar(row.rank, (low, high))}
    return {
        "number": number,
        "model": one_line(row.model, LONGEST),
        "link": _link(links, row.model, ""),
        "shortcut": row.shortcut,
        "contaminated": row.contaminated,
        "marks": row_notes(board, row),
        "rank": rank,
        "group": row.group,
        "score": _number(row.score, numbers.score, numbers.score_digits, row.group) if row.score else None,
        "why_no_score": "" if row.score else "a rank needs a value in every ranking column",
        "cells": [
            # Without a report, to what the page itself says of the model.
            _cell(row, c.id, c.task.name, numbers, _link(links, row.model, c.id) or f"#m{number}")
            for c in board.spec.columns
        ],
        "runs": _runs(board, row),
    }


def _link(links: Links, model: str, column: str) -> str | None:
    link = links.get((model, column))
    return None if link is None else checked_link(link)


def _cell(row: Row, column: str, task: str, numbers: _Numbers, link: str | None) -> dict[str, Any]:
    cell = row.cells.get(column)
    if cell is None:
        return {"why": one_line(row.undefined.get(column, f"no record of task {task}"), LONGEST)}
    marked = bool(cell.trained_on or cell.facts.self_gold)
    shown = _number(cell.estimate, numbers.scales[column], numbers.digits[column], cell.group, cell.answered)
    return {**shown, "link": link, "marked": marked}


def _number(
    estimate: Estimate,
    scale: Scale,
    digits: Digits,
    group: str,
    answered: tuple[int, int] | None = None,
) -> dict[str, Any]:
    low_high = estimate.ci95
    rests = f"{answered[0]:,} of {answered[1]:,} items" if answered else ""
    small = digits.interval(low_high) if low_high else "no interval"
    return {
        "why": "" if isfinite(estimate.value) else "not a finite number",
        "key": f"{estimate.value:.6g}" if isfinite(estimate.value) else None,
        "text": digits.write(estimate.value),
        "small": " ".join(filter(None, (small, group, rests))),
        "bar": scale.bar(estimate.value, low_high),
        "link": None,
        "marked": False,
    }


def _runs(board: Board, row: Row) -> dict[str, list[str]]:
    """Return what made the records behind a row: command -> its records, as `task@version/run id`."""
    found: dict[str, list[str]] = {}
    for column in board.spec.columns:
        if cell := row.cells.get(column.id):
            records = found.setdefault(cell.facts.command, [])
            record = f"{column.task.name}@{column.task.version}/{cell.run_id}"
            if record not in records:  # several columns may rest on one
                records.append(record)
    return found
