"""Over-optimisation: gold against the proxy reward and against KL, and the curve of Gao et al. through it.

The module also measures the n with the highest gold, and the drop from there to the largest n.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np

from rmbench.core.options import made_of
from rmbench.metrics.best_of_n import (
    Prepared,
    best_of_n_curves,
    by_cluster,
    expected_kl,
    expected_of_pick,
    measure_curves,
    prepare,
    settled,
)
from rmbench.metrics.panel import Panel
from rmbench.metrics.selection import BestOfN, Pools, kl_bound
from rmbench.stats import Statistic, cluster_bootstrap, ratio
from rmbench.stats.bootstrap import percentile_interval
from rmbench.stats.clusters import Floats
from rmbench.types import Estimate

FEWEST_POINTS = 4
"""With fewer values of n than this, two parameters say nothing about the shape of a curve."""


@dataclass(frozen=True, slots=True)
class OverOptimisation:
    """Effect of a larger n, on one panel."""

    n_values: tuple[int, ...]
    metrics: Mapping[str, Estimate]
    """All metrics of best of n; `reward@n`, the proxy reward of the pick, minus a penalty if the rule has one
    (absent if `invalid=wrong` made rewards up); `gain@n`, gold minus gold at n = 1, paired by prompt; and,
    from the fit `R(d) = d (alpha - beta d)`, `fit_alpha`, `fit_beta`, `fit_rmse`, `fit_peak_kl`."""
    undefined: Mapping[str, str]
    """Metric -> the reason why it has no value here."""
    counts: Mapping[str, int]
    kl: tuple[float, ...] = ()
    """KL(selection || policy) at each n, nats: the estimate if there is one, else the bound."""
    kl_is: str = "bound"
    """`estimate` or `bound`."""
    reward_sd: float = 0.0
    """Standard deviation of the proxy's rewards within a prompt's pool (root mean variance): the common unit
    for proxies of different scales. 0 if `reward@n` has no value."""
    left_out: frozenset[str] = frozenset()
    """Ids of the items that are left out because of the model's own rewards."""


def measure_over_optimisation(panel: Panel, params: Any) -> OverOptimisation:
    """Measure best of n, or another rule, with the proxy reward and the fitted curve.

    Args:
        panel: Items and rewards; gold on any scale.
        params: Parameters of `best_of_n`.

    Raises:
        ScoringError: On a reward that is not finite, under `invalid=fail`.
    """
    params = made_of(BestOfN, params)
    ready = prepare(panel, params)
    if ready.problem:
        return OverOptimisation((), {}, {"win_rate": ready.problem}, ready.counts)
    left_out = () if ready.left_out is None else np.flatnonzero(ready.left_out)
    lacking = frozenset(panel.ids[k] for k in left_out)
    seed, panel, n_values = params.seed, ready.panel, ready.n_values
    curves = best_of_n_curves(ready.pools, n_values, ready.rule, seed)
    measured = measure_curves(ready, curves, seed)
    metrics, undefined = dict(measured.metrics), dict(measured.undefined)
    if ready.n_made_up:
        undefined["reward"] = f"invalid=wrong made up the rewards of {ready.n_made_up:,} pools"
    else:
        metrics |= _reward_along_n(ready, seed)
    prompts = panel.per_cluster(np.ones(panel.n_items))
    gold = by_cluster(panel, curves.gold)
    for g, n in enumerate(n_values):
        gain = settled(gold[:, g] - gold[:, 0])
        metrics[f"gain@{n}"] = ratio(gain, prompts, n=panel.n_items, unit="gold", present=prompts)
    estimated = f"kl@{n_values[-1]}" in metrics
    kl = by_cluster(panel, _kl_per_item(ready.pools, n_values, panel, estimated))
    fitted, why = fit_curve(gold, kl, prompts, n=panel.n_items, seed=seed)
    found = {name: s.estimate() for name, s in {**metrics, **fitted}.items()}
    levels = tuple(float(v) for v in kl.sum(axis=0) / prompts.sum())
    return OverOptimisation(
        n_values,
        found,
        {**undefined, **why},
        measured.counts,
        levels,
        "estimate" if estimated else "bound",
        0.0 if ready.n_made_up else _sd_within(ready.pools),
        lacking,
    )


def _reward_along_n(ready: Prepared, seed: int) -> dict[str, Statistic]:
    panel = ready.panel
    prompts = panel.per_cluster(np.ones(panel.n_items))
    picked = expected_of_pick(ready.pools, ready.n_values, panel.rewards, ready.rule, seed)
    sums = by_cluster(panel, picked)
    return {
        f"reward@{n}": ratio(
            sums[:, g], prompts, n=panel.n_items, unit="reward", higher_is_better=None, present=prompts
        )
        for g, n in enumerate(ready.n_values)
    }


def _sd_within(pools: Pools) -> float:
    total = sum(float(rewards.var(axis=1).sum()) for _, rewards, _ in pools.chunks())
    return sqrt(total / pools.n_prompts)


