"""Best of N against gold: does picking by reward give better text, and up to which N."""

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from rmbench.core.options import made_of
from rmbench.metrics.kinds import Measured, Metric, register_kind
from rmbench.metrics.panel import Panel, folds_of, left_out_items, settle_invalid
from rmbench.metrics.selection import (
    BEST,
    BestOfN,
    Pools,
    Rule,
    expectation,
    kl_bound,
    kl_of_pick,
    penalised,
    pick_probabilities,
    pools_of,
    rule_of,
    share_blocks,
)
from rmbench.stats import Statistic, cluster_bootstrap, few_decide, ratio
from rmbench.stats.bootstrap import percentile_interval
from rmbench.stats.clusters import Floats

Limits: TypeAlias = tuple[float, float]
_UNIT: Limits = (0.0, 1.0)
REACHED_BY = 0.9
"""The curve ends at the largest n for which this share of prompts has enough responses."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Expected values under best-of-n selection, per prompt and n."""

    n_values: tuple[int, ...]
    """G values of n: 1, 2, 4, ... and the largest n."""
    gold: Floats
    """Expected gold of the pick, shape (I, G)."""
    win: Floats
    """P(the pick's gold beats a draw from the rest of the pool), ties half, shape (I, G)."""
    oracle: Floats
    """Expected gold of the best if rewards were gold, shape (I, G)."""
    worst: Floats
    """Expected gold of the worst of n, shape (I, G): no choice does worse."""
    in_unit: bool
    """True if all gold lies in [0, 1]."""


def n_grid(sizes: np.ndarray) -> tuple[int, ...]:
    """Return 1, 2, 4, ... up to and including the largest n that 90% of pools reach.

    Smaller pools are left out of the *whole* curve (and counted), so that all points are over the same
    prompts: if prompts differed between points, the curve could rise or fall by selection alone.

    Args:
        sizes: Responses per prompt, shape (I,), I >= 1.
    """
    ordered = np.sort(sizes)[::-1]
    largest = int(ordered[max(0, int(np.ceil(REACHED_BY * len(ordered))) - 1)])
    powers = [1 << k for k in range(largest.bit_length()) if 1 << k < largest]
    return (*powers, largest)


def best_of_n_curves(pools: Pools, n_values: tuple[int, ...], rule: Rule = BEST, seed: int = 0) -> Curves:
    """Return expectations of best-of-n, or of another rule (see `expectation`), for every prompt.

    With responses sorted by reward (rank r = 1 is best) the best of n drawn without replacement from M is
    rank r with probability C(M - r, n - 1) / C(M, n); inside a block of tied rewards the value is averaged.
    The values are exact, without sampling, in O(M log M) per prompt. Only the soft and the pessimistic rule
    draw random numbers, from `seed`.

    Source: Hilton & Gao 2022, "Measuring Goodhart's law"; Nakano et al. 2021, arXiv 2112.09332, appendix I.
    """
    gold = np.empty((pools.n_prompts, len(n_values)))
    win, oracle, worst = np.empty_like(gold), np.empty_like(gold), np.empty_like(gold)
    rng = np.random.default_rng(seed)
    for prompts, rewards, truth in pools.chunks():
        expected = expectation(rule, rewards.shape[1], n_values, rng)
        gold[prompts], win[prompts] = expected(rewards, [truth, win_over_rest(truth)])
        ordered, chance = np.sort(truth, axis=1), pick_probabilities(rewards.shape[1], n_values)
        oracle[prompts], worst[prompts] = ordered[:, ::-1] @ chance, ordered @ chance
    in_unit = bool(pools.gold.min(initial=0.0) >= 0.0 and pools.gold.max(initial=1.0) <= 1.0)
    return Curves(n_values, gold, win, oracle, worst, in_unit)


def expected_of_pick(
    pools: Pools, n_values: tuple[int, ...], value: Floats, rule: Rule = BEST, seed: int = 0
) -> Floats:
    """Return the expected `value` (R,) of the selected response, shape (I, G); choices as in the curves."""
    found = np.empty((pools.n_prompts, len(n_values)))
    rng = np.random.default_rng(seed)
    for prompts, rewards, valued in replace(pools, gold=value).chunks():
        (found[prompts],) = expectation(rule, rewards.shape[1], n_values, rng)(rewards, [valued])
    return found


