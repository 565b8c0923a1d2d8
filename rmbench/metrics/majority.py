"""Majorities of a few votes: how often they take the better side, and how divided votes say that people are.

The share (1 + d) / 2 of all people prefers the better side of a pair, d in [0, 1].
"""

from math import log, sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc, betaln, gammaln
from scipy.stats import hypergeom

from rmbench.stats.clusters import Floats, Ints

_GRID = np.linspace(1e-6, 1.0 - 1e-12, 2001)
"""Of d, where slopes are looked up."""


def majority_excess(d: Floats | float, k: int) -> Floats:
    """Return g_k(d): P(the majority of k votes takes the side of share (1 + d) / 2) - 1/2, for odd k."""
    half = (k + 1) / 2
    return np.asarray(betainc(half, half, (1.0 + np.asarray(d)) / 2.0) - 0.5)


def most_excess(s: float, sizes: Ints, weights: Floats) -> Floats:
    """Return g_k(sqrt(s_k)) for each odd size, where the weighted sum is the largest for a mean of s_k of s.

    The sum is concave in the s_k, so it is largest where all slopes are equal; that slope is looked for.

    Args:
        s: In [0, 1].
        sizes: Odd numbers of votes, shape (m,).
        weights: Share of the pairs that have so many, shape (m,); sums to 1.
    """
    roots = np.full(len(sizes), sqrt(s))
    if len(sizes) > 1 and 1e-9 < s < 1.0 - 1e-9:
        half = ((sizes + 1) / 2.0)[:, None]
        # d g_k / d (d^2), as a logarithm, falls from infinity at d = 0.
        steepness = (
            (half - 1.0) * (np.log1p(-np.square(_GRID)) - log(4.0)) - betaln(half, half) - np.log(_GRID)
        )

        def spread(level: float) -> Floats:
            return np.array([np.interp(-level, -row, _GRID) for row in steepness])

        ends = float(steepness.min()), float(steepness.max())
        roots = spread(brentq(lambda x: float(np.square(spread(x)) @ weights) - s, *ends))
    return np.array([float(majority_excess(d, int(k))) for d, k in zip(roots, sizes, strict=True)])


def beta_majority_excess(s: float, k: int) -> float:
    """Return E[g_k(d)] for odd k, where shares are Beta(a, a) with 1 / (2 a + 1) = s, in [0, 1]."""
    if s <= 1e-9:
        return 0.0
    if s >= 1.0 - 1e-9:
        return 0.5
    a = (1.0 / s - 1.0) / 2.0
    x = np.arange((k + 1) // 2, k + 1)
    ways = gammaln(k + 1) - gammaln(x + 1) - gammaln(k - x + 1)
    likely = np.exp(ways + betaln(x + a, k - x + a) - betaln(a, a))
    # Twice the part where the share is above one half.
    return float(2.0 * (likely * betainc(k - x + a, x + a, 0.5)).sum() - 0.5)


def two_alike(first: Ints, total: Ints) -> Floats:
    """Return P(two of a pair's votes agree) - P(they differ), (V,): d^2 without bias; two votes or more."""
    return np.asarray(((2 * first - total) ** 2 - total) / (total * (total - 1)), dtype=np.float64)


def halves_alike(first: Ints, total: Ints) -> Floats:
    """Return P(majorities of two random halves of the votes agree) - P(they differ), (V,)."""
    found = two_alike(first, total)
    for n, k in np.unique(np.stack([first, total], axis=1)[total > 3], axis=0).tolist():
        j = k // 2
        x = np.arange(j + 1)
        product = np.sign(2 * x - j) * np.sign(2 * (n - x) - (k - j))
        found[(first == n) & (total == k)] = float(hypergeom(k, n, j).pmf(x) @ product)
    return found
