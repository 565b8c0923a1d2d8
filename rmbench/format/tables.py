"""Tables in Markdown, CSV, LaTeX (package booktabs) and HTML for notebooks; for terminals see `terminal`.

Texts of a table are untrusted: each format escapes them by its own rule. The numbers of one column have one
number of digits (`rmbench.core.digits`); CSV is for programs and has six digits of each number.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any, Literal, TypeAlias

from rmbench.core.digits import Digits, Interval, digits_of, is_count, probability
from rmbench.core.escape import for_csv, for_latex, for_markdown, one_line
from rmbench.core.files import digest, slug
from rmbench.types import Estimate

LONGEST = 2000
"""Characters of a line or a note around a table."""
Form: TypeAlias = Literal["number", "signed", "percent", "probability"]
"""How a number is written for people: with the digits of its column, the same with a sign (a difference), in
percent with two decimals, as a p-value."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number as a table shows it."""

    value: float
    ci95: Interval | None = None
    """Its 95% interval; in CSV two more columns."""
    form: Form = "number"
    strong: bool = False
    """Bold in Markdown and LaTeX; a note of the table says what bold means."""
    mark: str = ""
    """Stands after the number, such as a star; not in CSV."""
    spread: float | None = None
    """A standard deviation, shown after a plus-minus sign; not in CSV."""
    remark: str = ""
    """Stands after the number in brackets; not in CSV."""
    counts: bool = False
    """Whether it counts something, so that 1 is not a fraction."""

    def written(self, value: float, digits: Digits) -> str:
        """Return a value of this cell, or an end of its interval, with the digits of its column."""
        if self.form == "probability":
            return probability(value)
        return digits.write(value, plus=self.form == "signed")

    def told(self, digits: Digits) -> str:
        """Return the number as people read it, without mark and remark."""
        text = self.written(self.value, digits)
        if self.spread is not None:
            text += f" ± {digits.write(self.spread)}"
        return f"{text} {digits.interval(self.ci95, plus=self.form == 'signed')}" if self.ci95 else text

    def lines(self, digits: Digits) -> tuple[str, ...]:
        """Return the number with its mark, its interval, and its remark: each is a line."""
        alone = replace(self, ci95=None)
        interval = digits.interval(self.ci95, plus=self.form == "signed") if self.ci95 else ""
        remark = f"({self.remark})" if self.remark else ""
        return (alone.told(digits) + self.mark, *filter(None, (interval, remark)))

    def after(self) -> str:
        """Return the mark, and the remark in brackets."""
        return self.mark + (f" ({self.remark})" if self.remark else "")


@dataclass(frozen=True, slots=True)
class Text:
    """A text with a remark in brackets; slanted in Markdown."""

    value: str
    remark: str

    def __str__(self) -> str:
        """Return the text with its remark."""
        return f"{self.value} ({self.remark})"


Cell: TypeAlias = str | int | Number | Text | None
"""A text, a count or a number. None is shown as a dash, and is empty in CSV."""


def cell_of(
    estimate: Estimate | None,
    form: Form = "number",
    *,
    strong: bool = False,
    mark: str = "",
    remark: str = "",
) -> Cell:
    """Return an estimate as a cell."""
    if estimate is None:
        return None
    counts = is_count(estimate)
    return Number(estimate.value, estimate.ci95, form, strong, mark, remark=remark, counts=counts)


def number(value: float | None, form: Form = "number") -> Cell:
    """Return a number without an interval as a cell."""
    return None if value is None else Number(value, form=form)


def value_low_high(found: Estimate | Number | None) -> list[float | None]:
    """Return a number and the ends of its 95% interval: three cells of CSV."""
    return [None] * 3 if found is None else [found.value, *(found.ci95 or (None, None))]


def no_value(missing: Iterable[tuple[str, Mapping[str, str]]]) -> list[str]:
    """Return one line per reason: which numbers have no value, for which models, and why.

    Models are not named where the line is about all of them.

    Args:
        missing: (model, number -> why it has no value) of every model, with or without missing numbers.
    """
    of: dict[tuple[str, str], list[str]] = {}
    models = 0
    for model, reasons in missing:
        models += 1
        for name, why in reasons.items():
            of.setdefault((name, why), []).append(model)
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (name, why), lacking in of.items():
        found.setdefault((why, tuple(lacking)), []).append(name)
    return [
        one_line(
            f"no {', '.join(names)}{'' if len(lacking) == models else ' for ' + ', '.join(lacking)}: {why}"
        )
        for (why, lacking), names in found.items()
    ]


