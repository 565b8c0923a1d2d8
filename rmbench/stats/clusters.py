"""The variance of a clustered estimate, and its degrees of freedom, where clusters are of unequal size.

An estimate pulls itself towards its largest clusters, so their residuals are too small, and the plain
sandwich (CR1) has too small an error. CR2 divides each squared residual by the share of it that is expected
to be left; the degrees of freedom are Satterthwaite's, after Bell and McCaffrey. Both need a working model of
how a cluster's sum varies. Its variance lies between two ends: proportional to the size of the cluster (its
observations are independent), and proportional to the square of the size (they are copies). The data decide
where between.

Source: Bell & McCaffrey 2002, "Bias reduction in standard errors for linear regression with multi-stage
samples", Survey Methodology 28(2); Imbens & Kolesar 2016, "Robust standard errors in small samples", REStat
98(4), for a working model with correlated clusters; Pustejovsky & Tipton 2018, JBES 36(4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

_PULLS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Growth of the largest cluster's variance beyond its size: from 0 (independent) towards copies."""
FEW = 10
"""Strata of fewer clusters than this are pooled: one of them alone says too little about its variance."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """A mean or a ratio over some clusters. An estimate is one stratum, or a weighted sum of several."""

    index: Ints
    """Numbers of the clusters that it has observations of, increasing, shape (c,)."""
    influence: Floats
    """First-order effect of each on the whole estimate, shape (c,); sums to 0."""
    share: Floats
    """Share of the denominator that each carries, shape (c,); sums to 1."""
    weight: float = 1.0
    """Weight of this term in the sum."""
    value: float = 0.0
    """Value of this term alone."""

    def contributions(self) -> Floats:
        """Return what each cluster adds to the whole estimate, shape (c,)."""
        return self.influence + self.weight * self.value * self.share

    def values(self) -> Floats:
        """Return the mean or ratio of each cluster, shape (c,)."""
        pull = self.weight * self.share
        return self.contributions() / np.where(pull == 0.0, 1.0, pull)


@dataclass(frozen=True, slots=True)
class Spread:
    """Variance of an estimate, with its degrees of freedom."""

    variance: float
    """Squared standard error."""
    freedom: float
    """Degrees of freedom of the variance."""


def spread_of(strata: Sequence[Stratum], n_clusters: int, *, limits: tuple[float, float] | None) -> Spread:
    """Return the spread of a weighted sum of strata over `n_clusters` clusters.

    Strata of few clusters are pooled: the variance within and between them is taken for the variance of each.
    A cluster that is in several strata counts with the sum of its influences.

    Args:
        strata: At least one; together at least two clusters.
        n_clusters: Number of clusters, C.
        limits: Least and greatest value that a cluster can have; None: no limits.
    """
    large, small = split_by_size(strata)
    adjusted = np.zeros(n_clusters)
    freedoms = []
    for stratum in large:
        factor, freedom = _bell_mccaffrey(stratum.influence, stratum.share)
        adjusted[stratum.index] += factor * stratum.influence
        freedoms.append(freedom)
    parts = [s.index for s in large]
    if small:
        index, effect, freedom = _pooled(small, limits)
        np.add.at(adjusted, index, effect)
        parts.append(index)
        freedoms.append(freedom)
    if len(parts) == 1:
        return Spread(float(np.square(adjusted).sum()), freedoms[0])
    freedom = _satterthwaite(adjusted, parts, freedoms, strata)
    return Spread(float(np.square(adjusted).sum()), freedom)


def _bell_mccaffrey(influence: Floats, share: Floats) -> tuple[Floats, float]:
    """Return the factor on each influence (c,), and the degrees of freedom, of one stratum."""
    c = len(share)
    if _equal(share):
        return np.full(c, np.sqrt(c / (c - 1.0))), c - 1.0
    working = working_variance(influence, share)
    factor, freedom = cr2_factors(working, share)
    _, independent = cr2_factors(share, share)
    # Bounded values have a steadier variance than the normal ones that Satterthwaite assumes, so the degrees
    # of freedom under the fitted working model alone are too few, and under independence too many.
    return factor, 2.0 / (1.0 / freedom + 1.0 / independent)


def _equal(share: Floats) -> bool:
    return bool(np.ptp(share) <= 1e-12 * share.max())


def cr2_factors(working: Floats, share: Floats) -> tuple[Floats, float]:
    """Return CR2's factor on each influence, (c,), and the degrees of freedom, under a working model.

    Args:
        working: Variance of each cluster's sum under the model, up to a factor, shape (c,).
        share: Share of the denominator of each cluster, shape (c,); sums to 1.
    """
    total = working.sum()
    left = working * (1.0 - 2.0 * share) + share**2 * total
    squared = working / np.maximum(left, 1e-9 * working)
    # Residuals have the covariance diag(v) - v h' - h v' + V h h': a diagonal and a matrix of rank two.
    sides = np.stack([working, share], axis=1)
    middle = np.array([[0.0, -1.0], [-1.0, total]])
    inner = middle @ (sides.T @ (squared[:, None] * sides))
    diagonal = squared * working
    trace = diagonal.sum() + np.trace(inner)
    crossed = middle @ (sides.T @ ((diagonal * squared)[:, None] * sides))
    of_square = np.square(diagonal).sum() + 2.0 * np.trace(crossed) + np.trace(inner @ inner)
    return np.sqrt(squared), max(1.0, float(trace**2 / of_square))


def working_variance(influence: Floats, share: Floats) -> Floats:
    """Return how the variance of a cluster's sum grows with its share, (c,), up to a factor.

    It is the mean of `h + pull h^2` over a few pulls, each weighted by its likelihood given the squared
    influences. With clusters of one size, all pulls give the same.
    """
    largest = float(share.max())
    scale = float(np.square(influence).max())
    if scale == 0.0 or _equal(share):
        return share
    models = np.stack([share + pull / largest * share**2 for pull in _PULLS])
    models /= models.sum(axis=1, keepdims=True)
    left = np.maximum(models * (1.0 - 2.0 * share) + share**2, 1e-300)
    level = np.maximum((np.square(influence) / scale / left).mean(axis=1), 1e-300)
    likelihood = -0.5 * (np.log(left).sum(axis=1) + len(share) * np.log(level))
    weight = np.exp(likelihood - likelihood.max())
    return np.asarray(weight @ models / weight.sum())


def split_by_size(strata: Sequence[Stratum]) -> tuple[list[Stratum], list[Stratum]]:
    """Return the strata with a variance each, and the small ones, with enough others, that are pooled."""
    if len(strata) == 1:
        return list(strata), []
    ordered = sorted(strata, key=lambda s: -len(s.index))
    n_small = sum(len(s.index) < FEW for s in ordered)
    pooled = sum(len(s.index) for s in ordered[len(ordered) - n_small :])
    while 0 < n_small < len(ordered) and pooled < FEW:
        n_small += 1
        pooled += len(ordered[-n_small].index)
    return ordered[: len(ordered) - n_small], ordered[len(ordered) - n_small :]


def _pooled(strata: Sequence[Stratum], limits: tuple[float, float] | None) -> tuple[Ints, Floats, float]:
    """Return clusters, their adjusted influences and the degrees of freedom of small strata together.

    The strata are collapsed (Cochran 1977, section 5A.12): all their clusters have one variance, that of the
    clusters' means about their common mean. So differences between the strata count as noise. If all values
    are equal and have limits, an observation at each limit is added: a few equal values prove nothing.
    """
    index = np.concatenate([s.index for s in strata])
    pull = np.concatenate([s.weight * s.share for s in strata])
    values = np.concatenate([s.values() for s in strata])
    k = len(values)
    deviation = values - values.mean()
    variance = float(np.square(deviation).sum()) / max(1, k - 1)
    if limits is not None and variance < 1e-12:
        variance = float(np.append(values, limits).var())
    sign = np.where(deviation < 0.0, -1.0, 1.0)
    # Of a difference, the same cluster pulls one way in the first term and the other way in the second.
    return index, sign * pull * np.sqrt(variance), float(max(1, k - 1))


def _satterthwaite(
    adjusted: Floats, parts: Sequence[Ints], freedoms: Sequence[float], strata: Sequence[Stratum]
) -> float:
    """Return the degrees of freedom of a sum of variances; parts that share clusters are one."""
    owner = np.full(len(adjusted), -1)
    joined = list(range(len(parts)))

    def root(k: int) -> int:
        while joined[k] != k:
            k = joined[k]
        return k

    for k, index in enumerate(parts):
        for other in np.unique(owner[index]):
            if other >= 0:
                joined[root(k)] = root(int(other))
        owner[index] = k
    total, below = 0.0, 0.0
    roots = [root(k) for k in range(len(parts))]
    for component in sorted(set(roots)):
        members = [k for k, of in enumerate(roots) if of == component]
        clusters = np.unique(np.concatenate([parts[m] for m in members]))
        variance = float(np.square(adjusted[clusters]).sum())
        alone = len(members) == 1
        freedom = freedoms[members[0]] if alone else _joint(adjusted, clusters, strata)
        total, below = total + variance, below + variance**2 / freedom
    return max(1.0, total**2 / below) if below > 0.0 else float(max(1, sum(len(p) for p in parts) - 1))


def _joint(adjusted: Floats, clusters: Ints, strata: Sequence[Stratum]) -> float:
    """Return the degrees of freedom over clusters that stand in several strata, by their joint share."""
    share = np.zeros(len(adjusted))
    for s in strata:
        np.add.at(share, s.index, abs(s.weight) * s.share)
    here = share[clusters]
    if here.sum() == 0.0:
        return float(max(1, len(clusters) - 1))
    here = here / here.sum()
    return _bell_mccaffrey(adjusted[clusters], here)[1]
