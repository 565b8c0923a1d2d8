"""Means and ratios over clusters as statistics; the influence of any smooth statistic by the jackknife.

The module also combines statistics over the same clusters: weighted sums, paired differences, renumbering.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rmbench.stats.clusters import Floats, Ints, Stratum
from rmbench.stats.statistic import Statistic, few_decide


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
        n: Number of observations.
        unit: Unit of the ratio.
        higher_is_better: Direction of the metric.
        bounded: True for a mean of values in [0, 1].
        limits: Least and greatest ratio within a cluster, if known and other than 0 and 1.
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
    """Return the mean of `values` (n,), n >= 1; all observations have the same weight."""
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
        Group of each observation, shape (n,), and the number of (independent) groups G.
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


def combine(
    parts: Sequence[Statistic], weights: Sequence[float] | None = None, *, n: int | None = None
) -> Statistic:
    """Return the weighted sum (default: plain mean) of statistics over the *same* clusters.

    Args:
        parts: At least one; those whose clusters hold the same shares are one stratum of the sum.
        weights: One per part.
        n: Number of observations, if parts share theirs; None: the sum over the parts.
    """
    share = [1.0 / len(parts)] * len(parts) if weights is None else list(weights)
    known = all(p.influence is not None for p in parts)
    together = None
    if known:
        together = np.sum(
            [w * p.influence for w, p in zip(share, parts, strict=True) if p.influence is not None], axis=0
        )
    mixture = min(share) >= 0.0 and abs(sum(share) - 1.0) < 1e-9
    strata = _joined(parts, share) if known else ()
    present = np.concatenate([t.index for t in strata]) if strata else np.zeros(0, dtype=np.int64)
    jackknifed = all(p.share is None and not p.strata for p in parts)
    value = float(sum(w * p.value for w, p in zip(share, parts, strict=True)))
    bounded = mixture and all(p.bounded for p in parts)
    return replace(
        parts[0],
        value=min(max(value, 0.0), 1.0) if bounded else value,  # rounding must not lead out of [0, 1]
        influence=together,
        share=parts[0].share if len(strata) == 1 and not jackknifed else None,
        # What the jackknife leaves is complete: it has no shares that terms could differ in.
        strata=strata if len(strata) > 1 and not jackknifed else (),
        n=sum(p.n for p in parts) if n is None else n,
        n_clusters=max(p.n_clusters for p in parts) if jackknifed else len(np.unique(present)),
        n_groups=_groups(parts) if jackknifed else None,
        bounded=bounded,
        limits=_limits(parts, share),
        linear=all(p.linear for p in parts),
        ci95=None,
        remark="",  # a part's remark is on that part
    )


def _groups(parts: Sequence[Statistic]) -> int | None:
    """Return how many groups a jackknife of any of the parts left out, at most; None without groups."""
    grouped = any(p.n_groups for p in parts)
    return max(p.n_groups or p.n_clusters for p in parts) if grouped else None


def _joined(parts: Sequence[Statistic], weights: Sequence[float]) -> tuple[Stratum, ...]:
    """Return the strata of a weighted sum; terms over the same clusters with the same shares become one."""
    found: list[Stratum] = []
    for part, weight in zip(parts, weights, strict=True):
        for term in part.terms:
            if len(term.index) == 0:
                continue
            scaled = replace(term, influence=weight * term.influence, weight=weight * term.weight)
            place = next((k for k, other in enumerate(found) if _alike(other, term)), None)
            if place is None:
                found.append(scaled)
            else:
                found[place] = _sum(found[place], scaled)
    return tuple(found)


def _alike(a: Stratum, b: Stratum) -> bool:
    if len(a.index) != len(b.index) or a.index[0] != b.index[0]:
        return False
    return np.array_equal(a.index, b.index) and bool(np.abs(a.share - b.share).max() <= 1e-12)


def _sum(a: Stratum, b: Stratum) -> Stratum:
    """Return two terms over the same clusters as one: their mean, or their difference, with its weight."""
    same_sign = a.weight * b.weight >= 0.0
    weight = abs(a.weight + b.weight) if same_sign else max(abs(a.weight), abs(b.weight))
    value = a.weight * a.value + b.weight * b.value
    return Stratum(a.index, a.influence + b.influence, a.share, weight, value / weight if weight else 0.0)


def _limits(parts: Sequence[Statistic], weights: Sequence[float]) -> tuple[float, float] | None:
    """Return how low and high a cluster's value can be in a weighted sum, where each part's is known."""
    known = [p.possible for p in parts]
    ends = [
        sorted((w * limits[0], w * limits[1])) for w, limits in zip(weights, known, strict=True) if limits
    ]
    if len(ends) < len(parts):
        return None
    return sum(low for low, _ in ends), sum(high for _, high in ends)


def on_clusters(statistic: Statistic, place: Ints, n_clusters: int) -> Statistic:
    """Return the statistic over renumbered clusters: cluster k becomes `place[k]` of `n_clusters`."""
    if statistic.influence is None:
        return statistic
    influence, share = np.zeros(n_clusters), np.zeros(n_clusters)
    influence[place] = statistic.influence
    if statistic.share is not None:
        share[place] = statistic.share
    return replace(
        statistic,
        influence=influence,
        share=None if statistic.share is None else share,
        strata=tuple(replace(t, index=place[t.index]) for t in statistic.strata),
    )


def difference(a: Statistic, b: Statistic) -> Statistic:
    """Return a - b for two models measured on the same clusters in the same order (paired).

    If the remark of a or b says that few prompts decide it, the difference gets such a remark of its own.
    """
    # The influence on a logarithm, times the value, is that on the value (to first order).
    a, b = (
        replace(s, influence=s.value * s.influence, log_scale=False)
        if s.log_scale and s.influence is not None
        else s
        for s in (a, b)
    )
    paired = replace(combine([a, b], [1.0, -1.0], n=a.n), bounded=False, log_scale=False, paired=True)
    return replace(paired, remark=few_decide(paired)) if a.remark or b.remark else paired
