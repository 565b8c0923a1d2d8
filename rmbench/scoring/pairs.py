"""Asks a pairwise model chosen pairs of texts, where `score_items` asks every ordered pair of an item."""

from collections.abc import Sequence
from dataclasses import dataclass

from rmbench.core.files import pair_key
from rmbench.models.messages import text_alone
from rmbench.scoring.executor import executor_of
from rmbench.scoring.plan import DEFAULT_BATCH_TOKENS, Unit, pair_measure
from rmbench.scoring.store import ScoreStore
from rmbench.scoring.work import Flow, Progress, Work
from rmbench.types import BudgetedModel, Item, Pair, PairwiseModel, Scored


@dataclass(frozen=True, slots=True)
class Preferences:
    """Answers of a pairwise model to chosen pairs."""

    answers: list[list[Scored]]
    """One row per item, one answer per pair: P(first is better), NaN where the model gave none."""
    n_units: int
    """Number of distinct questions."""
    n_computed: int
    """Number of these that the model answered now."""


def prefer_pairs(
    model: PairwiseModel,
    items: Sequence[Item],
    pairs: Sequence[Sequence[tuple[str, str]]],
    store: ScoreStore,
    *,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> Preferences:
    """Return P(first is better) for pairs of replies, in the order shown.

    Args:
        model: The model.
        items: Give the prompts; their ids are unique.
        pairs: (first, second) texts, a row per item.
        store: The score store of the model's fingerprint.
        batch_tokens: Most tokens of a batch; None for the model's own budget.
        progress: Gets the progress.

    Raises:
        ScoringError: If the model raises or breaks its contract; answers so far stay stored.
        UnwritableError: If a response calls tools: a pairwise model gets texts.
    """
    rows = {item.id: row for item, row in zip(items, pairs, strict=True)}
    if batch_tokens is None:
        batch_tokens = model.batch_tokens() if isinstance(model, BudgetedModel) else DEFAULT_BATCH_TOKENS

    def units_of(item: Item) -> list[Unit[Pair]]:
        text_alone((response.turn for response in item.responses), f"a pairwise model (item {item.id})")
        return [Unit(pair_key(item.prompt, a, b), Pair(item.prompt, a, b)) for a, b in rows[item.id]]

    if progress:
        progress.start(sum(map(len, pairs)))
    with executor_of(model, model.prefer, None) as ready:
        work = Work[Pair](store, ready, pair_measure(), batch_tokens, progress, fraction=True)
        flow = Flow(work, units_of, None, progress)
        answers = [[a.scored[unit.key] for unit in a.units] for a in flow.answer(items)]
    return Preferences(answers, flow.n_units, work.n_computed)
