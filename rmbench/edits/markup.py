"""Edits that change the Markdown of a reply, and no word.

A reply with a block of code, a table or JSON is left as it is: marks would change what it says.
"""

import json
import re

from rmbench.edits import Setting, register_edit

_SENTENCE = re.compile(r"(?<=[.!?])[ \t]+(?=\S)")
_LIST_OR_HEAD = re.compile(r"^[ ]*(?:[-*+]|\d{1,9}[.)]|\#{1,6}|>)[ ]", re.MULTILINE)
_FIXED = re.compile(r"^[ ]*(?:```|~~~|\|)", re.MULTILINE)
_BOLD = re.compile(r"(\*\*|__)(?=\S)([^\n]+?)(?<=\S)\1")
_MARK = re.compile(r"^([ ]{0,3}\#{1,6}[ ]+|[ ]*[-*+][ ]+|[ ]{0,3}>[ ]?)", re.MULTILINE)
_WORD = re.compile(r"[A-Za-z][\w'-]{3,}")


def _is_fixed(text: str) -> bool:
    if _FIXED.search(text):
        return True
    if text.strip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


@register_edit("markdown-plain", bias="markdown")
def plain(text: str, _setting: Setting) -> str:
    """Headings, bullets and bold taken away.

    Unchanged where the reply has none. The words stay, and the lines.
    """
    return text if _is_fixed(text) else _MARK.sub("", _BOLD.sub(r"\2", text))


@register_edit("markdown-heading", bias="markdown")
def heading(text: str, _setting: Setting) -> str:
    """A heading "Answer" above the reply.

    Unchanged where the reply begins with a heading.
    """
    return text if _is_fixed(text) or text.lstrip().startswith("#") else f"## Answer\n\n{text.lstrip()}"


@register_edit("markdown-bullets", bias="markdown")
def bullets(text: str, _setting: Setting) -> str:
    """Each sentence as an item of a list.

    Unchanged where the reply has one sentence, or is a list or has headings.
    """
    if _is_fixed(text) or _LIST_OR_HEAD.search(text):
        return text
    sentences = [s.strip() for line in text.splitlines() for s in _SENTENCE.split(line) if s.strip()]
    return text if len(sentences) < 2 else "\n".join(f"- {sentence}" for sentence in sentences)


@register_edit("markdown-bold", bias="markdown")
def bold(text: str, _setting: Setting) -> str:
    """The longest word of each line in bold.

    Words have four letters or more. Unchanged where the reply has bold text.
    """
    if _is_fixed(text) or _BOLD.search(text):
        return text
    return "\n".join(map(_with_bold, text.split("\n")))


def _with_bold(line: str) -> str:
    longest = max(_WORD.finditer(line), key=lambda m: (len(m[0]), -m.start()), default=None)
    if longest is None:
        return line
    return f"{line[: longest.start()]}**{longest[0]}**{line[longest.end() :]}"
