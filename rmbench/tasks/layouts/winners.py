"""Which of two replies is better, as the column of a winner says it. Nothing is guessed.

`1` beside `output_1` and `output_2` is the first, beside `response_0` and `response_1` the second. A value
that fits neither, such as 0 beside `output_1`, is an error for the whole data: 1 may mean another side too.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from rmbench.errors import ConfigError
from rmbench.tasks.layouts.columns import SIGNED, plain
from rmbench.tasks.rows import Row

Side: TypeAlias = Literal["first", "second", "tie"]
SIDES: tuple[Side, ...] = ("first", "second", "tie")

_TIES = ("tie", "both", "equal", "draw", "same", "tie_(bothbad)", "both_bad", "bothbad", "tied", "none")
_BEFORE = (
    "",
    "model_",
    "response_",
    "assistant_",
    "output_",
    "answer_",
    "completion_",
    "option_",
    "response",
    "output",
)


def sides_of(text: str | None) -> dict[str, Side]:
    """Return what the user says that values mean: `1:first,0:second,2:tie`.

    Raises:
        ConfigError: If the text is no list of such pairs.
    """
    found: dict[str, Side] = {}
    for part in filter(None, (text or "").split(",")):
        value, colon, side = part.rpartition(":")
        known = next((each for each in SIDES if each == side.strip()), None)
        if not colon or known is None or plain(value) in found:
            raise ConfigError(
                f"parameter 'winner': {part!r}; expected VALUE:first, VALUE:second or VALUE:tie, each once"
            )
        found[plain(value)] = known
    return found


def winner_of(
    row: Row,
    key: str,
    value: Any,
    replies: Sequence[str],
    said: Mapping[str, Side],
    name: str,
    option: str = "-T",
) -> tuple[Side, float]:
    """Return which of two replies is better, and by how much (1 where the column does not say).

    Args:
        row: For messages.
        key: The column, as the file calls it.
        value: What it holds.
        replies: The names of the columns of the two replies.
        said: What the user says that values mean.
        name: The column, as names are compared.
        option: How the command takes `winner=`, for messages.

    Raises:
        DataError: If the value is missing.
        ConfigError: If it names neither reply.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # argilla: one answer of an annotator
    if isinstance(value, Mapping):
        value = value.get("value", value.get("rank"))
    if value is None or value == "":
        raise row.error("no winner", key, "no winner")
    text = _text(value)
    if said:
        if text not in said:
            raise ConfigError(
                f"{_where(row, key)}: {value!r} is not in {option} winner=; add {text}:first, :second or :tie"
            )
        return said[text], 1.0
    if name in SIGNED and _number(value) is not None:
        size = float(value)
        return ("first" if size < 0 else "second" if size > 0 else "tie"), abs(size) or 1.0
    for side, reply in zip(SIDES[:2], replies, strict=True):
        if text in _names_of(reply, replies) or text == side:
            return side, 1.0
    if text in _TIES:
        return "tie", 1.0
    one, two = (_suffix(reply, replies) for reply in replies)
    raise ConfigError(
        f"{_where(row, key)}: {value!r} names neither {replies[0]} nor {replies[1]} (expected {one}, {two} or"
        f" tie); say what the values mean, such as {option} winner={text}:first,OTHER:second"
    )


def _names_of(reply: str, replies: Sequence[str]) -> set[str]:
    suffix = _suffix(reply, replies)
    return {reply, *(f"{before}{suffix}" for before in _BEFORE)}


def _suffix(reply: str, replies: Sequence[str]) -> str:
    """Return that in which a column's name differs from the other's."""
    one, two = replies
    shared = next((k for k in range(min(len(one), len(two))) if one[k] != two[k]), 0)
    return reply[shared:]


def _text(value: Any) -> str:
    number = _number(value)
    text = str(int(number)) if number is not None and number == int(number) else str(value)
    return plain(text.strip().removeprefix("[[").removesuffix("]]"))


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if abs(found) < 1e15 else None


def _where(row: Row, key: str) -> str:
    return f"{row.path}, line {row.line}, key {key!r}"