def _kl_per_item(pools: Pools, n_values: tuple[int, ...], panel: Panel, estimated: bool) -> Floats:
    if estimated:
        return expected_kl(pools, n_values, panel.logprobs)
    return np.tile([kl_bound(n) for n in n_values], (panel.n_items, 1))


def fit_curve(
    gold: Floats, kl: Floats, prompts: Floats, *, n: int, seed: int
) -> tuple[dict[str, Statistic], dict[str, str]]:
    """Fit `gold(d) - gold(0) = d (alpha - beta d)`, d = sqrt(KL), by least squares over the n of a curve.

    Args:
        gold: Sums of gold within clusters at n = 1, 2, 4, ..., shape (C, G).
        kl: Sums of KL within clusters, shape (C, G); 0 at n = 1.
        prompts: Prompts per cluster, shape (C,).
        n: Number of prompts.
        seed: Seeds the bootstrap over clusters; every resample is fitted again.

    Returns:
        `fit_alpha` (gold per sqrt nat), `fit_beta` (gold per nat), `fit_rmse` (root mean square residual over
        the points after n = 1) and `fit_peak_kl` (nats: (alpha / 2 beta)^2, the KL of the highest fitted
        gold, which may lie beyond the largest n); and the reasons of those without a value.

    Source: Gao et al. 2022, "Scaling Laws for Reward Model Overoptimization", arXiv 2210.10760, section 1
    (best-of-n form, R(0) := 0).
    """
    names = ("fit_alpha", "fit_beta", "fit_rmse", "fit_peak_kl")
    points = gold.shape[1]
    if points < FEWEST_POINTS:
        why = f"{points} values of n; the curve needs {FEWEST_POINTS}"
        return {}, dict.fromkeys(names, why)
    present = prompts > 0
    table = np.concatenate([gold[present], kl[present], prompts[present, None]], axis=1)
    values = fitted_values(table.sum(axis=0, keepdims=True))[0]
    if not np.isfinite(values).all():
        return {}, dict.fromkeys(names, "KL does not grow with n")
    intervals: list[tuple[float, float] | None] = [None] * 4
    if len(table) >= 2:
        replicates = cluster_bootstrap(table, fitted_values, seed=seed)
        if np.isfinite(replicates).all():
            peaks = peak_of(replicates[:, 0], replicates[:, 1])
            intervals = [percentile_interval(r) for r in (*replicates.T, peaks)]
    base = Statistic(
        value=0.0,
        influence=None,
        n=n,
        n_clusters=len(table),
        unit="gold",
        higher_is_better=None,
    )
    units = ("gold per sqrt nat", "gold per nat", "gold")
    found = {
        name: replace(base, value=float(values[q]), unit=units[q], ci95=intervals[q])
        for q, name in enumerate(names[:3])
    }
    alpha, beta = float(values[0]), float(values[1])
    if alpha <= 0.0 or beta <= 0.0:
        return found, {"fit_peak_kl": "the fitted curve has no peak: it falls, or rises, throughout"}
    peak = replace(base, value=(alpha / (2.0 * beta)) ** 2, unit="nats", ci95=intervals[3])
    return {**found, "fit_peak_kl": peak}, {}


def peak_of(alpha: Floats, beta: Floats) -> Floats:
    """Return the KL at which fitted curves peak, nats: 0 for a falling one, infinite for a rising one."""
    peak = np.square(alpha / (2.0 * np.where(beta > 0.0, beta, 1.0)))
    return np.where(alpha <= 0.0, 0.0, np.where(beta > 0.0, peak, np.inf))


def fitted_values(totals: Floats) -> Floats:
    """Return alpha, beta and the root mean square residual, (B, 3), of totals (B, 2 G + 1); NaN without KL.

    Totals are those of gold at each n, of KL at each n, and of prompts.
    """
    points = (totals.shape[1] - 1) // 2
    means = totals[:, :-1] / totals[:, -1:]
    gain = means[:, 1:points] - means[:, :1]
    kl = np.maximum(means[:, points + 1 :], 0.0)
    d = np.sqrt(kl)
    # Normal equations of gain = alpha d - beta d^2.
    s2, s3, s4 = (d**2).sum(axis=1), (d**3).sum(axis=1), (d**4).sum(axis=1)
    b1, b2 = (gain * d).sum(axis=1), (gain * d**2).sum(axis=1)
    det = s2 * s4 - s3**2
    # If the policy is certain of its response, KL is 0: no d, and no curve.
    det = np.where(det > 1e-12 * s2 * s4, det, np.nan)
    alpha, beta = (b1 * s4 - b2 * s3) / det, (b1 * s3 - b2 * s2) / det
    left = gain - alpha[:, None] * d + beta[:, None] * kl
    return np.stack([alpha, beta, np.sqrt((left**2).mean(axis=1))], axis=1)
