"""Asks a model for the rewards that the score store does not have, and stores them batch by batch.

Items are a stream: one window of them is scored and stored while the next one is read and tokenised. `Meter`
counts the usage of a metered model.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Integral
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from rmbench.core.files import conversation_key
from rmbench.errors import RmbenchError, ScoringError, UnwritableError
from rmbench.scoring.executor import Executor, Failure
from rmbench.scoring.plan import Measure, Unit, distinct, plan, windows
from rmbench.scoring.store import ScoreStore
from rmbench.types import AnyModel, Item, MeteredModel, Scored

U = TypeVar("U")


class Progress(Protocol):
    """Receives the progress of the work."""

    def start(self, n_texts: int) -> None:
        """Receive the number of texts; equal texts count each time."""

    def advance(self, n_texts: int, n_tokens: int) -> None:
        """Receive the number of texts with a reward: computed now, with their tokens, or known before."""


class Answering(Protocol[U]):
    """Answers questions from the store or from the model: `Work`, and `PartedWork`."""

    @property
    def n_computed(self) -> int:
        """Questions that the model answered now."""
        ...

    @property
    def n_tokens(self) -> int:
        """Tokens of these, if the model counts them."""
        ...

    def known(self, units: Sequence[Unit[U]]) -> dict[str, Scored]:
        """Return the stored answers to `units`."""
        ...

    def do(self, units: Sequence[Unit[U]]) -> dict[str, Scored]:
        """Return the answers for distinct `units`."""
        ...


class Work(Generic[U]):
    """Asks a model for the answers that a store does not have, batch by batch.

    Args:
        store: Holds the known answers, and receives the new ones.
        executor: Answers the batches.
        measure: Sizes, for the plan.
        budget_tokens: Most tokens of a batch; halved if memory does not suffice.
        progress: Gets the progress after each batch.
        fraction: True if answers must be in [0, 1].
    """

    def __init__(
        self,
        store: ScoreStore,
        executor: Executor[U],
        measure: Measure[U],
        budget_tokens: int,
        progress: Progress | None,
        *,
        fraction: bool = False,
    ) -> None:
        self._store, self._executor, self._measure, self._progress = store, executor, measure, progress
        self._budget, self._fraction = budget_tokens, fraction
        self.n_computed = self.n_tokens = 0

    def known(self, units: Sequence[Unit[U]]) -> dict[str, Scored]:
        """Return the stored answers to `units`."""
        return self._store.get([unit.key for unit in units])

    def do(self, units: Sequence[Unit[U]]) -> dict[str, Scored]:
        """Return the answers for distinct `units`: the stored ones, and the model's, stored batch by batch.

        Raises:
            ScoringError: If the model raises or breaks its contract; answers so far stay stored.
        """
        scored = self.known(units)
        self._advance(len(scored), 0)
        if len(scored) == len(units):
            return scored
        planned = self._budget
        waiting = deque(plan(units, self._measure, planned))
        flying: dict[int, list[Unit[U]]] = {}
        n_started = 0
        while waiting or flying:
            while waiting and len(flying) < self._executor.n_at_once:
                batch = self._missing(waiting.popleft(), scored)
                if len(batch) > 1 and self._budget < planned:
                    batch, *rest = plan(batch, self._measure, self._budget)
                    waiting.extendleft(reversed(rest))
                if batch:
                    self._executor.start(n_started, [unit.payload for unit in batch])
                    flying[n_started] = batch
                    n_started += 1
            if flying:
                ticket, answers = self._executor.finished()
                batch = flying.pop(ticket)
                if isinstance(answers, Failure):
                    waiting.extendleft(reversed(self._smaller(batch, answers)))
                else:
                    scored |= self._taken(batch, answers)
        return scored

    def _missing(self, batch: Sequence[Unit[U]], scored: dict[str, Scored]) -> list[Unit[U]]:
        """Return the units of a batch that still have no answer: another process may have stored some."""
        before = len(scored)
        scored |= self._store.get([unit.key for unit in batch if unit.key not in scored])
        self._advance(len(scored) - before, 0)
        return [unit for unit in batch if unit.key not in scored]

    def _smaller(self, batch: list[Unit[U]], failure: Failure) -> list[list[Unit[U]]]:
        """Return the parts of a batch that did not fit into memory; the budget stays at their size."""
        if isinstance(failure.cause, RmbenchError):
            raise failure.cause
        if not failure.out_of_memory or len(batch) == 1:
            raise ScoringError(failure.text) from failure.cause
        parts = plan(batch, self._measure, self._budget)
        while len(parts) == 1:
            self._budget = max(1, self._budget // 2)
            parts = plan(batch, self._measure, self._budget)
        return parts

    def _taken(self, batch: list[Unit[U]], answers: Sequence[float | Scored]) -> dict[str, Scored]:
        """Check and store the answers of a batch."""
        if len(answers) != len(batch):
            raise ScoringError(f"the model returned {len(answers)} rewards for {len(batch)} conversations")
        fresh = {unit.key: self._checked(answer) for unit, answer in zip(batch, answers, strict=True)}
        # A reward that is not finite is an answer for this run only: the next run asks the model again.
        self._store.put([(k, s) for k, s in fresh.items() if isfinite(s.reward)])
        tokens = sum(s.n_tokens or 0 for s in fresh.values())
        self.n_computed += len(fresh)
        self.n_tokens += tokens
        self._advance(len(fresh), tokens)
        return fresh

    def _advance(self, n_texts: int, n_tokens: int) -> None:
        if self._progress and n_texts:
            self._progress.advance(n_texts, n_tokens)

    def _checked(self, answer: float | Scored) -> Scored:
        scored = answer if isinstance(answer, Scored) else None
        number = scored.reward if scored else answer
        try:
            value = float(number)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise ScoringError(
                f"the model returned {number!r} ({type(number).__name__}); expected one number per text"
            ) from None
        if self._fraction and isfinite(value) and not 0.0 <= value <= 1.0:
            raise ScoringError(
                f"the pairwise model returned {value!r}; expected P(first is better) in [0, 1]"
            )
        value += 0.0  # -0.0 becomes 0.0: the store keeps no sign of zero, and stored or not is the same
        if scored is None:
            return Scored(value)
        n_tokens: Any = scored.n_tokens
        if n_tokens is not None and not (isinstance(n_tokens, Integral) and 0 <= int(n_tokens) < 2**63):
            raise ScoringError(f"the model returned n_tokens={n_tokens!r}; expected a count, or None")
        return Scored(value, None if n_tokens is None else int(n_tokens), scored.truncated, scored.why)


class Meter:
    """Usage and failures of a metered model during one evaluation, as differences of its counters.

    Args:
        model: Any model; one that is not metered has no usage.
    """

    def __init__(self, model: AnyModel) -> None:
        self._model = model if isinstance(model, MeteredModel) else None
        self._used = dict(self._model.used()) if self._model else {}
        self._unanswered = dict(self._model.unanswered()) if self._model else {}

    def used(self) -> dict[str, float] | None:
        """Return requests, tokens, price and the like since this meter was made."""
        if self._model is None:
            return None
        return {name: value - self._used.get(name, 0) for name, value in self._model.used().items()}

    def unanswered(self) -> dict[str, int] | None:
        """Return the questions without an answer since this meter was made, by reason."""
        if self._model is None:
            return None
        return {why: n - self._unanswered.get(why, 0) for why, n in self._model.unanswered().items()}


WINDOW_CHARACTERS = 4_000_000
"""Characters of a window, which is planned together: about a million tokens, a hundred batches or more."""
_LEAST_CHARACTERS = 256
"""A shorter text counts as this many characters, so that empty ones fill a window too."""


@dataclass(frozen=True, slots=True)
class Answered(Generic[U]):
    """An item with its questions and answers."""

    item: Item
    units: list[Unit[U]]
    scored: dict[str, Scored]
    """Answers by key, with those of other items."""


@dataclass(frozen=True, slots=True)
class _Window(Generic[U]):
    items: list[Item]
    units: list[list[Unit[U]]]
    distinct: list[Unit[U]]


class Flow(Generic[U]):
    """Answers the questions about items, in the order of the items; no item is kept.

    Args:
        work: Asks and stores.
        units_of: Returns the questions about an item.
        prepare: Receives the texts of the next window.
        progress: Receives the number of questions.
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
        """Number of distinct questions so far."""
        return len(np.unique(np.frombuffer(bytes(self._keys), dtype="S16")))

    def answer(self, items: Iterable[Item]) -> Iterator[Answered[U]]:
        """Yield each item with its answers.

        A window's texts are planned together, stored ones too, and a text of an earlier window is found in
        the store. So a run that was killed and started again makes the same plan.
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
        try:
            scored = self._work.do(window.distinct)
        except UnwritableError as error:
            raise _of_item(error, window.items) from None
        if self._progress:
            self._progress.advance(sum(map(len, window.units)) - len(window.distinct), 0)
        for item, units in zip(window.items, window.units, strict=True):
            yield Answered(item, units, scored)


def _of_item(error: UnwritableError, items: Iterable[Item]) -> UnwritableError:
    """Return the error with the id of the item that it is about."""
    key = None if error.turns is None else conversation_key(error.turns)
    for item in items:
        for k in range(len(item.responses)):
            if conversation_key(item.conversation(k)) == key:
                advice = "`--on-bad skip` leaves such items out and counts them"
                told = f"item {item.id!r}, response {k + 1}: {error.problem}; {advice}"
                return UnwritableError(told, error.turns, reason=error.reason)
    return error


def _characters(item: Item) -> int:
    prompt = sum(len(turn["content"]) for turn in item.prompt)
    return sum(max(_LEAST_CHARACTERS, prompt + len(response.text)) for response in item.responses)
