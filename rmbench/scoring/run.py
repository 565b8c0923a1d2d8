"""Scores items with a model: each text that the score store does not have, once.

Rewards that are computed from other models' rewards (ensembles) have a store for each part.
"""

import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite, nan
from typing import Any, TypeVar, cast, overload

import numpy as np

from rmbench.errors import ScoringError, UnwritableError
from rmbench.models.pairwise import rewards_from_pairs, rewards_from_preferences
from rmbench.models.schedule import FULL, Schedule
from rmbench.scoring.executor import Executor, Failure, InProcess, PartBatch, executor_of
from rmbench.scoring.plan import (
    DEFAULT_BATCH_TOKENS,
    Q,
    Unit,
    conversation_measure,
    conversations_of,
    lineup_measure,
    lineups_of,
    pair_measure,
    pairs_for,
)
from rmbench.scoring.store import PartStores, ScoreStore
from rmbench.scoring.voted import Contradictions, VotedWork
from rmbench.scoring.work import Answered, Answering, Flow, Progress, Work
from rmbench.types import (
    AnyModel,
    BudgetedModel,
    Conversation,
    Item,
    JudgingModel,
    Lineup,
    Pair,
    PairwiseModel,
    PartedModel,
    PrecomputedRewards,
    PreparingModel,
    RatingJudge,
    RewardModel,
    Scored,
)

U = TypeVar("U")


