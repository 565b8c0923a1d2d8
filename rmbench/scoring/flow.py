"""Items flow through: a window of them is asked and stored while the next one is read and tokenised."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from rmbench.scoring.plan import Unit, distinct, windows
from rmbench.scoring.work import Answering, Progress
from rmbench.types import Item, Scored

U = TypeVar("U")

WINDOW_CHARACTERS = 4_000_000
"""Of the texts that are planned together: about a million tokens, a hundred batches and more."""
_LEAST_CHARACTERS = 256
"""What a text counts for at least, so that empty ones fill a window too."""


@dataclass(frozen=True, slots=True)
class Answered(Generic[U]):
    """An item with what was asked about it."""

    item: Item
    units: list[Unit[U]]
    scored: dict[str, Scored]
    """Answers by key, those of other items among them."""


@dataclass(frozen=True, slots=True)
class _Window(Generic[U]):
    items: list[Item]
    units: list[list[Unit[U]]]
    distinct: list[Unit[U]]


class Flow(Generic[U]):
    """Answers the questions about items, in the order of the items, and keeps none of them.

    Args:
        work: Asks and stores.
        units_of: The questions about an item.
        prepare: Told of texts that will be asked for, a window ahead.
        progress: Told how many questions there are.
    """

    def __init__(
        self,
        work: Answering[U],
        units_of: Callable[[Item], list[Unit[U]]],
        prepare: Callable[[Sequence[U]], None] | None,
        progress: Progress | None,
    ) -> None:
        self._work, self._units_of, self._prepare, self._progress = work, units_of, prepare, progress
        self._keys = bytearray()

    @property
    def n_units(self) -> int:
        """Distinct questions so far."""
        return len(np.unique(np.frombuffer(bytes(self._keys), dtype="S16")))

    def answer(self, items: Iterable[Item]) -> Iterator[Answered[U]]:
        """Yield each item with its answers.

        A window's texts are planned together, whatever of them is known, and a text of an earlier window is
        found in the store: a run that was killed and started again plans the same.
        """
        before: _Window[U] | None = None
        for window in windows(items, _characters, WINDOW_CHARACTERS):
            ahead = self._begin(window)
            if before is not None:
                yield from self._finish(before)
            before = ahead
        if before is not None:
            yield from self._finish(before)

    def _begin(self, items: list[Item]) -> _Window[U]:
        units = [self._units_of(item) for item in items]
        window = _Window(items, units, distinct(unit for row in units for unit in row))
        for unit in window.distinct:
            self._keys += bytes.fromhex(unit.key)
        if self._prepare and len(self._work.known(window.distinct)) < len(window.distinct):
            self._prepare([unit.payload for unit in window.distinct])
        return window

    def _finish(self, window: _Window[U]) -> Iterator[Answered[U]]:
        scored = self._work.do(window.distinct)
        if self._progress:
            self._progress.advance(sum(map(len, window.units)) - len(window.distinct), 0)
        for item, units in zip(window.items, window.units, strict=True):
            yield Answered(item, units, scored)


def _characters(item: Item) -> int:
    prompt = sum(len(turn["content"]) for turn in item.prompt)
    return sum(max(_LEAST_CHARACTERS, prompt + len(response.text)) for response in item.responses)
