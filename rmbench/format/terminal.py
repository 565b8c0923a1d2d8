"""Tables for a terminal: as wide as they are, or fitted to a width.

A table that is too wide is changed step by step until it fits: heads break, intervals go to a second line,
texts break, models become columns, and at last columns are left out, which a note names.
"""

import os
import re
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rmbench.core.escape import one_line
from rmbench.format.tables import Block, Number, Table, cells_of, plain_rows

_GAP = 2
"""Spaces between columns."""
_NARROWEST_TEXT = 16
"""Characters below which a column of texts is not narrowed."""
_LEAST_WIDTH = 20
"""Characters of a terminal below which tables are made for this width."""
_ALL = "--wide shows all columns"


def terminal_width() -> int | None:
    """Return the columns of the terminal: `COLUMNS`, else those of stdout; None if stdout is no terminal."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdigit() and int(asked) > 0:
        return int(asked)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):  # a file, a pipe, or what replaces stdout in a test
        return None


def as_text(blocks: Sequence[Block], width: int | None = None) -> str:
    """Return blocks for a terminal.

    Args:
        blocks: What to show.
        width: Characters of a line; None: tables are as wide as they are, and lines do not break.
    """
    width = None if width is None else max(width, _LEAST_WIDTH)
    parts: list[str] = []
    for block in blocks:
        if parts and not block.joined:
            parts.append("")
        parts += [broken for line in block.lines for broken in _filled(line, width, "")]
        notes = list(block.notes)
        if block.table is not None:
            drawn, left_out = _fitted(block.table, width)
            parts.append(drawn)
            if left_out:
                notes.insert(0, f"not shown: {', '.join(left_out)}; {_ALL}")
        parts += [broken for note in notes for broken in _filled(note, width, "  ")]
    return "\n".join(parts)


def _filled(line: str, width: int | None, indent: str) -> list[str]:
    """Return a line, broken where it is wider than `width`; what follows the first is indented further."""
    safe = one_line(line)
    if width is None or _columns(indent + safe) <= width:
        return [indent + safe]
    after = f"{indent}  "
    return textwrap.wrap(
        safe, width, initial_indent=indent, subsequent_indent=after, break_on_hyphens=False
    ) or [indent]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """One column as texts; a cell is its lines."""

    head: str
    cells: tuple[tuple[str, ...], ...]
    is_text: bool
    drop: int
    """Columns of a higher one are left out first."""

    @property
    def natural(self) -> int:
        """Width of its widest line."""
        return max((_columns(line) for cell in self.cells for line in cell), default=0)

    @property
    def least(self) -> int:
        """Width below which it is not narrowed; its head breaks anywhere if it must."""
        body = min(self.natural, _NARROWEST_TEXT) if self.is_text else self.natural
        return max(body, min(_longest_piece(self.head), _NARROWEST_TEXT))

    def at(self, width: int) -> tuple[list[str], list[list[str]]]:
        """Return the lines of its head and of each cell at a width."""
        return _broken(self.head, width), [
            [part for line in cell for part in _broken(line, width)] for cell in self.cells
        ]


def _fitted(table: Table, width: int | None) -> tuple[str, list[str]]:
    """Return a table as text, and the heads of columns that are left out."""
    heads, *rows = plain_rows(table)
    whole = _lines_of(
        [([head], [[row[k]] for row in rows]) for k, head in enumerate(heads)],
        [max(_columns(head) + _GAP, *(_columns(row[k]) for row in rows), 0) for k, head in enumerate(heads)],
    )
    if width is None or all(_columns(line) <= width for line in whole):
        return "\n".join(whole), []
    columns = _columns_of(table)
    turned = _turned(columns) if table.turns and table.rows else columns
    for shown in (_flat(columns), columns, _flat(turned), turned):
        if _need(shown) <= width:
            return _laid_out(shown, width), []
    shown, left_out = columns.copy(), set[int]()
    while _need(shown) > width and len(shown) > 2:
        out = max(range(1, len(shown)), key=lambda k: (shown[k].drop, k))
        left_out.add(columns.index(shown.pop(out)))
    return _laid_out(shown, width), [columns[k].head for k in sorted(left_out)]


def _columns_of(table: Table) -> list[_Drawn]:
    """Return the columns of a table, intervals on a second line."""
    heads, *rows = plain_rows(table)
    digits = table.digits()
    cells = [list(cells_of(table, row, digits)) for row in table.rows]
    return [
        _Drawn(
            heads[k],
            tuple(
                found.lines(written) if isinstance(found, Number) else (plain[k],)
                for plain, row in zip(rows, cells, strict=True)
                for found, _, written in [row[k]]
            ),
            column.kind == "text",
            column.drop,
        )
        for k, column in enumerate(table.columns)
    ]


def _flat(columns: Sequence[_Drawn]) -> list[_Drawn]:
    """Return columns with each cell in one line."""
    return [replace(c, cells=tuple((" ".join(cell),) for cell in c.cells)) for c in columns]


def _turned(columns: Sequence[_Drawn]) -> list[_Drawn]:
    """Return rows as columns: the first column becomes the heads."""
    first, *others = columns
    names = tuple((c.head,) for c in others)
    return [
        _Drawn("", names, True, 0),
        *(
            _Drawn(" ".join(cell), tuple(c.cells[n] for c in others), False, 0)
            for n, cell in enumerate(first.cells)
        ),
    ]


def _need(columns: Sequence[_Drawn]) -> int:
    return sum(c.least for c in columns) + _GAP * (len(columns) - 1)


def _laid_out(columns: Sequence[_Drawn], width: int) -> str:
    """Return columns as text, what is left of the width given to texts, the narrowest first."""
    widths = [c.least for c in columns]
    room = max(width - _need(columns), 0)
    hungry = sorted(range(len(columns)), key=lambda k: columns[k].natural - widths[k])
    for place, k in enumerate(hungry):
        more = min(max(columns[k].natural - widths[k], 0), room // (len(hungry) - place))
        widths[k] += more
        room -= more
    return "\n".join(_lines_of([c.at(w) for c, w in zip(columns, widths, strict=True)], widths))


def _lines_of(columns: Sequence[tuple[list[str], list[list[str]]]], widths: Sequence[int]) -> list[str]:
    """Return the lines of a table of (head, cells), each a list of lines."""
    lines = _row([head for head, _ in columns], widths)
    lines.append((" " * _GAP).join("-" * width for width in widths))
    for cells in zip(*(cells for _, cells in columns), strict=True):
        lines += _row(cells, widths)
    return lines


def _row(cells: Iterable[list[str]], widths: Sequence[int]) -> list[str]:
    shown = list(cells)
    height = max(map(len, shown), default=0)
    padded = [[*cell, *[""] * (height - len(cell))] for cell in shown]
    return [
        (" " * _GAP)
        .join(cell[n] + " " * (width - _columns(cell[n])) for cell, width in zip(padded, widths, strict=True))
        .rstrip()
        for n in range(height)
    ]


_PIECE = re.compile(r".+?(?:[ _/@:-]+|$)")


def _longest_piece(text: str) -> int:
    return max((_columns(piece.rstrip(" ")) for piece in _PIECE.findall(text)), default=0)


def _broken(text: str, width: int) -> list[str]:
    """Return a text in lines of at most `width`: broken after spaces and `_ / @ : -`, else anywhere."""
    lines, line = list[str](), ""
    for piece in _PIECE.findall(text):
        if _columns((line + piece).rstrip(" ")) <= width:
            line += piece
            continue
        if line:
            lines.append(line.rstrip(" "))
        while _columns(piece.rstrip(" ")) > width:
            cut = _cut(piece, width)
            lines.append(piece[:cut])
            piece = piece[cut:]
        line = piece
    return [*lines, line.rstrip(" ")] if line or not lines else lines


def _cut(text: str, width: int) -> int:
    """Return how many characters of a text fit into `width`; at least one."""
    n = 1
    while n < len(text) and _columns(text[: n + 1]) <= width:
        n += 1
    return n


def _columns(text: str) -> int:
    """Return the places that a text takes: two for a wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )
