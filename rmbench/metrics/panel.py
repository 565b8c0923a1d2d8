"""Items and rewards as columns, so that every metric is arithmetic on a few arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmbench.errors import ConfigError, ScoringError
from rmbench.stats import cluster_sums
from rmbench.stats.estimates import Floats, Ints
from rmbench.types import GOLD_KINDS, Item

INVALID_RULES = ("fail", "wrong", "drop")


@dataclass(frozen=True, slots=True)
class Panel:
    """I items with R responses in all, stored flat: item i owns rows offsets[i] to offsets[i + 1]."""

    ids: tuple[str, ...]
    """Item ids, I of them."""
    rewards: Floats
    """Model output, shape (R,); NaN where invalid."""
    gold: Floats
    """Truth, shape (R,); NaN where unknown."""
    lengths: Floats
    """Length of each response in characters, shape (R,)."""
    offsets: Ints
    """Shape (I + 1,)."""
    cluster: Ints
    """Cluster of each item as 0..n_clusters-1, in the order of the sorted cluster names, shape (I,)."""
    cluster_names: tuple[str, ...]
    strata: Mapping[str, tuple[str, ...]]
    """Stratum key -> the stratum of each item (I of them); "" where an item has none."""
    gold_kind: Ints
    """Index into `GOLD_KINDS` per item, shape (I,)."""

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

    def take(self, keep: NDArray[np.bool_]) -> "Panel":
        """Return the panel of the items where `keep` (I,) is true; cluster numbering stays."""
        index = np.flatnonzero(keep)
        rows = keep[self.item_of_row()]
        return Panel(
            ids=tuple(self.ids[i] for i in index),
            rewards=self.rewards[rows],
            gold=self.gold[rows],
            lengths=self.lengths[rows],
            offsets=np.concatenate([[0], np.cumsum(self.sizes[index])]).astype(np.int64),
            cluster=self.cluster[index],
            cluster_names=self.cluster_names,
            strata={key: tuple(values[i] for i in index) for key, values in self.strata.items()},
            gold_kind=self.gold_kind[index],
        )


def build_panel(
    *,
    ids: Sequence[str],
    rewards: Sequence[Sequence[float]],
    gold: Sequence[Sequence[float | None]],
    lengths: Sequence[Sequence[int]],
    clusters: Sequence[str],
    strata: Sequence[Mapping[str, str]],
    gold_kinds: Sequence[str],
) -> Panel:
    """Return the panel of I items given as parallel columns (the form in which records store them)."""
    for name, reward_row, gold_row in zip(ids, rewards, gold, strict=True):
        if len(reward_row) != len(gold_row):
            raise ScoringError(f"item {name!r} has {len(gold_row)} responses but {len(reward_row)} rewards")
    names, codes = np.unique(np.array(clusters, dtype=str), return_inverse=True)
    keys = sorted({key for row in strata for key in row})
    return Panel(
        ids=tuple(ids),
        rewards=_flat(rewards),
        gold=_flat(gold),
        lengths=_flat(lengths),
        offsets=np.concatenate([[0], np.cumsum([len(row) for row in rewards])]).astype(np.int64),
        cluster=codes.reshape(-1).astype(np.int64),
        cluster_names=tuple(str(n) for n in names),
        strata={key: tuple(row.get(key, "") for row in strata) for key in keys},
        gold_kind=np.array([GOLD_KINDS.index(k) for k in gold_kinds], dtype=np.int64),
    )


def panel_of(items: Sequence[Item], rewards: Sequence[Sequence[float]]) -> Panel:
    """Return the panel of `items` and one row of rewards per item (NaN: invalid)."""
    return build_panel(
        ids=[item.id for item in items],
        rewards=rewards,
        gold=[[r.gold for r in item.responses] for item in items],
        lengths=[[len(r.text) for r in item.responses] for item in items],
        clusters=[item.cluster for item in items],
        strata=[item.strata for item in items],
        gold_kinds=[item.gold_kind for item in items],
    )


def settle_invalid(panel: Panel, rule: str, *, ranking: bool) -> tuple[Panel, int]:
    """Apply the `invalid` rule to items that hold a non-finite reward.

    Args:
        panel: Any panel.
        rule: `fail` raises; `drop` leaves the item out; `wrong` takes the item's rewards to be in the worst
            possible order (the negated gold), so a model gains nothing by failing on hard items.
        ranking: Whether only the order of rewards is used. Where margins matter (calibration) there is no
            honest margin to invent, and `wrong` leaves the item out as `drop` does.

    Returns:
        The panel to measure, and the number of items concerned.

    Raises:
        ScoringError: Under `fail`, if there is one.
        ConfigError: If the rule is unknown.
    """
    if rule not in INVALID_RULES:
        raise ConfigError(f"invalid={rule!r} is not one of {', '.join(INVALID_RULES)}")
    bad_rows = ~np.isfinite(panel.rewards)
    bad = np.zeros(panel.n_items, dtype=bool)
    bad[panel.item_of_row()[bad_rows]] = True
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


def _flat(rows: Sequence[Sequence[float | None]] | Sequence[Sequence[float]]) -> Floats:
    values = [np.nan if v is None else v for row in rows for v in row]
    return np.array(values, dtype=np.float64)
