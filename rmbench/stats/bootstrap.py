"""A seeded bootstrap over clusters, on per-cluster sums: cost does not grow with the observations."""

from collections.abc import Callable

import numpy as np

from rmbench.stats.estimates import Floats

N_RESAMPLES = 2000
_CHUNK = 50


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


def basic_interval(value: float, replicates: Floats, floor: float = -np.inf) -> tuple[float, float]:
    """Return the reflected ("basic") 95% interval, which undoes a bias that resampling shows, above `floor`.

    For a statistic such as ECE, which noise can only push up: resamples are pushed up once more, and
    reflecting them about the estimate takes the push back. It always holds max(value, floor) by widening.
    """
    low, high = percentile_interval(replicates)
    return max(floor, min(2 * value - high, value)), max(floor, 2 * value - low, value)
