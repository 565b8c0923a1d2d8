"""Items on which models disagree most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmbench.metrics import Panel
from rmbench.metrics.panel import invalid_items, pairs_of, settle_invalid
from rmbench.metrics.selection import Rule, expectation, penalised, rule_of
from rmbench.results.run import Run


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One item on which models disagree."""

    item: str
    values: tuple[float, ...]
    """Value of each model: share of the item's pairs in gold's order, or gold of the pick; NaN if it has no
    value. The task's headline is a mean of these values."""

    @property
    def first(self) -> float:
        """The first model's value."""
        return self.values[0]

    @property
    def second(self) -> float:
        """The second model's value."""
        return self.values[1]


def worst(ids: Sequence[str], values: np.ndarray, n_items: int) -> tuple[Disagreement, ...]:
    """Return the items on which models disagree, largest differences first; `values` is (models, items)."""
    known = ~np.isnan(values)
    high, low = (np.where(known, values, edge) for edge in (-np.inf, np.inf))
    gap = np.where(known.sum(axis=0) > 1, high.max(axis=0) - low.min(axis=0), -1.0)
    order = np.lexsort((np.arange(len(gap)), -gap))[:n_items]
    return tuple(Disagreement(ids[i], tuple(map(float, values[:, i]))) for i in order if gap[i] > 0)


def per_item(run: Run) -> tuple[str, np.ndarray]:
    """Return the meaning of the values that are compared item by item, and the value of each item, or NaN."""
    panel, params = run.panel, run.params
    invalid = str(params.get("invalid", "fail"))
    if "best_of_n" in run.kinds:
        rule = rule_of(params)
        if invalid == "wrong" and not rule.needs_scale:
            panel, _ = settle_invalid(panel, invalid, ranking=True)
        return "gold of the pick out of the whole pool", gold_of_pick(panel, rule)
    pairs = pairs_of(panel)
    credit = (pairs.margin > 0) + 0.5 * (pairs.margin == 0)
    n = np.bincount(pairs.item, minlength=panel.n_items)
    total = np.bincount(pairs.item, weights=credit, minlength=panel.n_items)
    share = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    if invalid == "drop":
        share[invalid_items(panel)] = np.nan
    return "share of pairs ranked as gold does", share


def gold_of_pick(panel: Panel, rule: Rule) -> np.ndarray:
    """Return the expected gold of the response that a rule picks from each whole pool, shape (items,).

    An item with a reward that is not finite has NaN.
    """
    panel = penalised(panel, rule)
    picked = np.full(panel.n_items, np.nan)
    rng = np.random.default_rng(0)
    for i in range(panel.n_items):
        rows = slice(int(panel.offsets[i]), int(panel.offsets[i + 1]))
        rewards, gold = panel.rewards[None, rows], panel.gold[None, rows]
        if np.isfinite(rewards).all():
            size = rewards.shape[1]
            picked[i] = expectation(rule, size, (size,), rng)(rewards, [gold])[0][0, 0]
    return picked
