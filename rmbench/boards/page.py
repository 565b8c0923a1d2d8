"""A board as one HTML page: table, marks, definitions, links. Same board, same bytes."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from rmbench.boards.board import FEWER, BoardCell, BoardRow, Leaderboard
from rmbench.boards.definition import ModelCard
from rmbench.boards.pareto import plots_of
from rmbench.boards.separation import MOST_IN_COLUMNS, SHOWS
from rmbench.core.digits import Digits
from rmbench.core.escape import one_line
from rmbench.core.files import slug
from rmbench.errors import ConfigError
from rmbench.format.pages import (
    ARROWS,
    LONGEST_NAME,
    Scale,
    anchor,
    better,
    estimate_parts,
    prose,
    render_page,
    scale_of,
)
from rmbench.metrics.kinds import known_kind
from rmbench.types import Estimate

FEWER_TEXT = (
    f"{FEWER}: a number on fewer items, as the model has no valid reward on the others. Two models are "
    "tested on the items that both answered: the ranks that the tests allow may leave out the rank by score"
)


def row_notes(board: Leaderboard, row: BoardRow) -> list[dict[str, str]]:
    """Return the marks of a row: kind, short text and explanation."""
    marks = []
    if row.untrained:
        marks.append(
            _mark("control", "control: untrained head", "Its head is random: a trained model must beat it.")
        )
    if row.shortcut:
        marks.append(_mark("shortcut", "shortcut", "Reads no meaning: a reward model must beat it."))
    if seen := _per_task(board, row, lambda cell: cell.trained_on or 0):
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


def rests_on(board: Leaderboard, row: BoardRow) -> str:
    """Return the number of items that a model's numbers rest on, in words; empty if it left none out."""
    found: dict[tuple[str, int, int], list[str]] = {}
    for column in board.spec.columns:
        cell = row.cells.get(column.id)
        if cell is not None and cell.answered is not None:
            found.setdefault((column.task.name, *cell.answered), []).append(column.label)
    return "; ".join(
        f"{', '.join(labels)}: {n:,} of {of:,} items of {task}" for (task, n, of), labels in found.items()
    )


def better_below_text(row: BoardRow) -> str:
    """Return a sentence on models with a lower score that the tests find better; empty without any."""
    if not row.better_below:
        return ""
    names = ", ".join(row.better_below)
    return f"On the items that both answered, these models with a lower score are better: {names}."


def fewer_items(board: Leaderboard) -> list[str]:
    """Return a line per model with numbers on fewer items, and on tests that contradict its rank."""
    return [
        f"{row.model}: {rests}{f'. {text}' if (text := better_below_text(row)) else ''}"
        for row in board.rows
        if (rests := rests_on(board, row)) or row.better_below
    ]


def column_notes(board: Leaderboard) -> list[dict[str, str]]:
    """Return the definition of each column: label, metric, task, direction, size and tests."""
    notes = []
    for column in board.spec.columns:
        n, clusters = board.sizes[column.id]
        notes.append(
            {
                "label": column.label,
                "metric": board.metrics[column.id],
                "task": f"{column.task.name}, version {column.task.version}",
                "direction": better(board.estimates(column.id)) or "–",
                "n": f"{n:,}" if n else "no record",
                "clusters": f"{clusters:,}" if n else "–",
                "ranks": "yes" if column.id in board.spec.rank_by else "no",
                "tests": board.tests(column.id),
                "shows": board.shows(column.id),
            }
        )
    return notes


def board_notes(board: Leaderboard) -> list[dict[str, Any]]:
    """Return notes on what the board lacks: headings, each with its lines."""
    shortcuts = [f"{name}: rmbench eval --model {name}" for name in board.missing_shortcuts]
    models = {row.model for row in board.rows}
    small = len(board.rows) <= MOST_IN_COLUMNS
    limits = (
        [] if small else [f"Columns have no groups of their own on boards above {MOST_IN_COLUMNS} models."]
    )
    cards = [f"{name}: the definition describes it" for name in board.spec.models if name not in models]
    undrawn = [f"{p['title']}: {p['missing']}" for p in plots_of(board) if not p["points"] and p["missing"]]
    found = {
        "No value": list(board.undefined),
        "Records left out": list(board.left_out),
        "Not tested: no number on common items": list(board.untested),
        "Shortcuts without a rank here": shortcuts,
        "Models that are not here": cards,
        "Not drawn": undrawn,
        "Limits": limits,
    }
    return [{"title": title, "lines": lines} for title, lines in found.items() if lines]