def expected_kl(pools: Pools, n_values: tuple[int, ...], logprobs: Floats) -> Floats:
    """Return the mean of `kl_of_pick` over picks for every prompt: KL(best of n || policy), shape (I, G)."""
    columns = [expected_of_pick(pools, (n,), kl_of_pick(logprobs, n)) for n in n_values]
    return np.concatenate(columns, axis=1)


def win_over_rest(gold: Floats) -> Floats:
    """Return for each response the share of the *other* ones in its pool that it beats, ties half.

    Args:
        gold: Shape (I, M), M >= 2.

    Returns:
        Shape (I, M); its mean over a pool is exactly 0.5.
    """
    order = np.argsort(gold, axis=1, kind="stable")
    ranked = np.broadcast_to(np.arange(gold.shape[1], dtype=np.float64), gold.shape)
    shared = share_blocks(np.take_along_axis(gold, order, axis=1), ranked)
    midrank = np.empty_like(gold)
    np.put_along_axis(midrank, order, shared, axis=1)
    return np.asarray(midrank / (gold.shape[1] - 1))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A panel for best of n, with counts of the items that were left out."""

    panel: Panel
    """Items, with the rewards that the rule uses."""
    pools: Pools
    n_values: tuple[int, ...]
    rule: Rule
    counts: dict[str, int]
    problem: str = ""
    """Reasons for which nothing is left to measure."""
    n_made_up: int = 0
    """Remaining pools whose rewards `invalid=wrong` made up: only their order has a meaning."""
    left_out: NDArray[np.bool_] | None = None
    """Items of the whole panel that are left out because of the model's rewards, shape (I,)."""


def prepare(panel: Panel, params: Any) -> Prepared:
    """Apply the rule and the `invalid` parameter, and keep the pools that are large enough for the curve."""
    params = made_of(BestOfN, params)
    rule = rule_of(params)
    counts = {}
    without = np.zeros(panel.n_items, dtype=bool)
    if rule.select == "logprob-penalty":
        without[panel.item_of_row()[np.isnan(panel.logprobs)]] = True
        panel, counts["items_without_logprobs"] = panel.take(~without), int(without.sum())
    panel = penalised(panel, rule)
    invalid = {panel.ids[k] for k in np.unique(panel.item_of_row()[~np.isfinite(panel.rewards)])}
    invalid_rule, ranking = params.invalid, not rule.needs_scale
    left_out = None
    if (dropped := left_out_items(panel, invalid_rule, ranking=ranking)) is not None:
        left_out = np.zeros_like(without)
        left_out[~without] = dropped
    panel, n_invalid = settle_invalid(panel, invalid_rule, ranking=ranking)
    known = np.isfinite(panel.gold)
    missing = np.zeros(panel.n_items, dtype=bool)
    missing[panel.item_of_row()[~known]] = True
    usable = ~missing & (panel.sizes >= 2)
    counts = {"invalid_items": n_invalid, "items_without_gold": int(missing.sum()), **counts}
    if not usable.any():
        problem = "no pool with gold on every response"
        if without.any():
            problem += ", and log-probabilities, which the rule needs"
        panel = panel.take(usable)
        return Prepared(panel, pools_of(panel), (), rule, counts, problem, left_out=left_out)
    n_values = n_grid(panel.sizes[usable])
    large_enough = usable & (panel.sizes >= n_values[-1])
    counts["pools_too_small"] = int(usable.sum() - large_enough.sum())
    panel = panel.take(large_enough)
    pools = pools_of(panel)
    counts |= {"pools": pools.n_prompts, "pools_with_equal_gold": pools.n_with_equal_gold()}
    n_made_up = sum(name in invalid for name in panel.ids) if invalid else 0
    return Prepared(panel, pools, n_values, rule, counts, n_made_up=n_made_up, left_out=left_out)


