"""Run a model over items: everything the score store does not know, each text once."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, nan

import numpy as np

from rmbench.canon import conversation_key, pair_key
from rmbench.models.pairwise import rewards_from_preferences
from rmbench.scoring.plan import CHARACTERS_PER_TOKEN, DEFAULT_BATCH_TOKENS, Unit, distinct
from rmbench.scoring.store import ScoreStore
from rmbench.scoring.work import Progress, Work
from rmbench.types import (
    AnyModel,
    Conversation,
    Item,
    Pair,
    PairwiseModel,
    PrecomputedRewards,
    RewardModel,
    SizedModel,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """Rewards of items, and what it took."""

    rewards: tuple[tuple[float, ...], ...]
    """One row per item, one reward per response; NaN where the model gave none that is finite."""
    n_truncated: int | None
    """Responses whose text was cut to fit the model; None where it does not say."""
    n_invalid: int
    """Responses without a finite reward."""
    n_units: int
    """Distinct texts (or ordered pairs) the items need."""
    n_computed: int
    """Of these, how many the model was asked for now."""
    n_tokens: int
    """Tokens of the computed ones, as far as the model says."""
    wall_s: float
    """Seconds spent in the model and the store."""
    flips: tuple[int, ...] | None
    """Pairwise models: per item, pairs whose winner depends on the order shown."""
    comparisons: tuple[int, ...] | None
    """Pairwise models: per item, pairs compared."""


def score_items(
    model: AnyModel,
    items: Sequence[Item],
    store: ScoreStore,
    *,
    batch_tokens: int = DEFAULT_BATCH_TOKENS,
    progress: Progress | None = None,
) -> Scoring:
    """Return the rewards of `items`.

    Args:
        model: Any of the three kinds of model.
        items: What to score.
        store: The score store of this model's fingerprint (unused for precomputed rewards).
        batch_tokens: Most padded tokens that a model is given at once.
        progress: Told of the work.

    Raises:
        ScoringError: If the model raises or breaks its contract; what was scored before stays stored.
    """
    started = time.perf_counter()
    if isinstance(model, PrecomputedRewards):
        return _look_up(model, items, started)
    if isinstance(model, PairwiseModel):
        return _play_round_robin(model, items, store, batch_tokens, progress, started)
    return _score_conversations(model, items, store, batch_tokens, progress, started)


def _look_up(model: PrecomputedRewards, items: Sequence[Item], started: float) -> Scoring:
    rows = tuple(tuple(float(v) for v in row) for row in model.rewards(items))
    n_responses = sum(len(item.responses) for item in items)
    return Scoring(
        rewards=rows,
        n_truncated=None,
        n_invalid=sum(not isfinite(v) for row in rows for v in row),
        n_units=n_responses,
        n_computed=0,
        n_tokens=0,
        wall_s=time.perf_counter() - started,
        flips=None,
        comparisons=None,
    )


def _score_conversations(
    model: RewardModel,
    items: Sequence[Item],
    store: ScoreStore,
    batch_tokens: int,
    progress: Progress | None,
    started: float,
) -> Scoring:
    keys = [[conversation_key(item.conversation(k)) for k in range(len(item.responses))] for item in items]
    units = distinct(_conversations(items, keys))
    done = Work(store, model.score, _conversation_lengths(model), progress).do(units, batch_tokens)
    flat = [done.scored[key] for row in keys for key in row]
    unknown = any(s.truncated is None for s in flat)
    return Scoring(
        rewards=tuple(tuple(done.scored[key].reward for key in row) for row in keys),
        n_truncated=None if unknown else sum(bool(s.truncated) for s in flat),
        n_invalid=sum(not isfinite(s.reward) for s in flat),
        n_units=len(units),
        n_computed=done.n_computed,
        n_tokens=done.n_tokens,
        wall_s=time.perf_counter() - started,
        flips=None,
        comparisons=None,
    )


def _conversations(items: Sequence[Item], keys: Sequence[Sequence[str]]) -> Iterator[Unit[Conversation]]:
    for item, row in zip(items, keys, strict=True):
        for k, key in enumerate(row):
            yield Unit(key, item.conversation(k))


def _play_round_robin(
    model: PairwiseModel,
    items: Sequence[Item],
    store: ScoreStore,
    batch_tokens: int,
    progress: Progress | None,
    started: float,
) -> Scoring:
    """Ask for every ordered pair of every item: both orders, K (K - 1) questions for K responses."""

    def key_of(item: Item, i: int, j: int) -> str:
        return pair_key(item.prompt, item.responses[i].text, item.responses[j].text)

    units = distinct(
        Unit(key_of(item, i, j), Pair(item.prompt, item.responses[i].text, item.responses[j].text))
        for item in items
        for i in range(len(item.responses))
        for j in range(len(item.responses))
        if i != j
    )
    work = Work(store, model.prefer, _pair_lengths, progress, fraction=True)
    done = work.do(units, batch_tokens)
    rewards, flips, comparisons, n_invalid = [], [], [], 0
    for item in items:
        k = len(item.responses)
        first_wins = np.full((k, k), 0.5)
        for i in range(k):
            for j in range(k):
                if i != j:
                    first_wins[i, j] = done.scored[key_of(item, i, j)].reward
        if not np.isfinite(first_wins).all():
            rewards.append((nan,) * k)
            n_invalid += k
            flips.append(0)
            comparisons.append(0)
            continue
        row, n_pairs, n_flips = rewards_from_preferences(first_wins)
        rewards.append(tuple(float(v) for v in row))
        flips.append(n_flips)
        comparisons.append(n_pairs)
    return Scoring(
        rewards=tuple(rewards),
        n_truncated=None,
        n_invalid=n_invalid,
        n_units=len(units),
        n_computed=done.n_computed,
        n_tokens=done.n_tokens,
        wall_s=time.perf_counter() - started,
        flips=tuple(flips),
        comparisons=tuple(comparisons),
    )


def _conversation_lengths(model: RewardModel) -> Callable[[Sequence[Conversation]], Sequence[int]]:
    if isinstance(model, SizedModel):
        return model.lengths
    return lambda batch: [_tokens(sum(len(t["content"]) for t in turns)) for turns in batch]


def _pair_lengths(batch: Sequence[Pair]) -> Sequence[int]:
    return [_tokens(sum(len(t["content"]) for t in p.prompt) + len(p.first) + len(p.second)) for p in batch]


def _tokens(characters: int) -> int:
    return 1 + characters // CHARACTERS_PER_TOKEN
