"""Which texts to score, each once, and in which batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

U = TypeVar("U")

DEFAULT_BATCH_TOKENS = 8192
CHARACTERS_PER_TOKEN = 4
_LARGEST_BATCH = 512


@dataclass(frozen=True, slots=True)
class Unit(Generic[U]):
    """One thing to ask a model: a conversation, or an ordered pair."""

    key: str
    payload: U


def distinct(units: Iterator[Unit[U]]) -> list[Unit[U]]:
    """Return the first unit of each key, in order of appearance."""
    seen: dict[str, Unit[U]] = {}
    for unit in units:
        seen.setdefault(unit.key, unit)
    return list(seen.values())


def batches(
    units: Sequence[Unit[U]], lengths: Callable[[Sequence[U]], Sequence[int]], budget_tokens: int
) -> list[list[Unit[U]]]:
    """Group units of similar length so that count x longest stays within the budget (at least one each).

    Longest first, so that running out of memory happens at once and not after an hour. The grouping depends
    on the set of units alone, never on what is already scored: a run that was killed and started again
    sends the same batches, and so gets the same rewards to the last bit.

    Args:
        units: Distinct units, in any order.
        lengths: Their sizes in tokens.
        budget_tokens: Most padded tokens in a batch.
    """
    sizes = lengths([unit.payload for unit in units])
    order = sorted(range(len(units)), key=lambda i: (-sizes[i], units[i].key))
    grouped: list[list[Unit[U]]] = []
    longest = 0
    for i in order:
        if (
            not grouped
            or (len(grouped[-1]) + 1) * longest > budget_tokens
            or len(grouped[-1]) >= _LARGEST_BATCH
        ):
            grouped.append([])
            longest = max(1, sizes[i])
        grouped[-1].append(units[i])
    return grouped