@register_kind(
    "best_of_n",
    title="Best of N",
    params=BestOfN,
    aliases=["bon"],
    needs_scale=lambda params: rule_of(params).needs_scale,
    metrics=[
        Metric("win_rate@max", "share of the rest of the pool that the pick beats", in_strata=True),
        Metric("gold@1", "gold of the pick", in_strata=True, compared=False, of_data=True),
        Metric("gold@max"),
        Metric("oracle@max", "gold of the best in the pool", compared=False, of_data=True),
        Metric("recovery@max", "share of the possible gain that is reached", in_strata=True),
        Metric("best_n", "the N of the highest gold"),
    ],
)
def measure_best_of_n(panel: Panel, params: BestOfN) -> Measured:
    """Measure best-of-n selection against gold.

    Args:
        panel: Items and rewards; gold on any scale.
        params: `seed` seeds the bootstrap of the over-optimisation point and the soft rule's noise.

    Returns:
        `gold@n`, `win_rate@n`, `recovery@n`, `regret@n`, `oracle@n`, `kl_bound@n` for n = 1, 2, 4, ..., and
        `best_n`, `overoptimization_drop`; `kl@n` where log-probabilities are known.
    """
    ready = prepare(panel, params)
    if ready.problem:
        return Measured({}, ready.counts, {"win_rate": ready.problem}, left_out=ready.left_out)
    curves = best_of_n_curves(ready.pools, ready.n_values, ready.rule, params.seed)
    return measure_curves(ready, curves, params.seed)


def measure_curves(ready: Prepared, curves: Curves, seed: int) -> Measured:
    """Return the result of `measure_best_of_n` for a prepared panel and its curves."""
    metrics, undefined = _along_n(ready.panel, curves)
    panel = ready.panel
    metrics |= over_optimisation(
        by_cluster(panel, curves.gold),
        panel.per_cluster(np.ones(panel.n_items)),
        curves.n_values,
        n=panel.n_items,
        seed=seed,
    )
    estimated, problems = _kl_along_n(ready)
    undefined |= problems
    return Measured({**metrics, **estimated}, ready.counts, undefined, left_out=ready.left_out)


def _kl_along_n(ready: Prepared) -> tuple[dict[str, Statistic], dict[str, str]]:
    """Return `kl@n`, or the reason why it has no value; both are empty on data without log-probabilities."""
    panel = ready.panel
    known = np.isfinite(panel.logprobs)
    if not known.any():
        return {}, {}
    if not ready.rule.takes_best:
        return {}, {"kl": f"the estimate is for the best of n, and the rule is {ready.rule.select}"}
    if not known.all():
        lacking = len(np.unique(panel.item_of_row()[~known]))
        return {}, {"kl": f"log-probabilities are missing in {lacking:,} of {panel.n_items:,} items"}
    prompts = panel.per_cluster(np.ones(panel.n_items))
    sums = by_cluster(panel, expected_kl(ready.pools, ready.n_values, panel.logprobs))
    return {
        f"kl@{n}": ratio(
            sums[:, g], prompts, n=panel.n_items, unit="nats", higher_is_better=None, present=prompts
        )
        for g, n in enumerate(ready.n_values)
    }, {}


