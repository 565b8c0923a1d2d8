"""Pairs out of items: every two responses of an item whose gold tells them apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmbench.metrics.panel import Panel
from rmbench.stats.clusters import Floats, Ints
from rmbench.types import GOLD_KINDS

_PROBABILITY = GOLD_KINDS.index("probability")
_LABEL = GOLD_KINDS.index("label")


@dataclass(frozen=True, slots=True)
class Pairs:
    """P pairs, the first response being the one that gold prefers ("chosen")."""

    item: Ints
    """Item of each pair, shape (P,)."""
    chosen: Ints
    """Row of the response with the higher gold, shape (P,)."""
    rejected: Ints
    """Row of the other, shape (P,)."""
    cluster: Ints
    """Cluster of each pair, shape (P,)."""
    margin: Floats
    """Reward of chosen minus reward of rejected, shape (P,); infinite, of the right sign, where two finite
    rewards lie further apart than a float can say."""
    label: Floats
    """P(chosen is better) according to the data: 1, or a soft label in (0.5, 1], shape (P,)."""
    strength: Floats
    """Gold of chosen minus gold of rejected, shape (P,); NaN where gold is a bare label."""
    length_difference: Floats
    """Characters of chosen minus characters of rejected, shape (P,)."""
    split: Pairs | None
    """Pairs with a soft label of exactly 0.5: no order to get right, but a probability to match."""
    n_gold_ties: int
    """Pairs left out because both have the same gold (the split ones included)."""

    def __len__(self) -> int:
        return len(self.item)


def pairs_of(panel: Panel) -> Pairs:
    """Return all pairs of `panel` within items, K (K - 1) / 2 at most per item, in item order."""
    item, first, second = _all_pairs(panel)
    known = np.isfinite(panel.gold[first]) & np.isfinite(panel.gold[second])
    item, first, second = item[known], first[known], second[known]
    swap = panel.gold[second] > panel.gold[first]
    chosen, rejected = np.where(swap, second, first), np.where(swap, first, second)
    tied = panel.gold[chosen] == panel.gold[rejected]
    soft = panel.gold_kind[item] == _PROBABILITY
    split = _make(panel, item[tied & soft], chosen[tied & soft], rejected[tied & soft], None, 0)
    keep = ~tied
    return _make(panel, item[keep], chosen[keep], rejected[keep], split, int(tied.sum()))


def _make(panel: Panel, item: Ints, chosen: Ints, rejected: Ints, split: Pairs | None, n_ties: int) -> Pairs:
    kind = panel.gold_kind[item]
    gold_difference = panel.gold[chosen] - panel.gold[rejected]
    with np.errstate(over="ignore"):  # the order of two rewards near the largest float is still theirs
        margin = panel.rewards[chosen] - panel.rewards[rejected]
    return Pairs(
        item=item,
        chosen=chosen,
        rejected=rejected,
        cluster=panel.cluster[item],
        margin=margin,
        label=np.where(kind == _PROBABILITY, panel.gold[chosen], 1.0),
        strength=np.where(kind == _LABEL, np.nan, gold_difference),
        length_difference=panel.lengths[chosen] - panel.lengths[rejected],
        split=split,
        n_gold_ties=n_ties,
    )


def _all_pairs(panel: Panel) -> tuple[Ints, Ints, Ints]:
    """Return (item, first row, second row) of every unordered pair within an item, in item order."""
    items, firsts, seconds = [], [], []
    sizes = panel.sizes
    for size in np.unique(sizes):
        which = np.flatnonzero(sizes == size)
        i, j = np.triu_indices(int(size), 1)
        starts = panel.offsets[which][:, None]
        items.append(np.repeat(which, len(i)))
        firsts.append((starts + i).ravel())
        seconds.append((starts + j).ravel())
    if not items:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, empty
    item, first, second = np.concatenate(items), np.concatenate(firsts), np.concatenate(seconds)
    order = np.lexsort((second, first, item))
    return item[order], first[order], second[order]


def reward_tie_sizes(panel: Panel) -> Ints:
    """Return for each response how many responses of its item share its reward, itself included, (R,)."""
    item = panel.item_of_row()
    order = np.lexsort((panel.rewards, item))
    rewards, owner = panel.rewards[order], item[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (rewards[1:] != rewards[:-1]) | (owner[1:] != owner[:-1])
    block = np.cumsum(new) - 1
    sizes = np.empty(len(order), dtype=np.int64)
    sizes[order] = np.bincount(block)[block]
    return sizes
