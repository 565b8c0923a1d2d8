"""Asking a model for what the score store does not know, one stored batch after the other."""

from collections import deque
from collections.abc import Sequence
from math import isfinite
from typing import Generic, Protocol, TypeVar

from rmbench.errors import RmbenchError, ScoringError
from rmbench.scoring.crew import Crew, Failure
from rmbench.scoring.plan import Measure, Unit, plan
from rmbench.scoring.store import ScoreStore
from rmbench.types import Scored

U = TypeVar("U")


class Progress(Protocol):
    """Told of the work as it goes on."""

    def start(self, n_texts: int) -> None:
        """Say how many texts there are, equal ones counted again."""

    def advance(self, n_texts: int, n_tokens: int) -> None:
        """Say that texts have their reward: read now, with so many tokens, or known before."""


class Answering(Protocol[U]):
    """Answers questions, from what is stored or by asking: `Work`, and `rmbench.scoring.parts`."""

    @property
    def n_computed(self) -> int:
        """Questions that were asked now."""
        ...

    @property
    def n_tokens(self) -> int:
        """Tokens that were read for them, as far as the model says."""
        ...

    def known(self, units: Sequence[Unit[U]]) -> dict[str, Scored]:
        """Return what is stored of `units`."""
        ...

    def do(self, units: Sequence[Unit[U]]) -> dict[str, Scored]:
        """Return the answers for distinct `units`."""
        ...


class Work(Generic[U]):
    """Asks a model for what a store does not know, batch by batch.

    Args:
        store: What is known, and where answers go.
        crew: Who answers.
        measure: Sizes, for the plan.
        budget_tokens: Most tokens of a batch; halved where memory does not suffice.
        progress: Told of each batch.
        fraction: Whether answers must be in [0, 1].
    """

    def __init__(
        self,
        store: ScoreStore,
        crew: Crew[U],
        measure: Measure[U],
        budget_tokens: int,
        progress: Progress | None,
        *,
        fraction: bool = False,
    ) -> None:
        self._store, self._crew, self._measure, self._progress = store, crew, measure, progress
        self._budget, self._fraction = budget_tokens, fraction
        self.n_computed = self.n_tokens = 0

    def known(self, units: Sequence[Unit[U]]) -> dict[str, Scored]:
        """Return what the store has of `units`."""
        return self._store.get([unit.key for unit in units])

    def do(self, units: Sequence[Unit[U]]) -> dict[str, Scored]:
        """Return the answers for distinct `units`: the stored ones, and the model's, stored batch by batch.

        Raises:
            ScoringError: If the model raises or breaks its contract; what was answered before stays stored.
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
            while waiting and len(flying) < self._crew.n_at_once:
                batch = self._missing(waiting.popleft(), scored)
                if len(batch) > 1 and self._budget < planned:
                    batch, *rest = plan(batch, self._measure, self._budget)
                    waiting.extendleft(reversed(rest))
                if batch:
                    self._crew.start(n_started, [unit.payload for unit in batch])
                    flying[n_started] = batch
                    n_started += 1
            if flying:
                ticket, answers = self._crew.finished()
                batch = flying.pop(ticket)
                if isinstance(answers, Failure):
                    waiting.extendleft(reversed(self._smaller(batch, answers)))
                else:
                    scored |= self._taken(batch, answers)
        return scored

    def _missing(self, batch: Sequence[Unit[U]], scored: dict[str, Scored]) -> list[Unit[U]]:
        """Return what of a batch is still to do: another process may have done some of it meanwhile."""
        before = len(scored)
        scored |= self._store.get([unit.key for unit in batch if unit.key not in scored])
        self._advance(len(scored) - before, 0)
        return [unit for unit in batch if unit.key not in scored]

    def _smaller(self, batch: list[Unit[U]], failure: Failure) -> list[list[Unit[U]]]:
        """Return a batch that did not fit into memory in parts; the budget stays at their size."""
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
        # A reward that is not finite is an answer for this run only: it is asked for again next time.
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
        return Scored(value, scored.n_tokens, scored.truncated, scored.why) if scored else Scored(value)
