"""Items on which models part: what each makes of an item, and where that differs most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmbench.metrics import Panel
from rmbench.metrics.pairs import pairs_of
from rmbench.metrics.panel import invalid_items, settle_invalid
from rmbench.metrics.selection import Rule, expectation, penalised, rule_of
from rmbench.record_reader import StoredRun


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One item on which models part."""

    item: str
    values: tuple[float, ...]
    """Of each model: share of the item's pairs in gold's order, or gold of the pick; NaN for none. It is what
    the task's headline is made of."""

    @property
    def first(self) -> float:
        """The first model's value."""
        return self.values[0]

    @property
    def second(self) -> float:
        """The second model's value."""
        return self.values[1]


def worst(ids: Sequence[str], values: np.ndarray, n_items: int) -> tuple[Disagreement, ...]:
    """Return the items on which models part most, those first; `values` has shape (models, items)."""
    known = ~np.isnan(values)
    high, low = (np.where(known, values, edge) for edge in (-np.inf, np.inf))
    gap = np.where(known.sum(axis=0) > 1, high.max(axis=0) - low.min(axis=0), -1.0)
    order = np.lexsort((np.arange(len(gap)), -gap))[:n_items]
    return tuple(Disagreement(ids[i], tuple(map(float, values[:, i]))) for i in order if gap[i] > 0)


def per_item(panel: Panel, run: StoredRun) -> tuple[str, np.ndarray]:
    """Return what is compared item by item, and its value per item (NaN where it has none)."""
    params = run.record.identity["task"]["params"]
    invalid = str(params.get("invalid", "fail"))
    if "best_of_n" in run.record.identity["task"]["kinds"]:
        rule = rule_of(params)
        panel = penalised(panel, rule)
        if invalid == "wrong" and not rule.needs_scale:
            panel, _ = settle_invalid(panel, invalid, ranking=True)
        return "gold of the pick out of the whole pool", _gold_of_pick(panel, rule)
    pairs = pairs_of(panel)
    credit = (pairs.margin > 0) + 0.5 * (pairs.margin == 0)
    n = np.bincount(pairs.item, minlength=panel.n_items)
    total = np.bincount(pairs.item, weights=credit, minlength=panel.n_items)
    share = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    if invalid == "drop":
        share[invalid_items(panel)] = np.nan
    return "share of pairs ranked as gold does", share


def _gold_of_pick(panel: Panel, rule: Rule) -> np.ndarray:
    picked = np.full(panel.n_items, np.nan)
    rng = np.random.default_rng(0)
    for i in range(panel.n_items):
        rows = slice(int(panel.offsets[i]), int(panel.offsets[i + 1]))
        rewards, gold = panel.rewards[None, rows], panel.gold[None, rows]
        if np.isfinite(rewards).all():
            size = rewards.shape[1]
            picked[i] = expectation(rule, size, (size,), rng)(rewards, [gold])[0][0, 0]
    return picked
