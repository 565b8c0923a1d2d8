"""The n at which gold is highest, and how far it falls from there to the largest n."""

from dataclasses import replace

import numpy as np
from scipy.special import ndtri, stdtrit

from rmbench.metrics.folds import folds_of
from rmbench.stats import Statistic, cluster_bootstrap, ratio
from rmbench.stats.bootstrap import percentile_interval
from rmbench.stats.clusters import Floats

_FOLDS = 5


def over_optimisation(
    gold: Floats, prompts: Floats, n_values: tuple[int, ...], *, n: int, seed: int
) -> dict[str, Statistic]:
    """Return `best_n`, the n with the highest gold, and `overoptimization_drop`.

    `best_n` is a maximum over noisy points: its interval is a percentile bootstrap over clusters that looks
    for the best n anew in every resample. Among equals the smallest n is taken.

    The drop is gold at the best n below the largest, less gold at the largest: below 0 where gold still
    rises. Chosen and measured on the same prompts it would be above 0 by noise alone, so the n is chosen on
    four fifths of the prompts and the drop measured on the others, in turns. Its interval is for the largest
    of the true drops: from a band that holds all of them at once (see `_band`). One above 0 is a test at
    2.5%.

    Args:
        gold: Sums of expected gold within clusters, shape (C, G).
        prompts: Prompts per cluster, shape (C,).
        n_values: 1, 2, 4, ... and the largest n; G of them.
        n: Prompts in all.
        seed: Of the bootstrap and the folds.
    """
    present = np.flatnonzero(prompts)
    gold, prompts = gold[present], prompts[present]
    best, interval = _best_n(gold, prompts, np.array(n_values, dtype=np.float64), seed)
    base = Statistic(
        value=best,
        influence=None,
        n=n,
        n_clusters=len(present),
        unit="responses",
        higher_is_better=None,
        ci95=interval,
    )
    found = {"best_n": base}
    if len(n_values) > 1 and len(present) > 1:
        lost = gold[:, :-1] - gold[:, -1:]
        lost = np.where(np.abs(lost) < 1e-12, 0.0, lost)
        value = _held_out(lost, prompts, seed)
        band = _band(lost, prompts, n, seed)
        around = None if band is None else (min(band[0], value), max(band[1], value))
        found["overoptimization_drop"] = replace(
            base, value=value, ci95=around, unit="gold", higher_is_better=False
        )
    return found


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


def _held_out(lost: Floats, prompts: Floats, seed: int) -> float:
    """Return what is lost per prompt from the n that the other folds find best, mean over folds.

    Args:
        lost: Sums within clusters of gold at each n below the largest, less gold at the largest, (C, G - 1).
        prompts: Per cluster, shape (C,).
        seed: Deals the folds.
    """
    fold = folds_of(np.arange(len(lost)), _FOLDS, seed)
    total = 0.0
    for k in range(int(fold.max()) + 1):
        others = lost[fold != k].sum(axis=0, keepdims=True) / prompts[fold != k].sum()
        total += float(lost[fold == k, int(best_of_means(others)[0])].sum())
    return total / float(prompts.sum())


def _band(lost: Floats, prompts: Floats, n: int, seed: int) -> tuple[float, float] | None:
    """Return the ends of the largest value that a 95% band around all of `lost` allows; None without noise.

    The band's width is the bootstrap's 95% quantile of the largest deviation in units of standard errors, and
    Student's where prompts are few. All true values lie in it at once, and so does their largest.
    """
    found = [ratio(column, prompts, n=n, present=prompts) for column in lost.T]
    errors = np.array([s.stderr or 0.0 for s in found])
    value, there = np.array([s.value for s in found]), errors > 1e-12
    if not there.any():
        return None

    def largest(totals: Floats) -> Floats:
        away = totals[:, :-1] / totals[:, -1:] - value
        return np.asarray(np.abs(away[:, there] / errors[there]).max(axis=1)[:, None])

    table = np.concatenate([lost, prompts[:, None]], axis=1)
    width = float(np.quantile(cluster_bootstrap(table, largest, seed=seed), 0.95))
    freedom = min(s.freedom for s in found if s.freedom is not None)
    width *= float(stdtrit(freedom, 0.975) / ndtri(0.975))
    return float((value - width * errors).max()), float((value + width * errors).max())
