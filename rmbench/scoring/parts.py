"""Rewards made of stored numbers, such as those of an ensemble's members; each part has its own store."""

from collections.abc import Sequence
from typing import Any

from rmbench.errors import ScoringError
from rmbench.scoring.executor import Executor, Failure, InProcess, PartBatch
from rmbench.scoring.plan import DEFAULT_BATCH_TOKENS, Unit, conversation_measure
from rmbench.scoring.store import PartStores
from rmbench.scoring.work import Progress, Work
from rmbench.types import BudgetedModel, Conversation, PartedModel, RewardModel, Scored


class PartedWork:
    """Answers like `Work`: asks the parts one after the other and combines their numbers.

    Only this process writes the stores, and each part's batches are planned as if it were alone: its numbers
    are the same to the last bit whatever it is a part of.

    Args:
        model: The model.
        stores: The stores of its parts.
        executor: Answers in place of this process, with the same model.
        batch_tokens: Most tokens of a batch; None for the budget of each part.
        progress: Gets the progress.
    """

    def __init__(
        self,
        model: PartedModel,
        stores: PartStores,
        executor: Executor[Any] | None,
        batch_tokens: int | None,
        progress: Progress | None,
    ) -> None:
        self._model = model
        parts = model.parts()
        self._names = [part.name for part in parts]
        shown = _Together(progress, len(parts)) if progress else None
        self._works = [
            Work[Conversation](
                store,
                InProcess(part.model.score) if executor is None else _PartExecutor(executor, k),
                conversation_measure(part.model),
                batch_tokens or _budget(part.model),
                shown,
            )
            for k, (part, store) in enumerate(zip(parts, stores.parts, strict=True))
        ]
        self.n_computed = 0

    @property
    def n_tokens(self) -> int:
        """Tokens read now, those of every part."""
        return sum(work.n_tokens for work in self._works)

    def known(self, units: Sequence[Unit[Conversation]]) -> dict[str, Scored]:
        """Return the rewards of those of `units` that all parts' stores know."""
        found = [work.known(units) for work in self._works]
        return self._combined([unit for unit in units if all(unit.key in part for part in found)], found)

    def do(self, units: Sequence[Unit[Conversation]]) -> dict[str, Scored]:
        """Return the rewards of distinct `units`.

        Raises:
            ScoringError: If a part raises or breaks its contract, and which; what was answered stays stored.
        """
        self.n_computed += len(units) - len(self.known(units))
        found = []
        for name, work in zip(self._names, self._works, strict=True):
            try:
                found.append(work.do(units))
            except ScoringError as error:
                raise ScoringError(f"{name}: {error}") from error
        return self._combined(units, found)

    def _combined(
        self, units: Sequence[Unit[Conversation]], found: Sequence[dict[str, Scored]]
    ) -> dict[str, Scored]:
        numbers = [[part[unit.key] for unit in units] for part in found]
        rewards = self._model.combine([unit.payload for unit in units], numbers)
        return {unit.key: reward for unit, reward in zip(units, rewards, strict=True)}


class _PartExecutor:
    """An executor that asks one part of its model."""

    def __init__(self, executor: Executor[Any], part: int) -> None:
        self._executor, self._part = executor, part

    @property
    def n_at_once(self) -> int:
        return self._executor.n_at_once

    def start(self, ticket: int, batch: Sequence[Conversation]) -> None:
        self._executor.start(ticket, PartBatch(self._part, batch))

    def finished(self) -> tuple[int, Sequence[float | Scored] | Failure]:
        return self._executor.finished()


class _Together:
    """Progress of texts from that of all parts: a text counts when every part has its number."""

    def __init__(self, progress: Progress, n_parts: int) -> None:
        self._progress, self._n_parts = progress, n_parts
        self._counted = self._told = 0

    def start(self, n_texts: int) -> None:
        self._progress.start(n_texts)

    def advance(self, n_texts: int, n_tokens: int) -> None:
        self._counted += n_texts
        whole = self._counted // self._n_parts - self._told
        self._told += whole
        self._progress.advance(whole, n_tokens)


def _budget(part: RewardModel) -> int:
    return part.batch_tokens() if isinstance(part, BudgetedModel) else DEFAULT_BATCH_TOKENS
