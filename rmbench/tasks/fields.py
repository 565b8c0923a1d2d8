"""Checked values of a row: text, turns, gold. Nothing is converted silently."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from math import isfinite
from typing import Any

from rmbench.core.files import prompt_cluster
from rmbench.tasks.messages import kind_of as kind_of
from rmbench.tasks.messages import turn_of
from rmbench.tasks.rows import Row
from rmbench.types import LARGEST_GOLD, Turn

ROLES = ("system", "developer", "user", "assistant", "tool")

MOST_VOTES = 10_000
"""More annotators of one pair than this are no count of people."""

MISSING = object()
"""Stands for a value of a nested object that is not there: unlike null it is told as a missing key."""


def text(row: Row, key: str, value: Any = MISSING, *, allow_empty: bool = False) -> str:
    """Return `row[key]` (or `value` found there) as text.

    Raises:
        DataError: If it is missing, not a string, or blank.
    """
    found = required(row, key) if value is MISSING else value
    if not isinstance(found, str):
        raise row.error(f"{kind_of(found)}; expected text", key, "text is not a string")
    if not allow_empty and not found.strip():
        raise row.error("empty; expected text", key, "empty text")
    return found


def reply(row: Row, key: str, value: Any = MISSING) -> str:
    """Return `row[key]` (or `value` found there) as the text of a response, which may be empty.

    A policy that says nothing has answered, and as a rule badly: without its empty responses it would look
    better than it is. They keep their place and their gold, and a run counts them under `empty`.

    Raises:
        DataError: If it is missing or not a string.
    """
    return text(row, key, value, allow_empty=True)


def required(row: Row, key: str) -> Any:
    """Return `row[key]`; an error names the nearest key there is."""
    if key not in row.value:
        close = get_close_matches(key, [str(k) for k in row.value], n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise row.error(f"the key is missing{hint}", key, "missing key")
    return row.value[key]


def known_keys(row: Row, known: Sequence[str]) -> None:
    """Raise DataError for a key that the format does not have, naming the nearest one that it has."""
    for key in row.value:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
            raise row.error(f"unknown key{hint}", key, "unknown key")


def turns(row: Row, key: str, value: Any) -> tuple[Turn, ...]:
    """Return a prompt or conversation: a string is one user turn, a list is messages with their roles.

    Raises:
        DataError: If it is neither, or a message has no known role or no text.
    """
    if isinstance(value, str):
        return (Turn(role="user", content=text(row, key, value)),)
    if not isinstance(value, list) or not value:
        raise row.error(
            f"{kind_of(value)}; expected text or a list of messages", key, "prompt is no conversation"
        )
    found = []
    for n, message in enumerate(value):
        where = f"{key}[{n}]"
        if not isinstance(message, Mapping) or not (
            {"role", "content"} <= set(message) or {"role", "tool_calls"} <= set(message)
        ):
            raise row.error('expected {"role": ..., "content": ...}', where, "prompt is no conversation")
        if message["role"] not in ROLES:
            raise row.error(
                f"{message['role']!r}; expected one of {', '.join(ROLES)}", f"{where}.role", "unknown role"
            )
        found.append(turn_of(row, where, str(message["role"]), message))
    return tuple(found)


def prompt(row: Row, key: str, value: Any) -> tuple[Turn, ...]:
    """Return a prompt: turns that do not end with the assistant's."""
    found = turns(row, key, value)
    if found[-1]["role"] == "assistant":
        raise row.error(
            "ends with an assistant turn; the reply belongs under the responses",
            key,
            "prompt ends with a reply",
        )
    return found


def shared_prompt(row: Row) -> tuple[tuple[Turn, ...], Turn, Turn]:
    """Return the prompt of two whole conversations, `chosen` and `rejected`, and the turn that ends each.

    Raises:
        DataError: If one is no conversation that ends with a reply, or they differ before it.
    """
    chosen, rejected = (turns(row, key, required(row, key)) for key in ("chosen", "rejected"))
    for key, conversation in (("chosen", chosen), ("rejected", rejected)):
        if len(conversation) < 2 or conversation[-1]["role"] != "assistant":
            raise row.error("expected a prompt and a final assistant turn", key, "no reply at the end")
    if chosen[:-1] != rejected[:-1]:
        raise row.error(
            "the conversation before the reply differs from 'chosen'", "rejected", "prompts differ"
        )
    return chosen[:-1], chosen[-1], rejected[-1]


