"""Conversations in the forms that people write them: text, messages, transcripts, content in parts.

Roles are what the data says. Text is taken as it stands; nothing is stripped but a transcript's turns.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rmbench.tasks import fields
from rmbench.tasks.messages import turn_of
from rmbench.tasks.rows import Row
from rmbench.types import Turn

Turns = tuple[Turn, ...]

_ROLES = {
    "human": "user", "prompter": "user", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "ai": "assistant", "model": "assistant", "chosen": "assistant", "rejected": "assistant",
    "observation": "tool", "function": "tool",
}  # fmt: skip
_SPEAKER = re.compile(r"\n\n(Human|Assistant):")
_OF_SPEAKER = {"Human": "user", "Assistant": "assistant"}
_CALLS = ("role", "tool_calls")
"""Keys of a message without a text."""
_KEYS = (("role", "content"), ("from", "value"), ("role", "value"), ("role", "text"))


def is_transcript(value: Any) -> bool:
    """Say whether a value is a whole conversation as text: `\\n\\nHuman: ...\\n\\nAssistant: ...`."""
    return isinstance(value, str) and bool(_SPEAKER.match("\n\n" + value.lstrip("\n")))


def is_messages(value: Any) -> bool:
    """Say whether a value is a message, or a list of them."""
    first = value[0] if isinstance(value, Sequence) and not isinstance(value, str) and value else value
    return isinstance(first, Mapping) and any({a, b} <= set(first) for a, b in (*_KEYS, _CALLS))


def turns_of(row: Row, key: str, value: Any) -> Turns:
    """Return the turns of messages or of a transcript; other text is one turn of the user's.

    Raises:
        DataError: If it is none of these, or a message has no known role or no text.
    """
    if is_transcript(value):
        return _of_transcript(value)
    if isinstance(value, str):
        return (Turn(role="user", content=fields.text(row, key, value)),)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list) or not value:
        raise row.error(
            f"{fields.kind_of(value)}; expected text or a list of messages", key, "no conversation"
        )
    return tuple(_turn(row, f"{key}[{n}]", message) for n, message in enumerate(value))


def reply_of(row: Row, key: str, value: Any) -> tuple[Turns, Turn]:
    """Return the turns before a reply, where the value holds them, and the reply, whose text may be empty.

    Raises:
        DataError: If it is no text and no conversation that ends with the assistant.
    """
    if isinstance(value, str) and not is_transcript(value):
        return (), Turn(role="assistant", content=value)
    if value is None:
        raise row.error("null; expected a reply", key, "reply is missing")
    turns = turns_of(row, key, value)
    if turns[-1]["role"] != "assistant":
        raise row.error(
            f"ends with a turn of the {turns[-1]['role']}; expected the assistant's",
            key,
            "no reply at the end",
        )
    return turns[:-1], turns[-1]


def _of_transcript(text: str) -> Turns:
    text = "\n\n" + text.lstrip("\n")
    marks = list(_SPEAKER.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return tuple(
        Turn(role=_OF_SPEAKER[mark[1]], content=text[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    )


def _turn(row: Row, where: str, message: Any) -> Turn:
    keys = None
    if isinstance(message, Mapping):
        keys = next((pair for pair in _KEYS if set(pair) <= set(message)), None)
        if keys is None and set(_CALLS) <= set(message):
            keys = _KEYS[0]
    if keys is None:
        raise row.error('expected {"role": ..., "content": ...}', where, "no conversation")
    said = str(message[keys[0]]).strip().lower()
    role = _ROLES.get(said, said)
    if role not in fields.ROLES:
        raise row.error(
            f"{message[keys[0]]!r}; expected one of {', '.join(fields.ROLES)}",
            f"{where}.{keys[0]}",
            "unknown role",
        )
    return turn_of(row, where, role, message, keys[1])
