"""Best of N against gold: does picking with the model give better text, and up to which N?"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np

from rmbench.metrics.panel import Panel, settle_invalid
from rmbench.metrics.pools import Pools, pools_of
from rmbench.metrics.result import KINDS, Measured
from rmbench.stats import Statistic, cluster_bootstrap, ratio
from rmbench.stats.bootstrap import percentile_interval
from rmbench.stats.estimates import Floats

REACHED_BY = 0.9
"""The curve goes up to the largest n that this share of prompts has responses for."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Expected values under best-of-n selection, per prompt and n."""

    n_values: tuple[int, ...]
    """1, 2, 4, ... and the largest n; G of them."""
    gold: Floats
    """Expected gold of the pick, shape (I, G)."""
    win: Floats
    """P(the pick's gold beats a draw from the rest of the pool), ties half, shape (I, G)."""
    oracle: Floats
    """Expected gold if rewards were gold, shape (I, G)."""


def n_grid(sizes: np.ndarray) -> tuple[int, ...]:
    """Return 1, 2, 4, ... up to and including the largest n that 90% of pools reach.

    Pools smaller than that are left out of the *whole* curve (and counted), so that every point is over
    the same prompts: a curve whose points rest on different prompts can rise or fall by selection alone.

    Args:
        sizes: Responses per prompt, shape (I,), I >= 1.
    """
    ordered = np.sort(sizes)[::-1]
    largest = int(ordered[max(0, int(np.ceil(REACHED_BY * len(ordered))) - 1)])
    powers = [1 << k for k in range(largest.bit_length()) if 1 << k < largest]
    return (*powers, largest)


def best_of_n_curves(pools: Pools, n_values: tuple[int, ...]) -> Curves:
    """Return exact expectations of best-of-n for every prompt.

    With responses sorted by reward (rank r = 1 is best) the best of n drawn without replacement from M is
    rank r with probability C(M - r, n - 1) / C(M, n); inside a block of tied rewards the value is averaged.
    No sampling, no seed; O(M log M) per prompt.

    Source: Hilton & Gao 2022, "Measuring Goodhart's law"; Nakano et al. 2021, arXiv 2112.09332, appendix I.
    """
    gold = np.empty((pools.n_prompts, len(n_values)))
    win, oracle = np.empty_like(gold), np.empty_like(gold)
    for prompts, rewards, truth in pools.chunks():
        weights = pick_probabilities(rewards.shape[1], n_values)
        gold[prompts] = _expected(rewards, truth, weights)
        win[prompts] = _expected(rewards, win_over_rest(truth), weights)
        oracle[prompts] = -np.sort(-truth, axis=1) @ weights
    return Curves(n_values, gold, win, oracle)


def pick_probabilities(pool_size: int, n_values: tuple[int, ...]) -> Floats:
    """Return P(rank r is the best of n), shape (M, G): `C(M - r, n - 1) / C(M, n)` by its recurrence."""
    table = np.zeros((pool_size, len(n_values)))
    for column, n in enumerate(n_values):
        rank = np.arange(1, pool_size - n + 1)
        steps = (pool_size - rank - n + 1) / (pool_size - rank)
        table[: pool_size - n + 1, column] = n / pool_size * np.concatenate([[1.0], np.cumprod(steps)])
    return table


def win_over_rest(gold: Floats) -> Floats:
    """Return for each response the share of the *other* ones in its pool that it beats, ties half.

    Args:
        gold: Shape (I, M), M >= 2.

    Returns:
        Shape (I, M); its mean over a pool is exactly 0.5.
    """
    order = np.argsort(gold, axis=1, kind="stable")
    ranked = np.broadcast_to(np.arange(gold.shape[1], dtype=np.float64), gold.shape)
    shared = _share_blocks(np.take_along_axis(gold, order, axis=1), ranked)
    midrank = np.empty_like(gold)
    np.put_along_axis(midrank, order, shared, axis=1)
    return np.asarray(midrank / (gold.shape[1] - 1))


def _expected(rewards: Floats, value: Floats, weights: Floats) -> Floats:
    """Return the expected value of the pick, shape (I, G), value averaged inside blocks of tied rewards."""
    order = np.argsort(-rewards, axis=1, kind="stable")
    ranked = np.take_along_axis(rewards, order, axis=1)
    shared = _share_blocks(ranked, np.take_along_axis(value, order, axis=1))
    return np.asarray(shared @ weights)


