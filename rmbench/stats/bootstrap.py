"""A seeded bootstrap over clusters, on per-cluster sums: cost does not grow with the observations."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rmbench.stats.clusters import Floats

N_RESAMPLES = 2000
_CHUNK = 50
_BISECTIONS = 30
_GROUPS_AT_ONCE = 100
MOST_UNITS = 4000
"""With more clusters than this, random (seeded) groups of clusters are resampled: the spread is the same, and
the cost stays linear."""


def cluster_bootstrap(
    sums: Floats | Sequence[Floats],
    statistic: Callable[[Floats], Floats],
    *,
    seed: int,
    n_resamples: int = N_RESAMPLES,
) -> Floats:
    """Resample clusters with replacement and evaluate a function of the resampled totals.

    Args:
        sums: Per-cluster sums that the statistic is computed from, shape (C, m); or several arrays side by
            side, each (C, ...), so that large ones need not be copied together.
        statistic: Maps totals (B, m) to values (B, q), row by row.
        seed: Same seed and same C give the same resamples, so two models are paired.
        n_resamples: Number of resamples.

    Returns:
        Replicates, shape (n_resamples, q).

    Source: Efron & Tibshirani 1993, with clusters as units (Davison & Hinkley 1997, section 3.8).
    """
    columns = [sums] if isinstance(sums, np.ndarray) else list(sums)
    n = len(columns[0])
    units = _grouped(columns, seed) if n > MOST_UNITS else np.concatenate(columns, axis=1)
    counts = _drawn_counts(seed, n, n_resamples)
    return np.concatenate(
        [
            statistic(counts[start : start + _CHUNK].astype(np.float64) @ units)
            for start in range(0, n_resamples, _CHUNK)
        ]
    )


@lru_cache(maxsize=32)
def _drawn_counts(seed: int, n: int, n_resamples: int) -> NDArray[np.uint8]:
    """Return how often each unit is drawn, (n_resamples, units).

    The counts are cached: all metrics and strata, and all models on the same items, use the same draws, and
    drawing takes longer than the metrics do. One array takes at most 8 MB. A count fits into a byte: in
    n draws from n units, one unit is drawn 256 times with a probability below 1e-500.
    """
    rng = np.random.default_rng(seed)
    if n > MOST_UNITS:
        rng.permutation(n)  # `_grouped` has drawn this before
    n_units = min(n, MOST_UNITS)
    counts = np.empty((n_resamples, n_units), dtype=np.uint8)
    for start in range(0, n_resamples, _CHUNK):
        drawn = rng.integers(0, n_units, size=(min(_CHUNK, n_resamples - start), n_units))
        for k, row in enumerate(drawn, start):
            counts[k] = np.bincount(row, minlength=n_units)
    return counts


def _grouped(columns: Sequence[Floats], seed: int) -> Floats:
    """Return the sums of random groups of clusters, (MOST_UNITS, m), made a few groups at a time."""
    n = len(columns[0])
    order = np.random.default_rng(seed).permutation(n)
    dealt = np.argsort(order % MOST_UNITS, kind="stable")
    ends = np.cumsum(np.bincount(np.arange(n) % MOST_UNITS))
    parts = []
    for first in range(0, MOST_UNITS, _GROUPS_AT_ONCE):
        begin = ends[first - 1] if first else 0
        starts = np.concatenate([[begin], ends[first : first + _GROUPS_AT_ONCE - 1]]) - begin
        rows = dealt[begin : ends[min(first + _GROUPS_AT_ONCE, MOST_UNITS) - 1]]
        parts.append(np.add.reduceat(np.concatenate([c[rows] for c in columns], axis=1), starts, axis=0))
    return np.concatenate(parts)


def percentile_interval(replicates: Floats) -> tuple[float, float]:
    """Return the central 95% of replicates (B,), some of which may be infinite."""
    if np.isfinite(replicates).all():
        low, high = np.quantile(replicates, [0.025, 0.975])
        return float(low), float(high)
    ordered = np.sort(replicates)
    last = len(ordered) - 1
    return float(ordered[int(0.025 * last)]), float(ordered[last - int(0.025 * last)])


def least_compatible_effect(value: float, replicates_at: Callable[[float], Floats]) -> float:
    """Return the smallest factor t in [0, 1] that is compatible with `value` (97.5%, one-sided).

    Noise can only raise some statistics (ECE, reliability). Their resamples never come near 0, even if the
    truth is 0. So the test is inverted: the observed effect is shrunk by t, such data are resampled, and t
    is compatible if `value` does not exceed 97.5% of the replicates. t = 0 is the exact null. For an effect
    far above its noise, the result is the lower end of the basic bootstrap.

    Args:
        value: The observed value.
        replicates_at: Maps t to replicates (B,) of the statistic with an effect of t times the observed one;
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