@dataclass(frozen=True, slots=True)
class Column:
    """One column; its head is untrusted like the cells' texts."""

    head: str
    kind: Literal["text", "count", "number", "estimate"] = "estimate"
    """An estimate is three columns of CSV: `head`, `head_low`, `head_high`."""
    limit: int | None = None
    """Most characters of its texts; CSV has them whole."""
    drop: int = 0
    """Where a terminal is too narrow, columns of a higher one are left out first, then the last ones."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; each row has a cell per column."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    turns: bool = False
    """Whether a narrow terminal may show each row as a column."""

    def __post_init__(self) -> None:
        """Raise ValueError on a row of another length."""
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"expected {len(self.columns)} cells in each row")

    def digits(self) -> list[Digits]:
        """Return how the numbers of each column are written."""
        return [_digits([row[k] for row in self.rows]) for k in range(len(self.columns))]


def _digits(cells: Iterable[Cell]) -> Digits:
    numbers = [c for c in cells if isinstance(c, Number) and c.form != "probability"]
    if any(c.form == "percent" for c in numbers):
        return Digits(2)
    intervals = [c.ci95 for c in numbers if c.ci95]
    # A standard deviation has to be seen, as the width of an interval has.
    intervals += [(-c.spread, c.spread) for c in numbers if c.spread is not None]
    return digits_of((c.value for c in numbers), intervals, counts=all(c.counts for c in numbers))


@dataclass(frozen=True, slots=True)
class Block:
    """A table with the lines above it and the notes below it."""

    name: str
    """The label in LaTeX is `tab:<name>`."""
    lines: tuple[str, ...]
    table: Table | None
    notes: tuple[str, ...] = ()
    joined: bool = False
    """Whether it belongs to the block before: a terminal shows no empty line between them."""
    caption: tuple[str, ...] = ()
    """Caption in LaTeX, where the table stands by itself; if empty, the lines are the caption."""


def plain_rows(table: Table) -> list[list[str]]:
    """Return the heads, and each row, as text that is safe to show in one line."""
    heads, digits = [one_line(c.head, c.limit or 40) for c in table.columns], table.digits()
    return [heads, *([_plain(*cell) for cell in cells_of(table, row, digits)] for row in table.rows)]


def cells_of(
    table: Table, row: Sequence[Cell], digits: Sequence[Digits]
) -> Iterable[tuple[Cell, Column, Digits]]:
    """Return each cell of a row with its column and how that one's numbers are written."""
    return zip(row, table.columns, digits, strict=True)


def _plain(value: Cell, column: Column, digits: Digits) -> str:
    if isinstance(value, Number):
        return value.told(digits) + value.after()
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else one_line(str(value), column.limit)


def as_markdown(blocks: Sequence[Block]) -> str:
    """Return blocks as Markdown, notes as lists."""
    parts: list[str] = []
    for block in blocks:
        for line in block.lines:
            parts += [for_markdown(line, LONGEST), ""]
        if block.table is not None:
            parts += [*markdown_table(block.table), ""]
        if block.notes:
            parts += [*(f"- {for_markdown(note, LONGEST)}" for note in block.notes), ""]
    return "\n".join(parts).rstrip("\n")


