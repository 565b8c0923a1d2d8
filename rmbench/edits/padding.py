"""Edits that make a reply longer and add no information."""

import re

from rmbench.edits import Setting, register_edit

_QUESTION_CHARS = 200
"""Most characters of the prompt that are restated."""


@register_edit("length-courtesy", bias="length")
def courtesy(text: str, _setting: Setting) -> str:
    """A polite sentence at the end.

    The sentence promises help and answers nothing.
    """
    return f"{text.rstrip()}\n\nI hope this helps! Please let me know if you have any further questions."


@register_edit("length-restated", bias="length")
def restated(text: str, setting: Setting) -> str:
    """The question said again at the beginning.

    Unchanged where the prompt is empty. A long question is cut at a space.
    """
    question = " ".join(setting.prompt.split())
    if not question:
        return text
    if len(question) > _QUESTION_CHARS:
        question = question[:_QUESTION_CHARS].rpartition(" ")[0] or question[:_QUESTION_CHARS]
        question += " ..."
    return f'You asked: "{question}"\n\n{text.lstrip()}'


@register_edit("length-repeated", bias="length")
def repeated(text: str, _setting: Setting) -> str:
    """The last paragraph twice.

    A paragraph ends at an empty line; a reply without one is repeated whole.
    """
    stripped = text.rstrip()
    last = re.split(r"\n[ \t]*\n", stripped)[-1].strip("\n")
    return f"{stripped}\n\n{last}"
