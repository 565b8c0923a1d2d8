"""Means and ratios over clusters as statistics; the influence of any smooth statistic by the jackknife."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rmbench.stats.clusters import Floats, Ints
from rmbench.stats.statistic import Statistic


def cluster_sums(values: Floats, cluster: Ints, n_clusters: int) -> Floats:
    """Return the sum of `values` (n,) within each cluster, shape (n_clusters,)."""
    return np.bincount(cluster, weights=values, minlength=n_clusters).astype(np.float64, copy=False)


def shares(cluster: Ints, n_clusters: int) -> Floats:
    """Return the share of the observations `cluster` (n,) that each cluster holds, shape (n_clusters,)."""
    return np.bincount(cluster, minlength=n_clusters) / max(1, len(cluster))


def ratio(
    numerator: Floats,
    denominator: Floats,
    *,
    n: int,
    unit: str = "fraction",
    higher_is_better: bool | None = True,
    bounded: bool = False,
    limits: tuple[float, float] | None = None,
    present: Floats | None = None,
) -> Statistic:
    """Return sum(numerator) / sum(denominator) over clusters, linearised.

    Args:
        numerator: Per-cluster sums, shape (C,).
        denominator: Per-cluster sums, shape (C,), none negative; the total must not be 0.
        n: Observations behind it.
        unit: Unit of the ratio.
        higher_is_better: Direction.
        bounded: True if it is a mean of values in [0, 1].
        limits: Least and greatest ratio within a cluster, where they are known and not 0 and 1.
        present: Observations per cluster, shape (C,), where the denominator is not a count.

    Source: Taylor linearisation of a ratio, e.g. Cochran 1977, section 6.
    """
    total = float(denominator.sum())
    value = float(numerator.sum()) / total
    counts = denominator if present is None else present
    return Statistic(
        value=value,
        influence=(numerator - value * denominator) / total,
        share=denominator / total,
        n=n,
        n_clusters=int(np.count_nonzero(counts)),
        unit=unit,
        higher_is_better=higher_is_better,
        bounded=bounded,
        limits=limits,
        linear=True,
    )


def mean(
    values: Floats,
    cluster: Ints,
    n_clusters: int,
    *,
    unit: str = "fraction",
    higher_is_better: bool | None = True,
    bounded: bool = False,
) -> Statistic:
    """Return the mean of `values` (n,), n >= 1, every observation weighing the same."""
    return ratio(
        cluster_sums(values, cluster, n_clusters),
        np.bincount(cluster, minlength=n_clusters).astype(np.float64),
        n=len(values),
        unit=unit,
        higher_is_better=higher_is_better,
        bounded=bounded,
    )


def grouped_jackknife(
    statistic: Callable[[NDArray[np.bool_]], float],
    cluster: Ints,
    n_clusters: int,
    *,
    seed: int,
    n_groups: int = 100,
) -> tuple[Floats, int]:
    """Return the influence of clusters on any smooth statistic, by leaving groups of clusters out.

    Clusters are dealt at random (seeded) into at most `n_groups` groups, so the cost is that many
    evaluations. The influence of a group is written on its first cluster; the others get 0.

    Args:
        statistic: Value of the statistic on the observations where the mask (n,) is true.
        cluster: Cluster of each observation, shape (n,).
        n_clusters: Number of clusters.
        seed: Deals the groups.
        n_groups: Most groups.

    Returns:
        Influence per cluster, shape (n_clusters,), and the number of groups, which is what is independent.

    Source: delete-a-group jackknife, Kott 2001, J. Official Statistics 17(4).
    """
    present = np.unique(cluster)
    groups = min(n_groups, len(present))
    dealt = np.random.default_rng(seed).permutation(len(present)) % groups
    group_of = np.zeros(n_clusters, dtype=np.int64)
    group_of[present] = dealt
    member = group_of[cluster]
    left_out = np.array([statistic(member != g) for g in range(groups)])
    influence = np.zeros(n_clusters)
    firsts = present[[int(np.flatnonzero(dealt == g)[0]) for g in range(groups)]]
    # (G-1)/G (mean - left_out) sums to 0 and its squares sum to the jackknife variance x (G-1)/G.
    influence[firsts] = (groups - 1) / groups * (left_out.mean() - left_out)
    return influence, groups
