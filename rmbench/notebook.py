"""Tables for notebooks: plain HTML that takes the notebook's own colours. All text in it is escaped."""

from collections.abc import Iterable, Sequence
from html import escape

from rmbench.escape import one_line


def html_table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    about: Iterable[str] = (),
    notes: Iterable[str] = (),
) -> str:
    """Return a table with lines above and below it; the texts may come from anybody."""
    head = "".join(f"<th>{_text(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    above = "".join(f"<div><b>{_text(line)}</b></div>" for line in about)
    below = "".join(f"<div><small>{_text(line)}</small></div>" for line in notes)
    return f"{above}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def _text(value: str) -> str:
    return escape(one_line(value))