def _along_n(panel: Panel, curves: Curves) -> tuple[dict[str, Statistic], dict[str, str]]:
    prompts = panel.per_cluster(np.ones(panel.n_items))
    sums = {name: by_cluster(panel, getattr(curves, name)) for name in ("gold", "win", "oracle", "worst")}
    gold, win, oracle, worst = sums["gold"], sums["win"], sums["oracle"], sums["worst"]
    metrics: dict[str, Statistic] = {}
    undefined: dict[str, str] = {}

    def put(
        name: str, top: Floats, bottom: Floats, unit: str, better: bool | None, limits: Limits | None
    ) -> None:
        bounded = limits == _UNIT
        found = ratio(
            top,
            bottom,
            n=panel.n_items,
            unit=unit,
            higher_is_better=better,
            bounded=bounded,
            limits=None if bounded else limits,
            present=prompts,
        )
        metrics[name] = replace(found, remark=few_decide(found))

    in_unit = _UNIT if curves.in_unit else None
    for g, n in enumerate(curves.n_values):
        put(f"gold@{n}", gold[:, g], prompts, "gold", True, in_unit)
        put(f"win_rate@{n}", win[:, g], prompts, "fraction", True, _UNIT)
        put(f"oracle@{n}", oracle[:, g], prompts, "gold", None, in_unit)
        put(f"regret@{n}", settled(oracle[:, g] - gold[:, g]), prompts, "gold", False, in_unit)
        possible = settled(oracle[:, g] - gold[:, 0])
        if n == 1:
            undefined[f"recovery@{n}"] = "nothing to recover at n = 1"
        elif possible.sum() <= 1e-12 * max(1.0, float(np.abs(gold).sum())):
            undefined[f"recovery@{n}"] = "every pool has equal gold"
        else:
            # The worst response of each draw instead of the best: the least gold that a choice can have.
            lowest = float((worst[:, g] - gold[:, 0]).sum() / possible.sum())
            gained = settled(gold[:, g] - gold[:, 0])
            put(f"recovery@{n}", gained, possible, "fraction", True, (min(lowest, 0.0), 1.0))
        metrics[f"kl_bound@{n}"] = Statistic(
            value=kl_bound(n),
            influence=None,
            n=panel.n_items,
            n_clusters=int(np.count_nonzero(prompts)),
            unit="nats",
            higher_is_better=None,
        )
    return metrics, undefined


def settled(difference: Floats) -> Floats:
    """Return differences without rounding errors: equal sums added in another order differ by 0."""
    return np.where(np.abs(difference) < 1e-12, 0.0, difference)


def by_cluster(panel: Panel, per_item: Floats) -> Floats:
    """Return sums within clusters of an (I, G) table, shape (C, G)."""
    return np.stack([panel.per_cluster(column) for column in per_item.T], axis=1)


_FOLDS = 5


def over_optimisation(
    gold: Floats, prompts: Floats, n_values: tuple[int, ...], *, n: int, seed: int
) -> dict[str, Statistic]:
    """Return `best_n`, the n with the highest gold, and `overoptimization_drop`.

    `best_n` is a maximum over noisy points: its interval is a percentile bootstrap over clusters that finds
    the best n again in every resample. Among equals it is the smallest n.

    The drop is gold at the best n below the largest, minus gold at the largest: negative if gold still
    rises. With choice and measurement on the same prompts, noise alone would make it positive. So the n is
    chosen on four fifths of the prompts and the drop measured on the others, in turn. Its interval is for
    the largest true drop: from a band that holds all of them at once (see `_band`). An interval above 0 is a
    test at 2.5%.

    Args:
        gold: Sums of expected gold within clusters, shape (C, G).
        prompts: Prompts per cluster, shape (C,).
        n_values: G values of n: 1, 2, 4, ... and the largest n.
        n: Number of prompts.
        seed: Seeds the bootstrap and the folds.
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
    """Return the place of the highest value of each row (B, G); rounding of equal means does not move it."""
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
    """Return the loss per prompt from the n that is best on the other folds, as a mean over folds.

    Args:
        lost: Sums within clusters of gold at each n below the largest, minus gold at the largest, (C, G - 1).
        prompts: Prompts per cluster, shape (C,).
        seed: Deals the folds.
    """
    fold = folds_of(np.arange(len(lost)), _FOLDS, seed)
    total = 0.0
    for k in range(int(fold.max()) + 1):
        others = lost[fold != k].sum(axis=0, keepdims=True) / prompts[fold != k].sum()
        total += float(lost[fold == k, int(best_of_means(others)[0])].sum())
    return total / float(prompts.sum())


def _band(lost: Floats, prompts: Floats, n: int, seed: int) -> tuple[float, float] | None:
    """Return the interval of the largest value from a 95% band around all of `lost`; None without noise.

    The band's width is the bootstrap's 95% quantile of the largest deviation in units of standard errors, and
    Student's if prompts are few. It holds all true values at once, and so the largest of them.
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
