"""Panels: items and rewards as columns, so that every metric is arithmetic on a few arrays.

Pairs of a panel are every two responses of an item with different gold. Folds are whole clusters, dealt by
seed.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from sys import intern

import numpy as np
from numpy.typing import NDArray

from rmbench.errors import ConfigError, ScoringError
from rmbench.stats import cluster_sums
from rmbench.stats.clusters import Floats, Ints
from rmbench.types import GOLD_KINDS, Item

INVALID_RULES = ("fail", "wrong", "drop")


@dataclass(frozen=True, slots=True)
class Panel:
    """I items with R responses, stored flat: item i owns rows offsets[i] to offsets[i + 1]."""

    ids: tuple[str, ...]
    """I item ids."""
    rewards: Floats
    """Rewards of the model, shape (R,); NaN where invalid."""
    gold: Floats
    """Gold, shape (R,); NaN where unknown."""
    lengths: Floats
    """Length of each response in characters, shape (R,)."""
    logprobs: Floats
    """Log-probability of each response under its sampling policy, nats, shape (R,); NaN where unknown."""
    offsets: Ints
    """Shape (I + 1,)."""
    cluster: Ints
    """Cluster of each item as 0..n_clusters-1, in the order of the sorted cluster names, shape (I,)."""
    cluster_names: tuple[str, ...]
    strata: Mapping[str, tuple[str, ...]]
    """Stratum key -> the stratum of each item (I of them); "" where an item has none."""
    gold_kind: Ints
    """Index into `GOLD_KINDS` per item, shape (I,)."""
    flips: Ints | None = None
    """Pairwise models: per item, pairs whose winner depends on the order shown, shape (I,); None: rewards."""
    votes: Ints | None = None
    """Annotators per item for the first of two responses, the second, and neither, shape (I, 3); a row of 0
    if the votes are not known. None: known for no item."""
    comparisons: Ints | None = None
    """Pairwise models: per item, pairs compared in both orders, shape (I,); None: rewards."""
    contradictions: Ints | None = None
    """Judges that vote: per item, pairs of votes on one question that contradict each other, and all pairs of
    votes, shape (I, 2); None: no votes."""

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.ids)

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.cluster_names)

    @property
    def sizes(self) -> Ints:
        """Responses per item, shape (I,)."""
        return np.diff(self.offsets)

    def item_of_row(self) -> Ints:
        """Return the item that each response belongs to, shape (R,)."""
        return np.repeat(np.arange(self.n_items), self.sizes)

    def per_cluster(self, values: Floats) -> Floats:
        """Return sums of per-item values (I,) within each cluster."""
        return cluster_sums(values, self.cluster, self.n_clusters)

    def take(self, keep: NDArray[np.bool_]) -> Panel:
        """Return the panel of the items where `keep` (I,) is true; cluster numbering stays."""
        index = np.flatnonzero(keep)
        rows = keep[self.item_of_row()]
        return Panel(
            ids=tuple(self.ids[i] for i in index),
            rewards=self.rewards[rows],
            gold=self.gold[rows],
            lengths=self.lengths[rows],
            logprobs=self.logprobs[rows],
            offsets=np.concatenate([[0], np.cumsum(self.sizes[index])]).astype(np.int64),
            cluster=self.cluster[index],
            cluster_names=self.cluster_names,
            strata={key: tuple(values[i] for i in index) for key, values in self.strata.items()},
            gold_kind=self.gold_kind[index],
            flips=None if self.flips is None else self.flips[index],
            votes=None if self.votes is None else self.votes[index],
            comparisons=None if self.comparisons is None else self.comparisons[index],
            contradictions=None if self.contradictions is None else self.contradictions[index],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelRow:
    """One item of a panel: everything that metrics depend on, without texts."""

    id: str
    rewards: Sequence[float]
    """One reward per response; NaN where invalid."""
    gold: Sequence[float | None]
    lengths: Sequence[int]
    """Length of each response in characters."""
    cluster: str
    strata: Mapping[str, str]
    gold_kind: str
    logprobs: Sequence[float | None] | None = None
    """Log-probability of each response, nats; None: unknown for all."""
    votes: Sequence[int] | None = None
    """Annotators for the first of two responses, for the second, and for neither; None: not known."""


def build_panel(rows: Iterable[PanelRow]) -> Panel:
    """Return the panel of items that come one at a time; only its columns are kept.

    Raises:
        ScoringError: If an item does not have one reward per response.
    """
    ids, clusters, strata = list[str](), list[str](), dict[str, list[str]]()
    rewards, gold, lengths, logprobs = array("d"), array("d"), array("d"), array("d")
    sizes, kinds, votes = array("q"), array("q"), array("q")
    for row in rows:
        if len(row.rewards) != len(row.gold):
            raise ScoringError(
                f"item {row.id!r} has {len(row.gold)} responses but {len(row.rewards)} rewards"
            )
        for key in row.strata.keys() - strata.keys():
            strata[key] = [""] * len(ids)
        for key, values in strata.items():
            values.append(intern(row.strata.get(key, "")))
        ids.append(row.id)
        clusters.append(row.cluster)
        rewards.extend(row.rewards)
        gold.extend(nan if g is None else g for g in row.gold)
        lengths.extend(row.lengths)
        logprobs.extend(nan if v is None else v for v in row.logprobs or [None] * len(row.rewards))
        sizes.append(len(row.rewards))
        kinds.append(GOLD_KINDS.index(row.gold_kind))
        votes.extend(row.votes or (0, 0, 0))
    # Not numpy's own texts: those drop a null character at the end, and all are as long as the longest.
    names = sorted(set(clusters))
    code_of = {name: code for code, name in enumerate(names)}
    return Panel(
        ids=tuple(ids),
        rewards=np.array(rewards, dtype=np.float64),
        gold=np.array(gold, dtype=np.float64),
        lengths=np.array(lengths, dtype=np.float64),
        logprobs=np.array(logprobs, dtype=np.float64),
        offsets=np.concatenate([[0], np.cumsum(np.array(sizes, dtype=np.int64))]).astype(np.int64),
        cluster=np.array([code_of[name] for name in clusters], dtype=np.int64),
        cluster_names=tuple(names),
        strata={key: tuple(strata[key]) for key in sorted(strata)},
        gold_kind=np.array(kinds, dtype=np.int64),
        votes=np.array(votes, dtype=np.int64).reshape(-1, 3) if any(votes) else None,
    )


def panel_of(items: Iterable[Item], rewards: Iterable[Sequence[float]]) -> Panel:
    """Return the panel of `items` and one row of rewards per item (NaN: invalid)."""
    return build_panel(
        PanelRow(
            id=item.id,
            rewards=row,
            gold=[r.gold for r in item.responses],
            lengths=[len(r.text) for r in item.responses],
            cluster=item.cluster,
            strata=item.strata,
            gold_kind=item.gold_kind,
            logprobs=[r.logprob for r in item.responses],
            votes=item.votes,
        )
        for item, row in zip(items, rewards, strict=True)
    )


def invalid_items(panel: Panel) -> NDArray[np.bool_]:
    """Return which items hold a reward that is not finite, shape (I,)."""
    bad = np.zeros(panel.n_items, dtype=bool)
    bad[panel.item_of_row()[~np.isfinite(panel.rewards)]] = True
    return bad


def left_out_items(panel: Panel, rule: str, *, ranking: bool) -> NDArray[np.bool_] | None:
    """Return which items `settle_invalid` leaves out under the same arguments, shape (I,); None for none."""
    if rule != "drop" and (ranking or rule != "wrong"):
        return None
    bad = invalid_items(panel)
    return bad if bad.any() else None


def settle_invalid(panel: Panel, rule: str, *, ranking: bool) -> tuple[Panel, int]:
    """Apply the `invalid` rule to items that hold a non-finite reward.

    Args:
        panel: Any panel.
        rule: `fail` raises; `drop` leaves the item out; `wrong` replaces the item's rewards by the worst
            possible order (the negated gold), so a model gains nothing by failing on hard items.
        ranking: True if only the order of rewards is used. If margins matter (calibration), no margin can be
            made up, and `wrong` leaves the item out like `drop`.

    Returns:
        The panel to measure, and the number of items with an invalid reward.

    Raises:
        ScoringError: Under `fail`, if there is an invalid reward.
        ConfigError: If the rule is unknown.
    """
    if rule not in INVALID_RULES:
        raise ConfigError(f"invalid={rule!r} is not one of {', '.join(INVALID_RULES)}")
    bad_rows, bad = ~np.isfinite(panel.rewards), invalid_items(panel)
    count = int(bad.sum())
    if count == 0:
        return panel, 0
    if rule == "fail":
        first = panel.ids[int(np.flatnonzero(bad)[0])]
        raise ScoringError(
            f"{int(bad_rows.sum())} of {len(bad_rows)} rewards are not finite, in {count} of "
            f"{panel.n_items} items (first: {first!r}); -T invalid=wrong counts these items as wrong, "
            f"-T invalid=drop leaves them out"
        )
    if rule == "drop" or not ranking:
        return panel.take(~bad), count
    rows = bad[panel.item_of_row()]
    rewards = panel.rewards.copy()
    rewards[rows] = -panel.gold[rows]
    return Panel(**{**{f: getattr(panel, f) for f in panel.__slots__}, "rewards": rewards}), count


_PROBABILITY = GOLD_KINDS.index("probability")
_LABEL = GOLD_KINDS.index("label")


@dataclass(frozen=True, slots=True)
class Pairs:
    """P pairs; the first response of each has the higher gold ("chosen")."""

    item: Ints
    """Item of each pair, shape (P,)."""
    chosen: Ints
    """Row of the response with the higher gold, shape (P,)."""
    rejected: Ints
    """Row of the other, shape (P,)."""
    cluster: Ints
    """Cluster of each pair, shape (P,)."""
    margin: Floats
    """Reward of chosen minus reward of rejected, shape (P,); infinite, with the right sign, if the difference
    of two finite rewards overflows."""
    label: Floats
    """P(chosen is better) according to the data: 1, or a soft label in (0.5, 1], shape (P,)."""
    strength: Floats
    """Gold of chosen minus gold of rejected, shape (P,); NaN if gold is only a label."""
    length_difference: Floats
    """Characters of chosen minus characters of rejected, shape (P,)."""
    split: Pairs | None
    """Pairs with a soft label of exactly 0.5: they have no order, but a probability."""
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
    with np.errstate(over="ignore"):  # two rewards near the largest float keep their order
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
    """Return, for each response, the number of responses of its item with the same reward, shape (R,)."""
    item = panel.item_of_row()
    order = np.lexsort((panel.rewards, item))
    rewards, owner = panel.rewards[order], item[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (rewards[1:] != rewards[:-1]) | (owner[1:] != owner[:-1])
    block = np.cumsum(new) - 1
    sizes = np.empty(len(order), dtype=np.int64)
    sizes[order] = np.bincount(block)[block]
    return sizes


def folds_of(cluster: Ints, n_folds: int, seed: int) -> Ints:
    """Return the fold (0 ...) of each observation, shape like `cluster`; a cluster is never split.

    With fewer clusters than `n_folds`, each cluster is a fold.
    """
    present, index = np.unique(cluster, return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(len(present)) % min(n_folds, len(present))
    return np.asarray(dealt[index.reshape(-1)], dtype=np.int64)
