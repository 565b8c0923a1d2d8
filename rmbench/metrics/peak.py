"""The n at which gold is highest, and how far it falls from there to the largest n."""

import numpy as np

from rmbench.metrics.folds import folds_of
from rmbench.stats import Statistic, cluster_bootstrap, ratio
from rmbench.stats.bootstrap import percentile_interval
from rmbench.stats.clusters import Floats

_FOLDS = 5


def over_optimisation(
    gold: Floats, prompts: Floats, n_values: tuple[int, ...], *, n: int, seed: int, in_unit: bool
) -> dict[str, Statistic]:
    """Return `best_n`, the n with the highest gold, and `overoptimization_drop`.

    `best_n` is a maximum over noisy points: its interval is a percentile bootstrap over clusters that looks
    for the best n anew in every resample. Among equals the smallest n is taken.

    The drop from the highest point to the last one would be at least 0 by construction, and above it by noise
    alone. So the n is chosen on four fifths of the prompts, and the drop measured on the others, in turns:
    without over-optimisation it is 0 or below on average, and an interval above 0 is a test at 2.5%.

    Args:
        gold: Sums of expected gold within clusters, shape (C, G).
        prompts: Prompts per cluster, shape (C,).
        n_values: 1, 2, 4, ... and the largest n; G of them.
        n: Prompts in all.
        seed: Of the bootstrap and the folds.
        in_unit: Whether gold lies in [0, 1].
    """
    present = np.flatnonzero(prompts)
    best, interval = _best_n(gold[present], prompts[present], np.array(n_values, dtype=np.float64), seed)
    found = Statistic(
        value=best,
        influence=None,
        n=n,
        n_clusters=len(present),
        unit="responses",
        higher_is_better=None,
        ci95=interval,
    )
    drop = ratio(
        _held_out_drop(gold, prompts, present, seed),
        prompts,
        n=n,
        unit="gold",
        higher_is_better=False,
        limits=(-1.0, 1.0) if in_unit else None,
        present=prompts,
    )
    return {"best_n": found, "overoptimization_drop": drop}


def best_of_means(means: Floats) -> np.ndarray:
    """Return the place of the highest of each row (B, G); rounding of equal means does not move it."""
    return np.asarray(np.argmax(means >= means.max(axis=1, keepdims=True) - 1e-12, axis=1))


def _best_n(
    gold: Floats, prompts: Floats, n_values: Floats, seed: int
) -> tuple[float, tuple[float, float] | None]:
    table = np.concatenate([gold, prompts[:, None]], axis=1)

    def value_of(totals: Floats) -> Floats:
        return np.asarray(n_values[best_of_means(totals[:, :-1] / totals[:, -1:])][:, None])

    value = float(value_of(table.sum(axis=0, keepdims=True))[0, 0])
    if len(table) < 2:
        return value, None
    return value, percentile_interval(cluster_bootstrap(table, value_of, seed=seed)[:, 0])


def _held_out_drop(gold: Floats, prompts: Floats, present: np.ndarray, seed: int) -> Floats:
    """Return gold at the n that the other folds find best, less that at the last n, per cluster (C,)."""
    drop = np.zeros(len(gold))
    if len(present) < 2:
        return drop
    fold = folds_of(present, _FOLDS, seed)
    for k in range(int(fold.max()) + 1):
        others, here = present[fold != k], present[fold == k]
        means = gold[others].sum(axis=0, keepdims=True) / prompts[others].sum()
        drop[here] = gold[here, int(best_of_means(means)[0])] - gold[here, -1]
    return np.where(np.abs(drop) < 1e-12, 0.0, drop)