def _mark(kind: str, text: str, title: str) -> dict[str, str]:
    return {"kind": kind, "text": text, "title": title}


def _per_task(board: Leaderboard, row: BoardRow, count: Any) -> dict[str, int]:
    """Return task -> a count of its record that is not 0; several columns may rest on one record."""
    found: dict[str, int] = {}
    for column in board.spec.columns:
        cell: BoardCell | None = row.cells.get(column.id)
        if cell is not None and (number := count(cell)):
            found[column.task.name] = number
    return found


def _listed(counts: dict[str, int], between: str) -> str:
    return ", ".join(f"{n:,} {between} {task}" for task, n in counts.items())


Links: TypeAlias = Mapping[tuple[str, str], str]
"""(model, column id) -> link of its number; (model, "") -> link of the model's name."""

REPORTS = "reports"
"""Folder beside a board with its models' pages."""
_REMOTE = re.compile(r"https?://[^/\s]")


def report_file(model: str) -> str:
    """Return the file name of a model's page; no two models share one."""
    return f"{slug(model)}.html"


def report_links(board: Leaderboard, reports: str | None, out: Path) -> Links:
    """Return the links of a board's models to their pages, `report_file` of a folder or an address.

    A model's name links to its page, and its numbers to the part of the page on their task.

    Args:
        board: Whose models.
        reports: Folder of the pages, or an address that begins with http:// or https://; every model is
            assumed to have a page there. None: the folder `reports` in `out`, if it exists.
        out: Folder that the board is written to: links to a folder are relative to it.

    Raises:
        ConfigError: If the folder does not exist, or the address is malformed.
    """
    files = {row.model: report_file(row.model) for row in board.rows}
    if reports is not None and "://" in reports:
        if not _REMOTE.match(reports) or one_line(reports) != reports:
            raise ConfigError(f"--reports {reports!r}: expected a folder, or an address http(s)://HOST/...")
        base = quote(reports.rstrip("/"), safe=":/?#[]@!$&'()*+,;=%~")
        return _to_parts(board, {model: f"{base}/{name}" for model, name in files.items()})
    folder = out / REPORTS if reports is None else Path(reports)
    if not folder.is_dir():
        if reports is not None:
            raise ConfigError(f"--reports {reports}: there is no such folder")
        return {}
    base = quote(os.fsencode(Path(os.path.relpath(folder, out)).as_posix()))
    there = {model: f"{base}/{name}" for model, name in files.items() if (folder / name).is_file()}
    return _to_parts(board, there)


def _to_parts(board: Leaderboard, pages: Mapping[str, str]) -> Links:
    found = {(model, ""): page for model, page in pages.items()}
    for column in board.spec.columns:
        part = anchor(column.task.name)
        found |= {(model, column.id): f"{page}#{part}" for model, page in pages.items()}
    return found


def checked_link(link: str) -> str:
    """Return a link, checked: only relative and http(s) links may stand in a page.

    Raises:
        ValueError: If it is neither relative nor an address that begins with http:// or https://.
    """
    relative = ":" not in link and not link.startswith(("/", "\\"))
    if not (relative or _REMOTE.match(link)) or one_line(link) != link:
        raise ValueError(f"{link!r}: expected a relative link, or http(s)://")
    return link


MOST_BANDS = 12
"""Groups above which a page writes their letters and draws no bands."""
LARGE = 60
"""Rows above which columns have fixed widths, so that a browser lays out only what is in view."""


def page_of(board: Leaderboard, links: Links | None = None) -> str:
    """Return the page of a board.

    Args:
        board: What to show.
        links: Links of numbers and names, such as a report on the model. A number or name without a link
            leads to the commands that made the model's records.

    Raises:
        ValueError: If a link is neither relative nor an address that begins with http:// or https://.
    """
    groups = _groups(board)
    shown = board.beside_score
    names = ["score", *(c.id for c in shown)]
    lines = {
        name: _Line(scale_of(board.estimates(name)), board.digits(name), _best(board, name)) for name in names
    }
    return render_page(
        "board",
        extra_style=_widths({group["span"] for group in groups}, len(_letters(board))),
        board=board,
        summary=prose(board.spec.summary),
        groups=groups,
        columns=[_head(board, c.id, lines[c.id].scale) for c in shown],
        score=_score_head(board, lines["score"].scale),
        dates=_dates(board),
        large=len(board.rows) > LARGE,
        rows=[_row(board, n, row, lines, links or {}) for n, row in enumerate(board.rows, 1)],
        plots=[plot for plot in plots_of(board) if plot["points"]],
        notes=board_notes(board),
        tests=board.tests("score"),
        shows=SHOWS,
        score_shows=_told_apart_from(board, "score"),
        ranked_by=[one_line(c.label, LONGEST_NAME) for c in board.spec.columns if c.id in board.spec.rank_by],
        definitions=column_notes(board),
        fewer=FEWER_TEXT if fewer_items(board) else "",
        n_shortcuts=sum(row.shortcut for row in board.rows),
        n_contaminated=sum(row.contaminated for row in board.rows),
    )


