"""Intervals of means: Student's, Wilson's, exact ones if nearly all values are equal, a bootstrap of t.

They are 95% intervals unless another `tail` is given: the probability left out at each end.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri, stdtrit

from rmbench.stats.bootstrap import cluster_bootstrap
from rmbench.stats.clusters import Floats

TAIL = 0.025
"""Probability left out at each end of a 95% interval."""
RARE = 10
"""If fewer clusters than this differ from all others, they are rare events, with an exact interval."""
_SEED = 0
_MOST_BOOTSTRAPPED = 4000


def t_interval(value: float, stderr: float, freedom: float, tail: float = TAIL) -> tuple[float, float]:
    """Return the Student interval with `freedom` degrees of freedom."""
    half = float(stdtrit(freedom, 1.0 - tail)) * stderr
    return value - half, value + half


def wilson_interval(value: float, stderr: float, freedom: float, tail: float = TAIL) -> tuple[float, float]:
    """Return Wilson's score interval at the effective sample size that `stderr` implies.

    The effective size is `value (1 - value) / stderr**2`, as for clustered proportions (Dean & Pagano 2015).
    If the error is 0 because nothing varies, see `constant_interval`.

    Args:
        value: Mean of observations in [0, 1].
        stderr: Its cluster-robust standard error.
        freedom: Degrees of freedom of the error, above 0; without an error the effective size is one more.
        tail: Probability left out at each end.

    Returns:
        (low, high) within [0, 1], around the value.
    """
    value = min(max(value, 0.0), 1.0)
    spread = value * (1.0 - value)
    size = freedom + 1.0 if stderr < 1e-12 or spread <= 1e-12 else spread / stderr**2
    t2 = float(stdtrit(freedom, 1.0 - tail)) ** 2
    centre = (value + t2 / (2 * size)) / (1 + t2 / size)
    half = sqrt(t2) / (1 + t2 / size) * sqrt(spread / size + t2 / (4 * size**2))
    # At the edge the formula is exact only up to rounding; the value must lie in its own interval.
    return max(0.0, min(centre - half, value)), min(1.0, max(centre + half, value))


def constant_interval(
    value: float, size: float, limits: tuple[float, float], tail: float = TAIL
) -> tuple[float, float]:
    """Return the exact interval of a mean of `size` equal observations in `limits`.

    With probability 1 - tail, at most `1 - tail**(1/size)` of the population (3.7 / size) has other values.
    These values are not known, so they are put at a limit. At a limit of [0, 1] this is the interval of
    Clopper and Pearson 1934; one-sided at 95% it is the rule of three (Hanley & Lippman-Hand 1983).
    """
    unseen = 1.0 - tail ** (1.0 / size)
    low, high = limits
    return value - unseen * (value - low), value + unseen * (high - value)


def rare_interval(
    values: Floats, share: Floats, limits: tuple[float, float], tail: float = TAIL
) -> tuple[float, float] | None:
    """Return the interval of a mean if nearly all observations are equal; None if they are not.

    The few others are events. The probability of a higher one, and of a lower one, has the interval of
    Clopper and Pearson. The distance of an event is the mean of the observed ones and one at the limit. The
    two sides are combined by the method of variance estimates recovery (Zou & Donner 2008, Stat. Med. 27).

    Args:
        values: Value of each cluster, shape (c,).
        share: Share of each cluster in the mean, shape (c,).
        limits: Least and greatest value possible.
        tail: Probability left out at each end.
    """
    mode = usual_value(values)
    off = np.abs(values - mode) > 1e-12 * max(1.0, abs(mode))
    n_off = int(off.sum())
    if n_off >= RARE or 2 * n_off > len(values):
        return None
    size = effective_size(share)
    up = _events(values - mode, share, off, size, limits[1] - mode, tail)
    down = _events(mode - values, share, off, size, mode - limits[0], tail)
    value = mode + up[1] - down[1]
    low = value - sqrt((up[1] - up[0]) ** 2 + (down[2] - down[1]) ** 2)
    high = value + sqrt((up[2] - up[1]) ** 2 + (down[1] - down[0]) ** 2)
    return max(limits[0], low), min(limits[1], high)


def _events(
    beyond: Floats, share: Floats, off: np.ndarray, size: float, furthest: float, tail: float
) -> tuple[float, float, float]:
    """Return (low, value, high) of the mean of the positive part of `beyond` (c,), over rare events."""
    seen = off & (beyond > 0.0)
    count = int(seen.sum())
    value = float((share * beyond)[seen].sum())
    # In units of equal clusters: a heavy cluster that differs counts for as many as it weighs.
    held = float(share[seen].sum()) * size
    events = max(float(count and 1.0), held)
    far = (float(beyond[seen].sum()) + furthest) / (count + 1)
    high = float(betaincinv(events + 1.0, max(size - events, 1e-9), 1.0 - tail)) * far
    low = 0.0
    if count:
        # Few events, or events of unequal weight, say less: take the fewest that give these contributions.
        added = (share * beyond)[seen]
        fewest = min(float(count), held, float(added.sum()) ** 2 / float(np.square(added).sum()))
        rate = float(betaincinv(fewest, size - fewest + 1.0, tail))
        low = value * rate * size / fewest
    return min(low, value), value, max(high, value)


def usual_value(values: Floats) -> float:
    """Return the value of more than half of the clusters, if there is one: it is the lower median, (c,)."""
    middle = (len(values) - 1) // 2
    return float(np.partition(values, middle)[middle])


def stratified_interval(
    values: Sequence[float], intervals: Sequence[tuple[float, float]], weights: Sequence[float]
) -> tuple[float, float]:
    """Return the interval of a weighted sum of independent terms from the terms' intervals, all of one level.

    Distances between estimates and ends are added as squares, so asymmetric terms give an asymmetric sum.
    Source: variance estimates recovery, Zou & Donner 2008, Stat. Med. 27.

    Args:
        values: Value of each term.
        intervals: Interval of each term, around its value.
        weights: Weight of each term, at least 0.
    """
    value = sum(w * v for w, v in zip(weights, values, strict=True))
    terms = list(zip(weights, values, intervals, strict=True))
    below = sum((w * (v - low)) ** 2 for w, v, (low, _) in terms)
    above = sum((w * (high - v)) ** 2 for w, v, (_, high) in terms)
    return value - sqrt(below), value + sqrt(above)


def few_interval(value: float, size: float, tail: float = TAIL) -> tuple[float, float]:
    """Return the interval of Clopper and Pearson 1934 for a mean of `size` observations in [0, 1].

    It is exact for values of 0 and 1. For values between, their sum is taken for a number of events, which
    makes the interval too wide. `size` may be a fraction, for clusters of unequal size.
    """
    events = value * size
    low = float(betaincinv(events, size - events + 1.0, tail)) if events > 1e-9 else 0.0
    high = float(betaincinv(events + 1.0, size - events, 1.0 - tail)) if size - events > 1e-9 else 1.0
    return min(low, value), max(high, value)


def worth_of(values: Floats) -> float:
    """Return the number of right-or-wrong trials that one cluster is worth: 1 if all values are 0 and 1.

    A prompt whose value is a share of many pairs varies less than 0 and 1 do. The variance is estimated from
    these few values, so Student's t reduces its weight.

    Args:
        values: Value of each cluster, in [0, 1], shape (c,).
    """
    n, middle = len(values), float(values.mean())
    variance = float(values.var()) * n / max(1, n - 1)
    edges = bool((np.minimum(values, 1.0 - values) < 1e-12).all())
    if n < 3 or edges or variance < 1e-12:
        return 1.0
    return middle * (1.0 - middle) / variance * float(ndtri(1.0 - TAIL) / stdtrit(n - 1, 1.0 - TAIL)) ** 2


def effective_size(share: NDArray[Any]) -> float:
    """Return the effective number of clusters, `1 / sum of share^2`; at least 1."""
    return 1.0 / float(np.square(share).sum())


def bootstrap_t_interval(
    contribution: Floats, share: Floats, tail: float = TAIL
) -> tuple[float, float] | None:
    """Return the interval of a ratio by the bootstrap of its t statistic, over clusters, seeded.

    A mean of skewed values is not symmetric about the truth: large values that a sample lacks are missing
    from its error as well. Resampling shows the distribution of (estimate - truth) / error.

    Args:
        contribution: Each cluster's addition to the numerator over the total of denominators, shape (c,).
        share: Share of the denominator of each, shape (c,).
        tail: Probability left out at each end.

    Returns:
        The interval; None if resamples without any variation reach into the tails.

    Source: Efron 1981; Hall 1988, "Theoretical comparison of bootstrap confidence intervals", Ann. Stat. 16.
    """
    value = float(contribution.sum())
    # Centred, so that rounding leaves little of the error of a resample without variation.
    off = contribution - value * share
    rows = np.stack([off, share, off**2, off * share, share**2], axis=1)

    def studentised(totals: Floats) -> Floats:
        top, bottom, top2, both, bottom2 = totals.T
        away = top / bottom
        error = np.sqrt(np.maximum(top2 - 2.0 * away * both + away**2 * bottom2, 0.0)) / bottom
        flat = error <= 1e-6 * np.abs(away)
        t = np.where(flat, np.copysign(np.inf, away), away / np.where(flat, 1.0, error))
        return np.where(np.abs(away) <= 1e-12 * abs(value), 0.0, t)[:, None]

    t = np.sort(cluster_bootstrap(rows, studentised, seed=_SEED)[:, 0])
    low, high = t[int(tail * len(t))], t[len(t) - 1 - int(tail * len(t))]
    if not (np.isfinite(low) and np.isfinite(high)):
        return None
    error = sqrt(float(np.square(off).sum()))
    return value - float(high) * error, value - float(low) * error


def is_skewed(influence: Floats) -> bool:
    """Say whether the clusters are too few, or too skewed, for Student's interval.

    Student's interval misses by about skewness / (6 sqrt(n)) of its error in each tail. Below 0.02 that is
    less than the noise of 2,000 resamples. Above 4,000 clusters Student's interval is good enough.
    """
    n = len(influence)
    if n < 3 or n > _MOST_BOOTSTRAPPED:
        return False
    scale = float(np.abs(influence).max())
    if scale == 0.0:
        return False
    unit = influence / scale
    second = float(np.square(unit).mean())
    return bool(abs(float((unit**3).mean())) / second**1.5 / (6.0 * sqrt(n)) > 0.02)
