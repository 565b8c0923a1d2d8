"""Tables for papers: LaTeX with the package booktabs. Texts are escaped by its rules."""

import re
from collections.abc import Sequence

from rmbench.canon import digest, slug
from rmbench.digits import Digits
from rmbench.escape import for_latex
from rmbench.tabular import LONGEST, Block, Cell, Column, Number, Table, cells_of


def as_latex(blocks: Sequence[Block]) -> str:
    """Return blocks as LaTeX: a `table` of the package booktabs each, with caption and label."""
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
        if label in taken:  # names that differ in other letters alone
            label += f"-{digest(block.name, 8)}"
        taken.add(label)
        parts += [f"\\label{{tab:{label}}}", *_tabular(block.table)]
        if notes:
            parts += ["", "\\smallskip", f"{{\\footnotesize {' '.join(notes)}}}"]
        parts += ["\\end{table}"]
    needs = "% \\usepackage{booktabs}"
    # What pdfTeX's fonts have of themselves: up to Latin Extended-A, and general punctuation.
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
        return for_latex(value, column.limit or 80) if isinstance(value, str) else f"{value:,}"
    middle = _mathematics(value.written(value.value, digits))
    middle = f"\\mathbf{{{middle}}}" if value.strong else middle
    if value.spread is not None:
        middle += f" \\pm {_mathematics(digits.write(value.spread))}"
    if value.ci95:
        low, high = (_mathematics(value.written(end, digits)) for end in value.ci95)
        # A power of ten has a superscript of its own: it is closed first.
        middle = f"{f'{{{middle}}}' if '^' in middle else middle}_{{{low}}}^{{{high}}}"
    return f"${middle}$" + for_latex(value.after())


def _mathematics(text: str) -> str:
    """Return a written number for mathematics: it has digits, signs, and these words."""
    text = re.sub(r"e([+-]?)0*(\d+)$", lambda m: f" \\times 10^{{{m[1].replace('+', '')}{m[2]}}}", text)
    return text.replace("NaN", "\\mathrm{NaN}").replace("∞", "\\infty").replace("%", "\\%")
