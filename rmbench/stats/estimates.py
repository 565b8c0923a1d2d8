"""Point estimates with what is needed to give them an interval and to compare them in pairs.

The working value is a `Statistic`: a number and its *influence* on each cluster, so that

    estimate - truth  ~  sum over clusters c of influence[c]

to first order. That one vector gives the cluster-robust standard error (the sandwich, or CR1, estimator),
the paired standard error of a difference between two models on the same items (subtract the vectors),
and the error of a mean of metrics (average them). A mean, a ratio, an AUROC and a fitted temperature all
have one. Source: Hampel 1974, "The influence curve and its role in robust estimation"; clustered errors
as in Miller 2024, "Adding error bars to evals", arXiv 2411.00640.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from rmbench.types import Estimate

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """A point estimate, its influence per cluster, and how to write it down."""

    value: float
    influence: Floats | None
    """Shape (C,): first-order effect of each cluster on `value`; sums to 0. None: only `ci95` is known."""
    n: int
    """Observations."""
    n_clusters: int
    """Clusters that hold at least one observation."""
    unit: str = "fraction"
    higher_is_better: bool | None = True
    bounded: bool = False
    """True for a mean of values in [0, 1]: the interval then stays inside, and never shrinks to a point
    only because every observation was right."""
    log_scale: bool = False
    """True for a positive scale parameter: `influence` is that of the logarithm."""
    ci95: tuple[float, float] | None = None
    """An interval made elsewhere (bootstrap); overrides the one from `influence`."""

    @property
    def stderr(self) -> float | None:
        """Cluster-robust standard error (of the value, also where `log_scale`); None below two clusters."""
        if self.influence is None or self.n_clusters < 2:
            return None
        c = self.n_clusters
        error = sqrt(c / (c - 1) * float(np.square(self.influence).sum()))
        return self.value * error if self.log_scale else error

    def estimate(self) -> Estimate:
        """Return the number with its 95% interval."""
        return Estimate(
            value=self.value,
            ci95=self._interval(),
            stderr=self.stderr,
            n=self.n,
            n_clusters=self.n_clusters,
            unit=self.unit,
            higher_is_better=self.higher_is_better,
        )

    def _interval(self) -> tuple[float, float] | None:
        if self.ci95 is not None:
            return self.ci95
        stderr = self.stderr
        if stderr is None:
            return None
        if self.bounded:
            return wilson_interval(self.value, stderr, self.n_clusters)
        if self.log_scale:
            if self.value <= 0:
                return None
            low, high = t_interval(0.0, stderr / self.value, self.n_clusters)
            return self.value * float(np.exp(low)), self.value * float(np.exp(high))
        return t_interval(self.value, stderr, self.n_clusters)


def t_interval(value: float, stderr: float, n_clusters: int) -> tuple[float, float]:
    """Return the 95% Student interval with `n_clusters - 1` degrees of freedom."""
    half = float(student_t.ppf(0.975, n_clusters - 1)) * stderr
    return value - half, value + half


def wilson_interval(value: float, stderr: float, n_clusters: int) -> tuple[float, float]:
    """Return Wilson's 95% score interval at the effective sample size that `stderr` implies.

    The effective size is `value (1 - value) / stderr**2`, as for clustered proportions (Dean & Pagano 2015).
    When all observations are 0 or all are 1, the standard error is 0 and says nothing: the effective size
    is then the number of clusters, so 50 right of 50 is [0.93, 1] and not [1, 1].

    Args:
        value: Mean of observations in [0, 1].
        stderr: Its cluster-robust standard error.
        n_clusters: Number of clusters, at least 2.

    Returns:
        (low, high) within [0, 1]; a point where the mean is inside (0, 1) and truly never varies.
    """
    value = min(max(value, 0.0), 1.0)
    spread = value * (1.0 - value)
    # Below rounding error every cluster has the same value, and inside (0, 1) that is certainty.
    constant = stderr < 1e-12
    if constant and spread > 1e-12:
        return value, value
    size = float(n_clusters) if constant or spread <= 1e-12 else spread / stderr**2
    t2 = float(student_t.ppf(0.975, n_clusters - 1)) ** 2
    centre = (value + t2 / (2 * size)) / (1 + t2 / size)
    half = sqrt(t2) / (1 + t2 / size) * sqrt(spread / size + t2 / (4 * size**2))
    # At the edge the formula is exact only up to rounding; the value must lie in its own interval.
    return max(0.0, min(centre - half, value)), min(1.0, max(centre + half, value))


def cluster_sums(values: Floats, cluster: Ints, n_clusters: int) -> Floats:
    """Return the sum of `values` (n,) within each cluster, shape (n_clusters,)."""
    return np.bincount(cluster, weights=values, minlength=n_clusters).astype(np.float64, copy=False)


def ratio(
    numerator: Floats,
    denominator: Floats,
    *,
    n: int,
    unit: str = "fraction",
    higher_is_better: bool | None = True,
    bounded: bool = False,
    present: Floats | None = None,
) -> Statistic:
    """Return sum(numerator) / sum(denominator) over clusters, linearised.

    Args:
        numerator: Per-cluster sums, shape (C,).
        denominator: Per-cluster sums, shape (C,); its total must not be 0.
        n: Observations behind it.
        unit: Unit of the ratio.
        higher_is_better: Direction.
        bounded: True if it is a mean of values in [0, 1].
        present: Observations per cluster, shape (C,), where the denominator is not a count.

    Source: Taylor linearisation of a ratio, e.g. Cochran 1977, section 6.
    """
    total = float(denominator.sum())
    value = float(numerator.sum()) / total
    counts = denominator if present is None else present
    return Statistic(
        value=value,
        influence=(numerator - value * denominator) / total,
        n=n,
        n_clusters=int(np.count_nonzero(counts)),
        unit=unit,
        higher_is_better=higher_is_better,
        bounded=bounded,
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


def combine(parts: Sequence[Statistic], weights: Sequence[float] | None = None) -> Statistic:
    """Return the weighted sum (default: plain mean) of statistics over the *same* clusters."""
    share = [1.0 / len(parts)] * len(parts) if weights is None else list(weights)
    influences = [p.influence for p in parts]
    together = None
    if all(i is not None for i in influences):
        together = np.sum([w * i for w, i in zip(share, influences, strict=True) if i is not None], axis=0)
    value = sum(w * p.value for w, p in zip(share, parts, strict=True))
    n_clusters = int(np.count_nonzero(together)) if together is not None else 0
    return replace(
        parts[0],
        value=float(value),
        influence=together,
        n=sum(p.n for p in parts),
        n_clusters=max([n_clusters, *(p.n_clusters for p in parts)]),
        ci95=None,
    )


def difference(a: Statistic, b: Statistic) -> Statistic:
    """Return a - b for two models measured on the same clusters in the same order (paired)."""
    # The influence on a logarithm, times the value, is that on the value (to first order).
    a, b = (
        replace(s, influence=s.value * s.influence, log_scale=False)
        if s.log_scale and s.influence is not None
        else s
        for s in (a, b)
    )
    return replace(combine([a, b], [1.0, -1.0]), bounded=False, log_scale=False, n=a.n)


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
