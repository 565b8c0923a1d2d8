"""Text from models and data is untrusted wherever it is shown: each output has its own escape."""

import re
import unicodedata

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#|~!$&])")
_LATEX = {
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\char34{}", "[": "{[}", "]": "{]}", "*": "{*}",
    **{character: f"\\{character}" for character in "{}$&#_%"},
}  # fmt: skip
"""Brackets and stars, too: at the start of a row they would be arguments of the line break before it."""
_LIGATURE = re.compile(r"([-'`,!?])(?=[-'`,])")


def one_line(text: str, limit: int | None = None) -> str:
    """Return `text` for a terminal: one line, control and direction-changing characters made visible.

    Args:
        text: Anything.
        limit: Most characters; the rest becomes an ellipsis.
    """
    safe = "".join(_visible(c) for c in text)
    return safe if limit is None or len(safe) <= limit else safe[: limit - 1] + "…"


def many_lines(text: str) -> str:
    """Return `text` as `one_line` does, with its line breaks kept."""
    return "\n".join(one_line(line) for line in text.replace("\r\n", "\n").split("\n"))


def for_markdown(text: str, limit: int = 200) -> str:
    """Return `text` for a cell of a Markdown table: no markup, no HTML, no cell border."""
    return _MARKDOWN.sub(r"\\\1", one_line(text, limit)).replace("\\<", "&lt;").replace("\\>", "&gt;")


def for_csv(text: str) -> str:
    """Return `text` for a CSV cell that no spreadsheet takes for a formula (the csv module does quoting)."""
    safe = one_line(text)
    return f"'{safe}" if safe.startswith(_FORMULA_STARTS) else safe


def for_latex(text: str, limit: int | None = 80) -> str:
    """Return `text` for LaTeX outside of mathematics: no command, no comment, no ligature, one line."""
    return "".join(_LATEX.get(c, c) for c in _LIGATURE.sub("\\1\0", one_line(text, limit))).replace(
        "\0", "{}"
    )


def _visible(character: str) -> str:
    if character in "\n\r\t":
        return " "
    # Cc, Cf: control and format (escape sequences, right-to-left marks); Cs: half a character; Zl, Zp: lines.
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return f"\\u{ord(character):04x}"
    if ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF:
        return f"\\u{ord(character):04x}"  # no character at all: XML refuses some of them
    return character
