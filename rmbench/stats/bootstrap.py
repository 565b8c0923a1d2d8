"""A seeded bootstrap over clusters, on per-cluster sums: cost does not grow with the observations."""

from collections.abc import Callable

import numpy as np

from rmbench.stats.estimates import Floats

N_RESAMPLES = 2000
_CHUNK = 50
_BISECTIONS = 30
_MOST_UNITS = 4000
"""Above this, seeded random groups of clusters are what is resampled: as good, and the cost stays linear."""


def cluster_bootstrap(
    sums: Floats,
    statistic: Callable[[Floats], Floats],
    *,
    seed: int,
    n_resamples: int = N_RESAMPLES,
) -> Floats:
    """Resample clusters with replacement and evaluate a function of the resampled totals.

    Args:
        sums: Per-cluster sums of whatever the statistic is made of, shape (C, m).
        statistic: Maps totals (B, m) to values (B, q), row by row.
        seed: Same seed and same C give the same resamples, so two models are paired.
        n_resamples: Number of resamples.

    Returns:
        Replicates, shape (n_resamples, q).

    Source: Efron & Tibshirani 1993, with clusters as units (Davison & Hinkley 1997, section 3.8).
    """
    rng = np.random.default_rng(seed)
    if len(sums) > _MOST_UNITS:
        dealt = np.argsort(rng.permutation(len(sums)) % _MOST_UNITS, kind="stable")
        sizes = np.bincount(np.arange(len(sums)) % _MOST_UNITS)
        sums = np.add.reduceat(sums[dealt], np.concatenate([[0], np.cumsum(sizes)[:-1]]), axis=0)
    n_clusters = len(sums)
    parts = []
    for start in range(0, n_resamples, _CHUNK):
        size = min(_CHUNK, n_resamples - start)
        drawn = rng.integers(0, n_clusters, size=(size, n_clusters))
        weights = np.stack([np.bincount(row, minlength=n_clusters) for row in drawn]).astype(np.float64)
        parts.append(statistic(weights @ sums))
    return np.concatenate(parts)


def percentile_interval(replicates: Floats) -> tuple[float, float]:
    """Return the central 95% of replicates (B,)."""
    low, high = np.quantile(replicates, [0.025, 0.975])
    return float(low), float(high)


def least_compatible_effect(value: float, replicates_at: Callable[[float], Floats]) -> float:
    """Return the smallest factor t in [0, 1] at which `value` would be no surprise (97.5%, one-sided).

    For statistics that noise can only push up (ECE, reliability) resamples of the data never come near 0,
    even where the truth is 0. So the test is inverted: the effect that was seen is shrunk by t, data like
    that are resampled, and t is compatible if `value` does not exceed 97.5% of what they give. t = 0 is the
    exact null; for an effect that towers above its noise this is the lower end of the basic bootstrap.

    Args:
        value: What was observed.
        replicates_at: Maps t to replicates (B,) of the statistic where the effect is t times the one seen;
            their quantiles must not fall as t grows. Every t must use the same resamples.

    Source: bootstrap test inversion, Davison & Hinkley 1997, section 5.5.
    """

    def surprised(t: float) -> bool:
        return float(np.quantile(replicates_at(t), 0.975)) < value

    if not surprised(0.0):
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if surprised(middle) else (low, middle)
    return high
