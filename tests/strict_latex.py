"""A strict reader of the LaTeX that rmbench writes: a small part of the language, and nothing beyond it."""

import re
from dataclasses import dataclass, field

_TEXT = {
    r"\textbackslash": "\\", r"\textasciicircum": "^", r"\textasciitilde": "~", r"\textless": "<",
    r"\textgreater": ">", r"\textbar": "|", r"\char34": '"', **{f"\\{c}": c for c in "{}$&#_%"},
}  # fmt: skip
"""Commands for one character each; the words among them must be ended by `{}`."""
_MATHEMATICS = {r"\mathbf", r"\mathrm", r"\pm", r"\times", r"\infty"}
_TOKEN = re.compile(r"\\char34|\\[A-Za-z]+|\\.|.", re.DOTALL)


class NotStrictError(Exception):
    """The text is no LaTeX that we write."""


@dataclass
class ReadTable:
    """One `table` environment, its texts as a reader sees them."""

    caption: str = ""
    label: str = ""
    layout: str = ""
    rows: list[list[str]] = field(default_factory=list)
    """Heads first."""
    notes: str = ""


def read_latex(text: str) -> list[ReadTable]:
    """Return the tables of `text`.

    Raises:
        NotStrictError: On anything that LaTeX would take for a command, a comment, an argument or an error.
    """
    if any(ord(c) < 32 and c != "\n" for c in text):
        raise NotStrictError("a control character")
    first, *lines = text.rstrip("\n").split("\n")
    if not first.startswith(r"% \usepackage{booktabs}"):
        raise NotStrictError(f"first line: {first!r}")
    tables: list[ReadTable] = []
    place = "outside"
    for line in lines:
        place = _line(line, place, tables)
    if place != "outside":
        raise NotStrictError(f"ends {place}")
    labels = [t.label for t in tables]
    if len(set(labels)) < len(labels):
        raise NotStrictError("two tables have one label")
    return tables


def _line(line: str, place: str, tables: list[ReadTable]) -> str:
    moves = {
        ("outside", r"\begin{table}"): "before",
        ("before", r"\centering"): "before",
        ("head", r"\midrule"): "body",
        ("body", r"\bottomrule"): "closing",
        ("closing", r"\end{tabular}"): "after",
        ("after", r"\smallskip"): "notes",
        ("after", ""): "after",
        ("after", r"\end{table}"): "outside",
        ("end", r"\end{table}"): "outside",
    }
    if (place, line) in moves:
        if line == r"\begin{table}":
            tables.append(ReadTable())
        return moves[place, line]
    if place == "outside":
        visible(line)
        return place
    table = tables[-1]
    if place == "before" and (found := re.fullmatch(r"\\caption\{(.*)\}", line)):
        table.caption = visible(found[1])
        return place
    if place == "before" and (found := re.fullmatch(r"\\label\{tab:([A-Za-z0-9.-]+)\}", line)):
        table.label = found[1]
        return place
    if place == "before" and (found := re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", line)):
        table.layout = found[1]
        return "toprule"
    if place == "toprule" and line == r"\toprule":
        return "head"
    if place in ("head", "body") and line.endswith(r" \\"):
        cells = _cells(line.removesuffix(r" \\"))
        if len(cells) != len(table.layout):
            raise NotStrictError(f"{len(cells)} cells for {len(table.layout)} columns: {line!r}")
        if line.lstrip().startswith(("[", "*")):
            raise NotStrictError(f"an argument of the line break before: {line!r}")
        table.rows.append(cells)
        return place
    if place == "notes" and (found := re.fullmatch(r"\{\\footnotesize (.*)\}", line)):
        table.notes = visible(found[1])
        return "end"
    raise NotStrictError(f"{place}: {line!r}")


def _cells(line: str) -> list[str]:
    """Return the cells of a row: parts between ampersands that no backslash stands before."""
    found, start, tokens = [], 0, list(_TOKEN.finditer(line))
    for token in tokens:
        if token[0] == "&":
            found.append(line[start : token.start()])
            start = token.end()
    return [visible(cell.strip(" ")) for cell in (*found, line[start:])]


def visible(text: str) -> str:
    """Return what a reader of the page sees; mathematics in dollars as it is written."""
    parts: list[str] = []
    depth, before = 0, ""
    left = [t[0] for t in _TOKEN.finditer(text)]
    while left:
        one = left.pop(0)
        if one == "$":
            if "$" not in left:
                raise NotStrictError(f"mathematics without end: {text!r}")
            end = left.index("$")
            parts.append("$" + _mathematics(left[:end]) + "$")
            del left[: end + 1]
        elif one in _TEXT:
            parts.append(_TEXT[one])
            if one[1].isalpha():
                if left[:2] != ["{", "}"]:
                    raise NotStrictError(f"{one} swallows what follows: {text!r}")
                del left[:2]
        elif one in "{}":
            depth += 1 if one == "{" else -1
            if depth < 0:
                raise NotStrictError(f"a brace too many: {text!r}")
        else:
            _check_plain(one, before, text)
            parts.append(one)
        before = one
    if depth:
        raise NotStrictError(f"a brace without end: {text!r}")
    return "".join(parts)


def _check_plain(one: str, before: str, text: str) -> None:
    if one in "~#%&_^\n" or one.startswith("\\"):
        raise NotStrictError(f"{one!r} in {text!r}")
    if one in "[]*" and before != "{":
        raise NotStrictError(f"{one!r} without braces in {text!r}")
    if one in "-'`," and before == one and text != "--":
        raise NotStrictError(f"a ligature in {text!r}")


def _mathematics(tokens: list[str]) -> str:
    depth = 0
    for token in tokens:
        depth += {"{": 1, "}": -1}.get(token, 0)
        if depth < 0:
            raise NotStrictError("a brace too many in mathematics")
        if token.startswith("\\") and token not in _MATHEMATICS | {r"\%"}:
            raise NotStrictError(f"{token} in mathematics")
        if not token.startswith("\\") and not re.fullmatch(r"[-+0-9.<>_^{} NaeN%]", token):
            raise NotStrictError(f"{token!r} in mathematics")
    if depth:
        raise NotStrictError("a brace without end in mathematics")
    return "".join(tokens)