class RewardRows(Sequence[tuple[float, ...]]):
    """Rewards of many items, one row per item, eight bytes per reward; a tuple would take five times as much.

    It equals any sequence of the same rows.

    Args:
        rows: The first rows.
    """

    def __init__(self, rows: Iterable[Iterable[float]] = ()) -> None:
        self._values, self._ends = array("d"), array("Q", [0])
        for row in rows:
            self.append(row)

    def append(self, row: Iterable[float]) -> None:
        """Add the rewards of the next item."""
        self._values.extend(row)
        self._ends.append(len(self._values))

    @property
    def n_rewards(self) -> int:
        """Rewards of all items."""
        return len(self._values)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> tuple[float, ...]: ...
    @overload
    def __getitem__(self, place: slice) -> "RewardRows": ...
    def __getitem__(self, place: int | slice) -> "tuple[float, ...] | RewardRows":
        numbers = range(len(self))[place]
        if isinstance(numbers, range):
            return RewardRows(self._row(k) for k in numbers)
        return self._row(numbers)

    def __iter__(self) -> Iterator[tuple[float, ...]]:
        return map(self._row, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return False
        return all(mine == tuple(theirs) for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RewardRows({list(self)!r})"

    def _row(self, number: int) -> tuple[float, ...]:
        return tuple(self._values[self._ends[number] : self._ends[number + 1]])


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCounts:
    """Pairs that a schedule asked, and the precision of the rewards made of them."""

    asked: int
    """Pairs asked in both orders, of all items."""
    of: int
    """Pairs of the full round robin."""
    stderr: float | None
    """Standard error of a reward, nats, root mean square over the items that have one; None: no item has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """Rewards of items, with counts and time."""

    rewards: RewardRows
    """One row per item, one reward per response; NaN where the model gave none that is finite."""
    n_truncated: int | None
    """Responses whose text was cut to fit the model; None if the model does not report it."""
    n_invalid: int
    """Number of responses without a finite reward."""
    unanswered: Mapping[str, int]
    """Number of these with a reason from the model, by reason."""
    n_units: int
    """Number of distinct texts (or ordered pairs) of the items."""
    n_computed: int
    """Number of these that the model computed now."""
    n_tokens: int
    """Tokens of the computed texts, if the model counts them."""
    wall_s: float
    """Seconds spent in the model and the store."""
    flips: tuple[int, ...] | None
    """Pairwise models: per item, pairs whose winner depends on the order shown."""
    comparisons: tuple[int, ...] | None
    """Pairwise models: per item, pairs compared."""
    pairs: PairCounts | None = None
    """Pairwise models under a schedule: what was asked, and how sure the rewards are. None: every pair."""
    contradictions: tuple[tuple[int, int], ...] | None = None
    """Judges that vote: per item, pairs of votes that contradict each other, and pairs of votes."""


def score_items(
    model: AnyModel,
    items: Sequence[Item],
    store: ScoreStore | PartStores,
    *,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    executor: Executor[Any] | None = None,
    schedule: Schedule = FULL,
) -> Scoring:
    """Return the rewards of `items`.

    Args:
        model: Any of the three kinds of model.
        items: Items to score; they are read one by one and not kept.
        store: The score store of this model's fingerprint (unused for precomputed rewards), or those of its
            parts: the result of `open_stores`.
        batch_tokens: Most tokens of a batch; None for the model's own budget.
        progress: Gets the progress.
        executor: Computes the answers instead of this process, with the same model.
        schedule: Pairs that a pairwise model is asked.

    Raises:
        ConfigError: If the schedule's budget cannot connect the responses of an item; nothing is asked.
        ScoringError: If the model raises or breaks its contract; rewards computed before stay stored.
    """
    started = time.perf_counter()
    if isinstance(model, PrecomputedRewards):
        return _look_up(model, items, started)
    if isinstance(store, PartStores):
        return _score_parts(model, items, store, batch_tokens, progress, executor, started)
    if batch_tokens is None:
        batch_tokens = model.batch_tokens() if isinstance(model, BudgetedModel) else DEFAULT_BATCH_TOKENS
    if isinstance(model, PairwiseModel):
        if schedule.comparisons is not None:
            for item in items:
                schedule.check(item)
        if progress:
            progress.start(sum(2 * schedule.n_pairs(len(item.responses)) for item in items))
        shown = _per_question(progress, model)
        with executor_of(model, model.prefer, executor) as ready:
            asked = Work[Pair](store, ready, pair_measure(), batch_tokens, shown, fraction=True)
            pairs = _voted(asked, model)
            flow = Flow(pairs, partial(pairs_for, model, schedule), None, progress)
            return _compare(flow, pairs, items, started, schedule)
    if isinstance(model, RatingJudge) and _is_asked_in_rows(model):
        return _score_lineups(model, items, store, executor, progress, started)
    if progress:
        progress.start(sum(len(item.responses) for item in items))
    prepare = model.prepare if isinstance(model, PreparingModel) else None
    model = cast(RewardModel, model)
    with executor_of(model, model.score, executor) as ready:
        texts = Work[Conversation](store, ready, conversation_measure(model), batch_tokens, progress)
        return _score_rows(Flow(texts, conversations_of, prepare, progress), texts, items, started)


def _is_asked_in_rows(model: RatingJudge) -> bool:
    """Say whether a judge rates all replies together, or may be shown more than replies, or vote."""
    return not isinstance(model, RewardModel) or isinstance(model, JudgingModel)


def _score_lineups(
    model: RatingJudge,
    items: Sequence[Item],
    store: ScoreStore,
    executor: Executor[Any] | None,
    progress: Progress | None,
    started: float,
) -> Scoring:
    if progress:
        progress.start(sum(len(item.responses) for item in items))
    shown = _per_question(progress, model)
    with executor_of(model, model.rate, executor) as ready:
        rows = _voted(Work[Lineup](store, ready, lineup_measure(), 1, shown), model)
        flow = Flow(rows, partial(lineups_of, model), None, progress)
        return _score_rows(flow, rows, items, started)


def _voted(work: Work[Q], model: object) -> "Work[Q] | VotedWork[Q]":
    n_votes = model.votes() if isinstance(model, JudgingModel) else 1
    return work if n_votes == 1 else VotedWork(work, n_votes)


def _per_question(progress: Progress | None, model: object) -> Progress | None:
    """Return a progress that counts a question when all its votes are there."""
    n_votes = model.votes() if isinstance(model, JudgingModel) else 1
    return progress if progress is None or n_votes == 1 else _Together(progress, n_votes)


def _score_parts(
    model: AnyModel,
    items: Sequence[Item],
    stores: PartStores,
    batch_tokens: int | None,
    progress: Progress | None,
    executor: Executor[Any] | None,
    started: float,
) -> Scoring:
    if not isinstance(model, PartedModel):
        raise TypeError(f"{type(model).__name__} has no parts; expected a score store of its own")
    if progress:
        progress.start(sum(len(item.responses) for item in items))
    work = PartedWork(model, stores, executor, batch_tokens, progress)
    prepare = model.prepare if isinstance(model, PreparingModel) else None
    return _score_rows(Flow(work, conversations_of, prepare, progress), work, items, started)


def _look_up(model: PrecomputedRewards, items: Sequence[Item], started: float) -> Scoring:
    rows = RewardRows(model.rewards(items))
    return Scoring(
        rewards=rows,
        n_truncated=None,
        n_invalid=sum(not isfinite(v) for row in rows for v in row),
        unanswered={},
        n_units=rows.n_rewards,
        n_computed=0,
        n_tokens=0,
        wall_s=time.perf_counter() - started,
        flips=None,
        comparisons=None,
    )


def _score_rows(flow: Flow[U], work: Answering[U], items: Sequence[Item], started: float) -> Scoring:
    """Score items by one question per response."""
    rewards, contradictions = RewardRows(), Contradictions(work)
    n_truncated = n_unknown = n_invalid = 0
    unanswered = Counter[str]()
    for answered in flow.answer(items):
        row = [answered.scored[unit.key] for unit in answered.units]
        rewards.append(s.reward for s in row)
        contradictions.rate(answered.units)
        n_truncated += sum(bool(s.truncated) for s in row)
        n_unknown += sum(s.truncated is None for s in row)
        invalid = [s for s in row if not isfinite(s.reward)]
        n_invalid += len(invalid)
        unanswered.update(s.why for s in invalid if s.why)
    return Scoring(
        rewards=rewards,
        n_truncated=None if n_unknown else n_truncated,
        n_invalid=n_invalid,
        unanswered=dict(sorted(unanswered.items())),
        n_units=flow.n_units,
        n_computed=work.n_computed,
        n_tokens=work.n_tokens,
        wall_s=time.perf_counter() - started,
        flips=None,
        comparisons=None,
        contradictions=contradictions.counts,
    )


def _compare(
    flow: Flow[Pair], work: Answering[Pair], items: Sequence[Item], started: float, schedule: Schedule
) -> Scoring:
    """Compare the scheduled pairs of every item, each in both orders."""
    variances, n_asked, n_every = list[float](), 0, 0
    rewards, unanswered = RewardRows(), Counter[str]()
    flips, comparisons, n_invalid, n_truncated = [], [], 0, 0
    tells, contradictions = False, Contradictions(work)
    for answered in flow.answer(items):
        contradictions.prefer(answered.units)
        k = len(answered.item.responses)
        n_asked, n_every = n_asked + len(answered.units) // 2, n_every + k * (k - 1) // 2
        edges = schedule.pairs(answered.item)
        first_wins = _table(answered, edges)
        cut = _cut_responses(answered)
        tells, n_truncated = tells or cut is not None, n_truncated + (cut or 0)
        if not all(isfinite(answered.scored[unit.key].reward) for unit in answered.units):
            rewards.append((nan,) * k)
            n_invalid += k
            unanswered.update([_why(answered)] * k)
            flips.append(0)
            comparisons.append(0)
            continue
        if len(edges) == k * (k - 1) // 2:
            row, n_pairs, n_flips = rewards_from_preferences(first_wins)
        else:
            row, stderr, n_flips = rewards_from_pairs(first_wins, edges)
            n_pairs = len(edges)
            variances += [] if stderr is None else [float(np.mean(stderr**2))]
        rewards.append(row)
        flips.append(n_flips)
        comparisons.append(n_pairs)
    return Scoring(
        rewards=rewards,
        n_truncated=n_truncated if tells else None,
        n_invalid=n_invalid,
        unanswered={why: n for why, n in sorted(unanswered.items()) if why},
        n_units=flow.n_units,
        n_computed=work.n_computed,
        n_tokens=work.n_tokens,
        wall_s=time.perf_counter() - started,
        flips=tuple(flips),
        comparisons=tuple(comparisons),
        pairs=None
        if schedule.comparisons is None
        else PairCounts(
            asked=n_asked, of=n_every, stderr=float(np.sqrt(np.mean(variances))) if variances else None
        ),
        contradictions=contradictions.counts,
    )


def _cut_responses(answered: Answered[Pair]) -> int | None:
    """Return how many responses of an item were in a question that was cut; None if that is not told."""
    told = [answered.scored[unit.key].truncated for unit in answered.units]
    if None in told:
        return None
    texts = [response.text for response in answered.item.responses]
    pairs = [unit.payload for unit, cut in zip(answered.units, told, strict=True) if cut]
    found = {text for pair in pairs for text in (pair.first, pair.second)}
    return sum(text in found for text in texts)


def _why(answered: Answered[Pair]) -> str:
    """Return why an item has no rewards, as the model says of its first question without an answer."""
    silent = (answered.scored[unit.key] for unit in answered.units)
    return next((scored.why for scored in silent if not isfinite(scored.reward)), "")


def _table(
    answered: Answered[Pair], edges: Sequence[tuple[int, int]]
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Return P(i better) when i is shown first, (K, K); 0.5 on the diagonal, NaN where it was not asked."""
    k = len(answered.item.responses)
    first_wins = np.full((k, k), nan)
    np.fill_diagonal(first_wins, 0.5)
    asked = np.eye(k, dtype=bool)
    for i, j in edges:
        asked[i, j] = asked[j, i] = True
    first_wins[asked & ~np.eye(k, dtype=bool)] = [answered.scored[unit.key].reward for unit in answered.units]
    return first_wins


class PartedWork:
    """Answers questions like `Work`: asks the parts one after the other and combines their rewards.

    Only this process writes the stores. Each part's batches are planned as if it were alone, so its rewards
    are the same to the last bit in any ensemble.

    Args:
        model: The model.
        stores: The stores of its parts.
        executor: Computes the answers instead of this process, with the same model.
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
        """Tokens read now by all parts."""
        return sum(work.n_tokens for work in self._works)

    def known(self, units: Sequence[Unit[Conversation]]) -> dict[str, Scored]:
        """Return the rewards of those `units` that are in the stores of all parts."""
        found = [work.known(units) for work in self._works]
        return self._combined([unit for unit in units if all(unit.key in part for part in found)], found)

    def do(self, units: Sequence[Unit[Conversation]]) -> dict[str, Scored]:
        """Return the rewards of distinct `units`.

        Raises:
            ScoringError: If a part raises or breaks its contract (the message names it); answers stay stored.
        """
        self.n_computed += len(units) - len(self.known(units))
        found = []
        for name, work in zip(self._names, self._works, strict=True):
            try:
                found.append(work.do(units))
            except UnwritableError:
                raise
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
    """Progress of texts from that of all parts: a text counts when every part has its reward."""

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