def _share_blocks(ranked: Floats, value: Floats) -> Floats:
    """Replace `value` by its mean over each run of equal `ranked` within a row; both (I, M)."""
    starts = np.ones(ranked.shape, dtype=bool)
    starts[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    if starts.all():
        return value
    first = np.flatnonzero(starts.ravel())
    size = np.diff(np.append(first, ranked.size))
    mean = np.add.reduceat(value.ravel(), first) / size
    return np.repeat(mean, size).reshape(ranked.shape)


@KINDS.register("best_of_n")
def measure_best_of_n(panel: Panel, params: Mapping[str, Any]) -> Measured:
    """Measure best-of-n selection against gold.

    Args:
        panel: Items and rewards; gold on any scale.
        params: `seed` (bootstrap of the over-optimisation point), `invalid`.

    Returns:
        `gold@n`, `win_rate@n`, `recovery@n`, `regret@n`, `oracle@n`, `kl_bound@n` for n = 1, 2, 4, ..., and
        `best_n`, `overoptimization_drop`.
    """
    panel, n_invalid = settle_invalid(panel, str(params.get("invalid", "fail")), ranking=True)
    known = np.isfinite(panel.gold)
    missing = np.zeros(panel.n_items, dtype=bool)
    missing[panel.item_of_row()[~known]] = True
    panel = panel.take(~missing & (panel.sizes >= 2))
    counts = {"invalid_items": n_invalid, "items_without_gold": int(missing.sum())}
    if panel.n_items == 0:
        return Measured({}, counts, {"win_rate": "no pool with gold on every response"})
    n_values = n_grid(panel.sizes)
    large_enough = panel.sizes >= n_values[-1]
    counts["pools_too_small"] = int((~large_enough).sum())
    panel = panel.take(large_enough)
    pools = pools_of(panel)
    counts |= {"pools": pools.n_prompts, "pools_with_equal_gold": pools.n_with_equal_gold()}
    curves = best_of_n_curves(pools, n_values)
    metrics, undefined = _along_n(panel, curves)
    metrics |= _over_optimisation(panel, curves, int(params.get("seed", 0)))
    return Measured(metrics, counts, undefined)


def _along_n(panel: Panel, curves: Curves) -> tuple[dict[str, Statistic], dict[str, str]]:
    prompts = panel.per_cluster(np.ones(panel.n_items))
    sums = {name: _by_cluster(panel, getattr(curves, name)) for name in ("gold", "win", "oracle")}
    gold, win, oracle = sums["gold"], sums["win"], sums["oracle"]
    metrics: dict[str, Statistic] = {}
    undefined: dict[str, str] = {}

    def put(name: str, top: Floats, bottom: Floats, unit: str, better: bool | None, bounded: bool) -> None:
        metrics[name] = ratio(
            top,
            bottom,
            n=panel.n_items,
            unit=unit,
            higher_is_better=better,
            bounded=bounded,
            present=prompts,
        )

    in_unit = bool(curves.gold.min() >= 0.0 and curves.oracle.max() <= 1.0)
    for g, n in enumerate(curves.n_values):
        put(f"gold@{n}", gold[:, g], prompts, "gold", True, in_unit)
        put(f"win_rate@{n}", win[:, g], prompts, "fraction", True, True)
        put(f"oracle@{n}", oracle[:, g], prompts, "gold", None, in_unit)
        put(f"regret@{n}", settled(oracle[:, g] - gold[:, g]), prompts, "gold", False, False)
        possible = oracle[:, g] - gold[:, 0]
        if n == 1:
            undefined[f"recovery@{n}"] = "nothing to recover at n = 1"
        elif possible.sum() <= 1e-12 * max(1.0, float(np.abs(gold).sum())):
            undefined[f"recovery@{n}"] = "every pool has equal gold"
        else:
            put(f"recovery@{n}", settled(gold[:, g] - gold[:, 0]), possible, "fraction", True, False)
        metrics[f"kl_bound@{n}"] = Statistic(
            value=log(n) - (n - 1) / n,
            influence=None,
            n=panel.n_items,
            n_clusters=int(np.count_nonzero(prompts)),
            unit="nats",
            higher_is_better=None,
        )
    return metrics, undefined


def settled(difference: Floats) -> Floats:
    """Return differences with rounding taken off: equal sums added in another order differ by 0."""
    return np.where(np.abs(difference) < 1e-12, 0.0, difference)


def _by_cluster(panel: Panel, per_item: Floats) -> Floats:
    """Return sums within clusters of an (I, G) table, shape (C, G)."""
    return np.stack([panel.per_cluster(column) for column in per_item.T], axis=1)


def _over_optimisation(panel: Panel, curves: Curves, seed: int) -> dict[str, Statistic]:
    """Return the n with the highest gold, and how far gold falls from there to the largest n.

    Both are maxima over noisy points, so the interval is a percentile bootstrap over clusters that looks
    for the best n anew in every resample; among equals the smallest n is taken.
    """
    present = np.flatnonzero(panel.per_cluster(np.ones(panel.n_items)))
    sums = _by_cluster(panel, curves.gold)[present]
    counts = panel.per_cluster(np.ones(panel.n_items))[present][:, None]
    n_values = np.array(curves.n_values, dtype=np.float64)

    def value_of(totals: Floats) -> Floats:
        gold = totals[:, :-1] / totals[:, -1:]
        # Rounding of exactly equal means (a constant scorer) must not move the best n off the smallest.
        best = np.argmax(gold >= gold.max(axis=1, keepdims=True) - 1e-12, axis=1)
        drop = gold.max(axis=1) - gold[:, -1]
        return np.stack([n_values[best], np.where(drop < 1e-12, 0.0, drop)], axis=1)

    table = np.concatenate([sums, counts], axis=1)
    best, drop = value_of(table.sum(axis=0, keepdims=True))[0]
    base = Statistic(
        value=float(best),
        influence=None,
        n=panel.n_items,
        n_clusters=len(present),
        unit="responses",
        higher_is_better=None,
    )
    intervals: list[tuple[float, float] | None] = [None, None]
    if len(present) >= 2:
        replicates = cluster_bootstrap(table, value_of, seed=seed)
        intervals = [percentile_interval(replicates[:, q]) for q in (0, 1)]
    return {
        "best_n": replace(base, ci95=intervals[0]),
        "overoptimization_drop": replace(
            base, value=float(drop), ci95=intervals[1], unit="gold", higher_is_better=False
        ),
    }
