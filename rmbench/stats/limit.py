"""The limit of a mean as a distance goes to 0: local lines, and intervals of weighted sums of such limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import betaincinv, ndtri, stdtrit

from rmbench.stats.clusters import Floats, Ints
from rmbench.stats.estimates import cluster_sums
from rmbench.stats.statistic import Statistic

_RIDGE = 0.3
"""Penalty on the squared slope across the window, in observations: a few pairs cannot draw a steep line."""
_PRIOR_CLUSTERS = 4.0
"""Weight of the binomial variance beside the cluster-robust one, in clusters: a few residuals are small by
chance too often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The mean of values in [0, 1] where a distance is 0, seen from one side."""

    value: float
    ci95: tuple[float, float]
    influence: Floats
    """First-order effect of each cluster, shape (C,); sums to 0."""
    used: Floats
    """Observations of each cluster inside the window, shape (C,)."""
    size: float
    """Effective number of independent observations at distance 0."""


def limit_at_zero(values: Floats, distance: Floats, window: float, cluster: Ints, n_clusters: int) -> Limit:
    """Return the limit of the mean of `values` as `distance` goes to 0, by a local line.

    The line is fitted with triangular weights, 1 at distance 0 and 0 at `window`, and read at 0.
    The interval is Jeffreys' at an effective size: that of the cluster-robust variance (each cluster's
    residual divided by sqrt(1 - leverage)), mixed with the binomial one at the weight of four clusters, and
    never below the variance that independent observations would have; shrunk for Student's t. So ties that
    all agree, or observations that are all right, do not shrink the interval to a point.

    Args:
        values: In [0, 1], shape (n,).
        distance: At least 0, shape (n,); one at least below `window`.
        window: Distance from which observations have weight 0, above 0.
        cluster: Cluster of each observation, shape (n,).
        n_clusters: Number of clusters in the data.

    Source: Fan & Gijbels 1996, "Local polynomial modelling", section 3.2.5 (the line at a boundary); Brown,
    Cai & DasGupta 2001 (Jeffreys' interval); Korn & Graubard 1998 (effective size with t).
    """
    inside = distance < window
    values, x, cluster = values[inside], distance[inside] / window, cluster[inside]
    kernel = 1.0 - x
    s0, s1 = float(kernel.sum()), float(kernel @ x)
    s2 = float(kernel @ (x * x)) + _RIDGE
    determinant = s0 * s2 - s1 * s1
    weight = kernel * (s2 - s1 * x) / determinant  # sums to 1
    at_zero = float(weight @ values)
    slope = (s0 * float((kernel * x) @ values) - s1 * float(kernel @ values)) / determinant
    residual = cluster_sums(weight * (values - at_zero - slope * x), cluster, n_clusters)
    # If all lie on the line, only rounding is left, and it differs between machines.
    residual = np.where(np.abs(residual) < 1e-15, 0.0, residual)
    used = np.bincount(cluster, minlength=n_clusters).astype(np.float64)
    value = min(max(at_zero, 0.0), 1.0)
    by_cluster = cluster_sums(weight, cluster, n_clusters)
    squares = np.square(by_cluster)
    size = 1.0 / float(squares.sum())
    robust = float((np.square(residual) / np.maximum(1.0 - np.abs(by_cluster), 0.25)).sum())
    freedom = max(1.0 / (size**2 * float(np.square(squares).sum())) - 1.0, 0.0)
    # Half an observation of each kind: the variance of "all right" is small, not 0.
    middle = (size * value + 0.5) / (size + 1.0)
    ties = float(np.abs(weight) @ (values * (1.0 - values)) / np.abs(weight).sum()) * size / (size + 1.0)
    spread = max(middle * (1.0 - middle) - ties, 1e-4)
    variance = (freedom * robust + _PRIOR_CLUSTERS * spread / size) / (freedom + _PRIOR_CLUSTERS)
    variance = max(variance, spread * float(np.square(weight).sum()))
    effective = middle * (1.0 - middle) / variance
    effective *= float(ndtri(0.975) / stdtrit(freedom + _PRIOR_CLUSTERS, 0.975)) ** 2
    # The penalty is assumed to grow with the data: an average over clusters must not drift.
    drift = np.where(used > 0, residual.sum() / max(int(np.count_nonzero(used)), 1), 0.0)
    return Limit(
        value=value,
        ci95=jeffreys_interval(value, effective),
        influence=residual - drift,
        used=used,
        size=size,
    )


def jeffreys_interval(value: float, size: float) -> tuple[float, float]:
    """Return Jeffreys' 95% interval of a fraction `value` of `size` trials (any real number above 0).

    If nothing was right the lower end is 0; if everything was right the upper end is 1.

    Source: Brown, Cai & DasGupta 2001, "Interval estimation for a binomial proportion", Statist. Sci. 16(2).
    """
    a, b = value * size + 0.5, (1.0 - value) * size + 0.5
    low = 0.0 if a <= 0.5 + 1e-9 else float(betaincinv(a, b, 0.025))
    high = 1.0 if b <= 0.5 + 1e-9 else float(betaincinv(a, b, 0.975))
    return min(low, value), max(high, value)


def sum_of_limits(parts: Sequence[Limit], weights: Sequence[float]) -> Statistic:
    """Return the weighted sum of limits (weights at least 0, with sum 1), with an interval from theirs.

    The distances between value and lower ends are added like standard errors, with the correlation of the
    influences; likewise for the upper ends. So asymmetric parts give an asymmetric interval.

    Source: Zou & Donner 2008, "Construction of confidence limits about effect measures" (MOVER), after
    Newcombe 1998; with correlation.
    """
    w = np.array(weights)
    influences = np.stack([p.influence for p in parts])
    lengths = np.sqrt(np.square(influences).sum(axis=1))
    scaled = influences / np.maximum(lengths, 1e-300)[:, None]
    correlation = np.where(np.minimum.outer(lengths, lengths) > 1e-12, scaled @ scaled.T, 0.0)
    np.fill_diagonal(correlation, 1.0)
    below = w * np.array([p.value - p.ci95[0] for p in parts])
    above = w * np.array([p.ci95[1] - p.value for p in parts])
    value = float(sum(weight * p.value for weight, p in zip(weights, parts, strict=True)))
    used = np.sum([p.used for p in parts], axis=0)
    return Statistic(
        value=value,
        influence=w @ influences,
        share=np.sum([x * p.used / p.used.sum() for x, p in zip(w, parts, strict=True)], axis=0),
        n=int(used.sum()),
        n_clusters=int(np.count_nonzero(used)),
        bounded=True,
        ci95=(
            max(value - sqrt(max(float(below @ correlation @ below), 0.0)), 0.0),
            min(value + sqrt(max(float(above @ correlation @ above), 0.0)), 1.0),
        ),
    )