def markdown_table(table: Table) -> list[str]:
    """Return the lines of a table."""
    heads = [for_markdown(c.head, c.limit or 200) for c in table.columns]
    rules = [":---" if c.kind == "text" else "---:" for c in table.columns]
    lines = ["|" + "".join(f" {head} |" if head else " |" for head in heads), "|" + "|".join(rules) + "|"]
    digits = table.digits()
    for row in table.rows:
        cells = [_markdown(*cell) for cell in cells_of(table, row, digits)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _markdown(value: Cell, column: Column, digits: Digits) -> str:
    if value is None:
        return "–"
    if isinstance(value, Text):
        return f"*{for_markdown(value.value, column.limit or 200)}* ({for_markdown(value.remark)})"
    if not isinstance(value, Number):
        return for_markdown(_plain(value, column, digits), column.limit or 200)
    told = value.told(digits).replace("<", "&lt;") + for_markdown(value.mark)
    remark = f" ({for_markdown(value.remark)})" if value.remark else ""
    return (f"**{told}**" if value.strong else told) + remark


def as_csv(table: Table) -> str:
    """Return a table as CSV: numbers with six digits, intervals in columns of their own."""
    heads: list[str] = []
    for column in table.columns:
        ends = ("", "_low", "_high") if column.kind == "estimate" else ("",)
        heads += [f"{column.head}{end}" for end in ends]
    rows = []
    for row in table.rows:
        cells: list[Any] = []
        for value, column in zip(row, table.columns, strict=True):
            found = value_low_high(value) if isinstance(value, Number) else [value, None, None]
            cells += found if column.kind == "estimate" else found[:1]
        rows.append(cells)
    return csv_text(heads, rows)


def csv_text(heads: Sequence[str], rows: Iterable[Sequence[Any]], digits: str = ".6g") -> str:
    """Return CSV: floats with `digits`, None as an empty cell, no text that is a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([for_csv(head) for head in heads])
    writer.writerows([[_csv_cell(value, digits) for value in row] for row in rows])
    return buffer.getvalue()


def _csv_cell(value: Any, digits: str) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        text = f"{value:{digits}}"
        return text.removeprefix("-") if value == value and float(text) == 0.0 else text
    return for_csv(str(value)) if isinstance(value, str | Text) else str(value)


def as_html(blocks: Sequence[Block]) -> str:
    """Return blocks as plain HTML for a notebook, whose colours they take."""
    parts: list[str] = []
    for block in blocks:
        parts += [f"<div><b>{_html(line)}</b></div>" for line in block.lines]
        if block.table is not None:
            heads, *rows = plain_rows(block.table)
            head = "".join(f"<th>{_html(name)}</th>" for name in heads)
            body = "".join(f"<tr>{''.join(f'<td>{_html(cell)}</td>' for cell in row)}</tr>" for row in rows)
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        parts += [f"<div><small>{_html(note)}</small></div>" for note in block.notes]
    return "".join(parts)


def _html(text: str) -> str:
    return escape(one_line(text))


def as_latex(blocks: Sequence[Block]) -> str:
    """Return each block as a LaTeX `table` (package booktabs) with caption and label."""
    parts: list[str] = []
    taken: set[str] = set()
    for block in blocks:
        caption = " ".join(_sentence(line) for line in block.caption or block.lines)
        notes = [_sentence(note) for note in block.notes]
        if block.table is None:
            parts += ["", " ".join([caption, *notes])]
            continue
        if any(isinstance(v, Number) and v.ci95 for row in block.table.rows for v in row):
            caption += " Sub- and superscripts: the ends of the 95\\% interval."
        parts += ["", "\\begin{table}", "\\centering", f"\\caption{{{caption.strip()}}}"]
        label = slug(re.sub(r"[^A-Za-z0-9.]+", "-", block.name)).replace("_", "-")
        if label in taken:  # two names that differ only in letters that a label cannot have
            label += f"-{digest(block.name, 8)}"
        taken.add(label)
        parts += [f"\\label{{tab:{label}}}", *_tabular(block.table)]
        if notes:
            parts += ["", "\\smallskip", f"{{\\footnotesize {' '.join(notes)}}}"]
        parts += ["\\end{table}"]
    needs = "% \\usepackage{booktabs}"
    # The fonts of pdfTeX have Latin up to Extended-A, and general punctuation.
    if any(ord(c) > 0x17F and not 0x2010 <= ord(c) <= 0x2026 for part in parts for c in part):
        needs += "; some characters need XeLaTeX or LuaLaTeX and a font that has them"
    return "\n".join([needs, *parts])


def _sentence(text: str) -> str:
    safe = for_latex(text, LONGEST)
    return safe if not safe or safe.endswith((".", "?", "!")) else f"{safe.removesuffix(':')}."


def _tabular(table: Table) -> list[str]:
    layout = "".join("l" if c.kind == "text" else "r" for c in table.columns)
    lines = [f"\\begin{{tabular}}{{{layout}}}", "\\toprule"]
    lines += [_latex_row([for_latex(c.head, c.limit or 80) for c in table.columns]), "\\midrule"]
    digits = table.digits()
    for row in table.rows:
        lines.append(_latex_row([_latex(*cell) for cell in cells_of(table, row, digits)]))
    return [*lines, "\\bottomrule", "\\end{tabular}"]


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _latex(value: Cell, column: Column, digits: Digits) -> str:
    if value is None:
        return "--"
    if not isinstance(value, Number):
        return f"{value:,}" if isinstance(value, int) else for_latex(str(value), column.limit or 80)
    middle = _mathematics(value.written(value.value, digits))
    middle = f"\\mathbf{{{middle}}}" if value.strong else middle
    if value.spread is not None:
        middle += f" \\pm {_mathematics(digits.write(value.spread))}"
    if value.ci95:
        low, high = (_mathematics(value.written(end, digits)) for end in value.ci95)
        # A power of ten has a superscript of its own: braces close it first.
        middle = f"{f'{{{middle}}}' if '^' in middle else middle}_{{{low}}}^{{{high}}}"
    return f"${middle}$" + for_latex(value.after())


def _mathematics(text: str) -> str:
    """Return a written number (digits, signs, NaN, ∞, %) for LaTeX mathematics."""
    text = re.sub(r"e([+-]?)0*(\d+)$", lambda m: f" \\times 10^{{{m[1].replace('+', '')}{m[2]}}}", text)
    return text.replace("NaN", "\\mathrm{NaN}").replace("∞", "\\infty").replace("%", "\\%")
