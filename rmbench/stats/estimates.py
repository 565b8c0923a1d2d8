"""Means and ratios over clusters as statistics; the influence of any smooth statistic by the jackknife."""

import numpy as np

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


def jackknife_groups(cluster: Ints, *, seed: int, n_groups: int = 100) -> tuple[Ints, int]:
    """Deal clusters at random (seeded) into at most `n_groups` groups, to be left out one after another.

    Args:
        cluster: Cluster of each observation, shape (n,).
        seed: Deals the groups.
        n_groups: Most groups.

    Returns:
        Group of each observation, shape (n,), and the number of groups G, which is what is independent.
    """
    present, place = np.unique(cluster, return_inverse=True)
    groups = min(n_groups, len(present))
    dealt = np.random.default_rng(seed).permutation(len(present)) % groups
    return dealt[place.reshape(-1)], groups


def jackknife_influence(left_out: Floats, group: Ints, cluster: Ints, n_clusters: int) -> Floats:
    """Return the influence of clusters on any smooth statistic, by leaving groups of clusters out.

    The influence of a group is written on its first cluster; the others get 0.

    Args:
        left_out: The statistic without each group, shape (G,).
        group: Group of each observation, from `jackknife_groups`, shape (n,).
        cluster: Cluster of each observation, shape (n,).
        n_clusters: Number of clusters.

    Returns:
        Influence per cluster, shape (n_clusters,).

    Source: delete-a-group jackknife, Kott 2001, J. Official Statistics 17(4).
    """
    g = len(left_out)
    influence = np.zeros(n_clusters)
    firsts = [int(cluster[group == k].min()) for k in range(g)]
    # (G-1)/G (mean - left_out) sums to 0 and its squares sum to the jackknife variance x (G-1)/G.
    influence[firsts] = (g - 1) / g * (left_out.mean() - left_out)
    return influence