@dataclass(frozen=True, slots=True)
class _Line:
    """Scale and digits of the numbers of one column."""

    scale: Scale
    digits: Digits
    best: float | None


def _letters(board: Leaderboard) -> list[str]:
    """Return the groups of the score, in order; none if there are too many for bands."""
    found = sorted({letter for row in board.rows for letter in row.group})
    return found if len(found) <= MOST_BANDS else []


def _widths(spans: set[int], n_bands: int) -> str:
    """Return the style of heads over several columns of fixed width, and of the room for bands."""
    rule = '#board.large .groups th[colspan="{0}"] {{ width: calc({0} * var(--column)); }}\n'
    return f"#board {{ --bands: {n_bands}; }}\n" + "".join(rule.format(n) for n in sorted(spans))


def _groups(board: Leaderboard) -> list[dict[str, Any]]:
    """Return neighbouring columns of one task kind as groups."""
    found: list[dict[str, Any]] = []
    for column in board.beside_score:
        kind = board.kinds[column.id]
        if not found or found[-1]["kind"] != kind:
            title = known.title if (known := known_kind(kind)) else kind
            found.append({"kind": kind, "title": title, "span": 0, "n": len(found)})
        found[-1]["span"] += 1
    return found


def _head(board: Leaderboard, column_id: str, scale: Scale) -> dict[str, Any]:
    column = next(c for c in board.spec.columns if c.id == column_id)
    direction = better(board.estimates(column_id))
    group = next(n for n, group in _group_of(board) if column_id in group)
    return {
        "id": column_id,
        "label": one_line(column.label, LONGEST_NAME),
        "metric": board.metrics[column_id],
        "task": column.task.name,
        "direction": direction,
        "shows": _told_apart_from(board, column_id),
        "arrow": ARROWS[direction],
        "group": group,
        "axis": scale.ends(),
        "prompts": _prompts(board, column_id),
    }


def _score_head(board: Leaderboard, scale: Scale) -> dict[str, Any]:
    """Return the head of the score; a column that alone ranks the models is the score."""
    alone = next((c.id for c in board.spec.columns if board.spec.rank_by == (c.id,)), None)
    return {
        "label": one_line(board.score_label, LONGEST_NAME),
        "metric": "mean of the ranking columns" if alone is None else board.metrics[alone],
        "axis": scale.ends(),
        "prompts": "" if alone is None else _prompts(board, alone),
    }


def _prompts(board: Leaderboard, column_id: str) -> str:
    clusters = board.sizes[column_id][1]
    return f"{clusters:,} prompts" if clusters else ""


def _dates(board: Leaderboard) -> str:
    """Return the days on which the records were made: one, or the first and the last."""
    days = sorted({cell.facts.date for row in board.rows for cell in row.cells.values()} - {""})
    return " to ".join(dict.fromkeys(days[:1] + days[-1:]))


def _card(board: Leaderboard, row: BoardRow) -> dict[str, str]:
    """Return the facts beside a model's name: size, licence, the day of its newest record, and its link."""
    card = board.spec.models.get(row.model, ModelCard())
    sizes = [cell.facts.parameters for cell in row.cells.values() if cell.facts.parameters]
    size = max(sizes, default=card.parameters)
    date = max((cell.facts.date for cell in row.cells.values()), default="")
    told = [f"{_short(size)} parameters" if size else "", card.license, date]
    return {"text": one_line(" · ".join(filter(None, told)), LONGEST_NAME), "link": card.link}


def _short(count: int) -> str:
    """Return a count of parameters in three digits, such as 135M."""
    for unit, name in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return str(count)


