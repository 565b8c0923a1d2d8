"""Messages that hold more than a role and a text: calls of tools, a name, reasoning; and who can read them.

A conversation's tools stand at its first turn (`tools`), so that a conversation stays a list of turns.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

from rmbench.errors import UnwritableError
from rmbench.types import Turn

Write: TypeAlias = Callable[[Sequence[Turn]], str]
"""Writes a conversation as the text that a model reads."""

REQUIRED_KEYS = ("tool_calls", "tools")
"""A model that cannot be shown these does not see what its reward is about."""
OTHER_KEYS = ("name", "tool_call_id", "reasoning_content", "thinking")
"""Not every chat template writes these; those that are not written are counted."""
MORE_KEYS = (*REQUIRED_KEYS, *OTHER_KEYS)
"""All keys of a message, beside role and content, that are kept."""


def more_of(turn: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a turn holds beside role and content."""
    return {key: value for key, value in turn.items() if key not in ("role", "content") and value is not None}


def is_blank(turn: Turn) -> bool:
    """Say whether a turn has neither a text nor a call of a tool."""
    return not turn["content"].strip() and not turn.get("tool_calls")


def text_of(turn: Turn) -> str:
    """Return a turn as people read it: its text, then its calls of tools as JSON."""
    calls = "\n".join(json.dumps(call, ensure_ascii=False) for call in turn.get("tool_calls") or ())
    return "\n".join(filter(None, (turn["content"], calls)))


def tools_of(turns: Iterable[Turn]) -> Sequence[Mapping[str, Any]] | None:
    """Return the tools that a conversation declares; None for none."""
    return next((turn["tools"] for turn in turns if turn.get("tools")), None)


def text_alone(turns: Iterable[Turn], who: str) -> None:
    """Make sure that nothing gets lost where `who` reads the text of turns alone.

    Raises:
        UnwritableError: If a turn holds calls of tools, or the conversation declares tools.
    """
    for number, turn in enumerate(turns, start=1):
        for key in REQUIRED_KEYS:
            if turn.get(key):
                raise UnwritableError(
                    f"turn {number} of a conversation ({turn['role']}) holds {key}, which {who} cannot write;"
                    " expected a model with a chat template that does, or data without them",
                    list(turns),
                    reason=f"{who} cannot write {key}",
                )


def write_all(write: Write, turns: Sequence[Turn]) -> tuple[str, list[str]]:
    """Return the text of a conversation, and which of `OTHER_KEYS` it does not show.

    Raises:
        UnwritableError: If the text does not show each call of a tool and the tools.
    """
    text, unwritten = write(turns), []
    for key in dict.fromkeys(key for turn in turns for key in more_of(turn)):
        if _shows(write, text, turns, key):
            continue
        if key in REQUIRED_KEYS:
            raise UnwritableError(
                f"the chat template does not write {key}, which the data holds; give the template that the"
                " model was trained with as -M chat_template=FILE, or data without them",
                turns,
                reason=f"the chat template does not write {key}",
            )
        unwritten.append(key)
    return text, unwritten


def _shows(write: Write, text: str, turns: Sequence[Turn], key: str) -> bool:
    """Say whether a text shows all values of a key: it is another text without any one of them."""
    for place, turn in enumerate(turns):
        for less in _each_without(turn, key):
            try:
                if write([*turns[:place], less, *turns[place + 1 :]]) == text:
                    return False
            except UnwritableError:  # the template refuses to go without it
                continue
    return True


def _each_without(turn: Turn, key: str) -> Iterator[Turn]:
    """Yield a turn without its value of a key; of several calls of tools without each of them."""
    value: Any = turn.get(key)
    if key == "tool_calls" and value and len(value) > 1:
        for n in range(len(value)):
            yield cast(Turn, {**turn, key: [*value[:n], *value[n + 1 :]]})
    elif value:
        yield cast(Turn, {k: v for k, v in turn.items() if k != key})
