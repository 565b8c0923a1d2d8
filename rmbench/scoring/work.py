"""Asking a model for what the score store does not know, one stored batch after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Generic, Protocol, TypeVar

from rmbench.errors import RmbenchError, ScoringError
from rmbench.scoring.plan import Unit, batches
from rmbench.scoring.store import ScoreStore
from rmbench.types import Scored

U = TypeVar("U")


class Progress(Protocol):
    """Told of the work as it goes on."""

    def start(self, n_units: int, n_known: int) -> None:
        """Say how many distinct texts there are, and how many are known already."""

    def advance(self, n_units: int, n_tokens: int) -> None:
        """Say that a batch is done and stored."""


@dataclass(slots=True)
class Done:
    """What is known after the work."""

    scored: dict[str, Scored]
    n_computed: int
    n_tokens: int


class Work(Generic[U]):
    """Asks a model for what a store does not know, batch by batch."""

    def __init__(
        self,
        store: ScoreStore,
        ask: Callable[[Sequence[U]], Sequence[float | Scored]],
        lengths: Callable[[Sequence[U]], Sequence[int]],
        progress: Progress | None,
        *,
        fraction: bool = False,
    ) -> None:
        self._store, self._ask, self._lengths, self._progress = store, ask, lengths, progress
        self._fraction = fraction

    def do(self, units: Sequence[Unit[U]], batch_tokens: int) -> Done:
        """Return the answers for `units`: the stored ones, and the model's, stored batch by batch."""
        scored = self._store.get([unit.key for unit in units])
        n_known = len(scored)
        if self._progress:
            self._progress.start(len(units), n_known)
        if n_known == len(units):
            return Done(scored, 0, 0)
        n_computed = n_tokens = 0
        for batch in batches(units, self._lengths, batch_tokens):
            missing = [unit for unit in batch if unit.key not in scored]
            # Another process that shares the store may have done this batch meanwhile.
            scored |= self._store.get([unit.key for unit in missing])
            missing = [unit for unit in missing if unit.key not in scored]
            if not missing:
                continue
            fresh = self._answers(missing)
            # A reward that is not finite is an answer for this run only: it is asked for again next time.
            self._store.put([(k, s) for k, s in fresh.items() if isfinite(s.reward)])
            scored |= fresh
            n_computed += len(fresh)
            tokens = sum(s.n_tokens or 0 for s in fresh.values())
            n_tokens += tokens
            if self._progress:
                self._progress.advance(len(fresh), tokens)
        return Done(scored, n_computed, n_tokens)

    def _answers(self, units: Sequence[Unit[U]]) -> dict[str, Scored]:
        try:
            answers = self._ask([unit.payload for unit in units])
        except RmbenchError:
            raise
        except Exception as error:
            raise ScoringError(
                f"the model raised {type(error).__name__} on a batch of {len(units)}: {error}"
            ) from error
        if len(answers) != len(units):
            raise ScoringError(f"the model returned {len(answers)} rewards for {len(units)} conversations")
        return {unit.key: self._checked(answer) for unit, answer in zip(units, answers, strict=True)}

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
        return Scored(value, scored.n_tokens, scored.truncated) if scored else Scored(value)