def finite(row: Row, key: str, value: Any) -> float:
    """Return a number up to `LARGEST_GOLD`; a bool, a string and NaN are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise row.error(f"{kind_of(value)} {value!r}; expected a number", key, "gold is not a number")
    if not isfinite(value):
        raise row.error(f"{value}; expected a finite number", key, "gold is not finite")
    if abs(value) > LARGEST_GOLD:
        problem = f"{value:g}; expected a number from {-LARGEST_GOLD:g} to {LARGEST_GOLD:g}"
        raise row.error(problem, key, "gold is too large")
    return float(value)


def whole(row: Row, key: str, value: Any, low: int, high: int) -> int:
    """Return a whole number within bounds; 1.0 and true are none."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise row.error(f"{value!r}; expected a whole number from {low} to {high}", key, "value out of range")
    return value


def mapping(row: Row, key: str) -> Mapping[str, Any]:
    """Return the object under `key`.

    Raises:
        DataError: If it is missing or something else.
    """
    value = required(row, key)
    if not isinstance(value, Mapping):
        raise row.error(f"{kind_of(value)}; expected an object", key, "row does not fit")
    return value


def choice(row: Row, key: str, known: Sequence[Any] = (0, 1)) -> Any:
    """Return `row[key]`, one of `known`; a truth value is no number.

    Raises:
        DataError: If it is missing or another value.
    """
    value = required(row, key)
    if isinstance(value, bool) or value not in known:
        expected = " or ".join(map(repr, known))
        raise row.error(f"{value!r}; expected {expected}", key, "unknown label")
    return value


def known_name(row: Row, key: str, value: str, known: Sequence[str]) -> str:
    """Return `value` of `row[key]`, one of `known`; an error names the nearest one."""
    if value not in known:
        close = get_close_matches(value, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
        raise row.error(f"unknown {key} {value!r}{hint}", key, f"unknown {key}")
    return value


def no_comparison(first: object, second: object) -> str | None:
    """Return why two replies are no comparison, or None: the reason under which the pair is left out."""
    return "identical responses" if first == second else None


def strata(row: Row, key: str = "strata") -> dict[str, str]:
    """Return the optional mapping of stratum key to stratum."""
    value = row.value.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        raise row.error(f"{kind_of(value)}; expected a mapping of text to text", key, "strata do not fit")
    return {str(k): v for k, v in value.items()}


def identifier(row: Row, key: str = "id") -> str:
    """Return the row's id: text, or a whole number; by default `<file's stem>:<line>`."""
    value = row.value.get(key)
    if value is None:
        return f"{row.path.name.split('.')[0]}:{row.line}"
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise row.error(f"{value!r}; expected text or a whole number", key, "id does not fit")
    return str(value)


def name(row: Row, key: str) -> str:
    """Return the name or number under `key` as text.

    Raises:
        DataError: If it is missing, neither text nor a whole number, or blank.
    """
    value = required(row, key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text(row, key, value)


def label(row: Row, key: str) -> str:
    """Return the optional name or number under `key` as text; empty where it is missing or null."""
    if row.value.get(key) in (None, ""):
        return ""
    return name(row, key)


def answer(row: Row) -> str:
    """Return `row["answer"]`, text or a number, as text.

    Raises:
        DataError: If it is missing, neither of the two, or blank.
    """
    value = required(row, "answer")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if isinstance(value, int) else repr(finite(row, "answer", value))
    return text(row, "answer", value)


def votes(row: Row, n_responses: int) -> tuple[int, int, int] | None:
    """Return `votes`: annotators for the first of two responses, the second, neither; None: not known.

    Raises:
        DataError: If it is no list of two or three counts, or the row has not two responses.
    """
    value = row.value.get("votes")
    if value is None:
        return None
    if n_responses != 2:
        raise row.error(
            f"given with {n_responses} responses; votes are about two", "votes", "votes do not fit"
        )
    if not isinstance(value, list) or len(value) not in (2, 3):
        raise row.error(
            "expected how many annotators are for the first response, for the second, and take both for "
            "equal, such as [2, 1] or [2, 0, 1]", "votes", "votes do not fit",
        )  # fmt: skip
    first, second, *equal = (whole(row, f"votes[{k}]", v, 0, MOST_VOTES) for k, v in enumerate(value))
    counts = (first, second, equal[0] if equal else 0)
    return counts if any(counts) else None


def cluster_of(row: Row, turns_of_prompt: Sequence[Turn]) -> str:
    """Return the row's cluster: its own, else the prompt's identity."""
    value = row.value.get("cluster")
    if value is None:
        return prompt_cluster(turns_of_prompt)
    return text(row, "cluster", value)