def _best(board: Leaderboard, name: str) -> float | None:
    """Return the best value of a column, or of the score; None where neither direction is better.

    Shortcuts, untrained heads, and numbers that are contaminated or rest on fewer items are not the best.
    """
    rows = [r for r in board.rows if not (r.shortcut or r.untrained)]
    if name == "score":
        found = [r.score for r in rows if r.score and not (r.contaminated or r.partial)]
    else:
        cells = [r.cells[name] for r in rows if name in r.cells]
        found = [c.estimate for c in cells if not c.contaminated and c.answered is None]
    found = [e for e in found if isfinite(e.value)]
    if len(found) < 2 or found[0].higher_is_better is None:
        return None
    values = [e.value for e in found]
    return max(values) if found[0].higher_is_better else min(values)


def _told_apart_from(board: Leaderboard, name: str) -> str:
    """Return the remark of a column head on its tests; empty without tests."""
    return f"; the tests show differences from {board.shows(name)}" if name in board.families else ""


def _group_of(board: Leaderboard) -> list[tuple[int, list[str]]]:
    ids = [c.id for c in board.beside_score]
    found, start = [], 0
    for group in _groups(board):
        found.append((group["n"], ids[start : start + group["span"]]))
        start += group["span"]
    return found


def _row(
    board: Leaderboard, number: int, row: BoardRow, lines: Mapping[str, _Line], links: Links
) -> dict[str, Any]:
    ranks = Scale(0.5, max(len([r for r in board.rows if r.rank is not None]), 1) + 0.5)
    rank = None
    if row.rank is not None and row.rank_range is not None:
        low, high = row.rank_range
        rank = {"value": row.rank, "ranks": row.ranks, "bar": ranks.bar(row.rank, (low, high))}
    return {
        "number": number,
        "model": one_line(row.model, LONGEST_NAME),
        "link": _link(links, row.model, ""),
        "shortcut": row.shortcut,
        "contaminated": row.contaminated,
        "marks": row_notes(board, row),
        "rank": rank,
        "card": _card(board, row),
        "group": row.group,
        "bands": [letter in row.group for letter in _letters(board)] if row.group else [],
        "score": _score(board, row, lines["score"], links),
        "why_no_score": "" if row.score else "a rank needs a value in every ranking column",
        "cells": [
            # Without a report, the number links to the model's part of this page.
            _cell(row, c.id, c.task.name, lines[c.id], _link(links, row.model, c.id) or f"#m{number}")
            for c in board.beside_score
        ],
        "runs": _runs(board, row),
    }


def _score(board: Leaderboard, row: BoardRow, line: "_Line", links: Links) -> dict[str, Any] | None:
    if row.score is None:
        return None
    (*_, alone) = board.spec.rank_by if len(board.spec.rank_by) == 1 else (None,)
    cell = row.cells.get(alone) if alone else None
    rests = "{:,} of {:,} items".format(*cell.answered) if cell and cell.answered else ""
    found = _number(row.score, line, rests)
    if cell is None or alone is None:
        return found
    return {**found, "link": _link(links, row.model, alone), "marked": cell.contaminated}


def _link(links: Links, model: str, column: str) -> str | None:
    link = links.get((model, column))
    return None if link is None else checked_link(link)


def _cell(row: BoardRow, column: str, task: str, line: _Line, link: str | None) -> dict[str, Any]:
    cell = row.cells.get(column)
    if cell is None:
        return {"why": one_line(row.undefined.get(column, f"no record of task {task}"), LONGEST_NAME)}
    rests = "{:,} of {:,} items".format(*cell.answered) if cell.answered else ""
    return {**_number(cell.estimate, line, cell.group, rests), "link": link, "marked": cell.contaminated}


def _number(estimate: Estimate, line: _Line, *beside: str) -> dict[str, Any]:
    """Return a number for the template; `beside` stands after its interval."""
    found = estimate_parts(estimate, line.digits, line.scale)
    return {
        **found,
        "key": f"{estimate.value:.6g}" if isfinite(estimate.value) else None,
        "small": " ".join(filter(None, (found["small"], *beside))),
        "best": estimate.value == line.best,
        "link": None,
        "marked": False,
    }


def _runs(board: Leaderboard, row: BoardRow) -> dict[str, list[str]]:
    """Return command -> records that it made (`task@version/run id`), for a row."""
    found: dict[str, list[str]] = {}
    for column in board.spec.columns:
        if cell := row.cells.get(column.id):
            records = found.setdefault(cell.facts.command, [])
            record = f"{column.task.name}@{column.task.version}/{cell.run_id}"
            if record not in records:  # several columns may rest on one
                records.append(record)
    return found
