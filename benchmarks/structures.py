"""Simulated data with the structures that real sets have, and whose truth is known.

Each function draws one data set of a given size as a panel. `benchmarks/coverage.py` measures on them how
often a nominal 95% interval holds the truth; the tests do the same on fewer data sets.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics import Panel, PanelRow, build_panel

Simulation = Callable[[np.random.Generator, int], Panel]
MOST = 300
"""Items that a prompt has at most."""


def pairs_panel(
    credit: NDArray[np.float64], clusters: Sequence[int], strata: Sequence[str] | None = None
) -> Panel:
    """Return pairs that are right (1), tied (0.5) or wrong (0), each with the prompt it belongs to."""
    return build_panel(
        PanelRow(
            id=f"{k:06d}",
            rewards=[2.0 * value - 1.0, 0.0],
            gold=[1.0, 0.0],
            lengths=[10, 10],
            cluster=f"{cluster:06d}",
            strata={} if strata is None else {"part": strata[k]},
            gold_kind="label",
        )
        for k, (value, cluster) in enumerate(zip(credit.tolist(), clusters, strict=True))
    )


def pools_panel(rewards: NDArray[np.float64], gold: NDArray[np.float64]) -> Panel:
    """Return a pool of candidates per prompt, both (I, M)."""
    return build_panel(
        PanelRow(
            id=f"{k:06d}", rewards=r, gold=g, lengths=[10] * len(r), cluster=f"{k:06d}", strata={},
            gold_kind="graded",
        )
        for k, (r, g) in enumerate(zip(rewards.tolist(), gold.tolist(), strict=True))
    )  # fmt: skip


def sizes_of(rng: np.random.Generator, kind: str, n_clusters: int) -> NDArray[np.int64]:
    """Return how many items each prompt has, (C,).

    Args:
        rng: Draws them.
        kind: `lognormal`, `pareto`, `one-large` (one prompt has half of them) or `few-large` (15% have 30).
        n_clusters: Prompts, C.
    """
    if kind == "lognormal":
        sizes = np.exp(rng.normal(1.0, 1.2, n_clusters))
    elif kind == "pareto":
        sizes = 1.0 + 2.0 * rng.pareto(1.2, n_clusters)
    elif kind == "one-large":
        sizes = np.full(n_clusters, 2.0)
        sizes[0] = 2.0 * (n_clusters - 1)
    else:
        sizes = np.where(rng.random(n_clusters) < 0.15, 30.0, 1.0)
    return np.clip(np.round(sizes), 1, MOST).astype(np.int64)


def agreeing(
    rng: np.random.Generator, cluster: NDArray[np.int64], p: float, correlation: float
) -> NDArray[np.float64]:
    """Return right (1) and wrong (0) with mean `p`; those of one prompt are correlated."""
    n_clusters = int(cluster.max()) + 1
    if correlation == 0.0:
        return (rng.random(len(cluster)) < p).astype(float)
    if correlation == 1.0:
        return (rng.random(n_clusters) < p)[cluster].astype(float)
    strength = 1.0 / correlation - 1.0
    return (
        rng.random(len(cluster)) < rng.beta(p * strength, (1 - p) * strength, n_clusters)[cluster]
    ).astype(float)


def unequal(kind: str, correlation: float, p: float = 0.6) -> Simulation:
    """Prompts with very unequal numbers of pairs."""

    def simulate(rng: np.random.Generator, n_clusters: int) -> Panel:
        sizes = sizes_of(rng, kind, n_clusters)
        cluster = np.repeat(np.arange(n_clusters), sizes)
        return pairs_panel(agreeing(rng, cluster, p, correlation), cluster.tolist())

    return simulate


def equal_models(rng: np.random.Generator, kind: str, n_clusters: int, n_models: int) -> list[Panel]:
    """Models that are equally good on the same pairs, and find the same prompts hard."""
    sizes = sizes_of(rng, kind, n_clusters)
    cluster = np.repeat(np.arange(n_clusters), sizes)
    hard = rng.normal(0.4, 0.8, n_clusters)[cluster]
    own = rng.normal(0.0, 0.6, (n_models, n_clusters))[:, cluster]
    right = rng.normal(size=(n_models, len(cluster))) + hard + own > 0.0
    return [pairs_panel(row.astype(float), cluster.tolist()) for row in right]


def strata_of(sizes: Sequence[int], p: float = 0.6) -> Simulation:
    """One pair per prompt, strata of these many prompts; the size asked for is not looked at."""

    def simulate(rng: np.random.Generator, _: int) -> Panel:
        names = [f"s{k}" for k, size in enumerate(sizes) for _ in range(size)]
        credit = (rng.random(len(names)) < p).astype(float)
        return pairs_panel(credit, list(range(len(names))), names)

    return simulate


def many_pairs_in_strata(sizes: Sequence[int], n_pairs: int) -> Simulation:
    """Strata of these many prompts with this many pairs each: the accuracy of a prompt varies little."""

    def simulate(rng: np.random.Generator, _: int) -> Panel:
        prompts = [f"s{k}" for k, size in enumerate(sizes) for _ in range(size)]
        p = rng.beta(12.0, 4.0, len(prompts))
        credit = (rng.random((len(prompts), n_pairs)) < p[:, None]).astype(float).ravel()
        cluster = np.repeat(np.arange(len(prompts)), n_pairs)
        return pairs_panel(credit, cluster.tolist(), np.repeat(prompts, n_pairs).tolist())

    return simulate


def claims(spread: float, scale: float = 1.0) -> Simulation:
    """Pairs whose margin is `scale` times the log-odds of what it claims, log-odds with this deviation.

    With `scale` 1 the model is calibrated; its best temperature is `scale`.
    """

    def simulate(rng: np.random.Generator, n_prompts: int) -> Panel:
        odds = rng.normal(0.0, spread, n_prompts)
        first = rng.random(n_prompts) < 1.0 / (1.0 + np.exp(-odds))
        return margins_panel(scale * np.where(first, odds, -odds))

    return simulate


def margins_panel(margin: NDArray[np.float64], longer_by: NDArray[np.float64] | None = None) -> Panel:
    """Return pairs with these margins, chosen less rejected, a prompt each; lengths in characters."""
    by = np.zeros(len(margin)) if longer_by is None else np.round(longer_by)
    return build_panel(
        PanelRow(
            id=f"{k:06d}", rewards=[m, 0.0], gold=[1.0, 0.0],
            lengths=[1000 + max(0, int(d)), 1000 + max(0, -int(d))],
            cluster=f"{k:06d}", strata={}, gold_kind="label",
        )
        for k, (m, d) in enumerate(zip(margin.tolist(), by.tolist(), strict=True))
    )  # fmt: skip


def by_length(longer: float, slope: float) -> Simulation:
    """Pairs whose chosen response is the longer one in this share; the model likes length.

    At equal length it is right with probability 0.65; `slope` is what a standard deviation of length adds to
    the log-odds. An infinite slope is a scorer of pure length, which is right at equal length half the time.
    """

    def simulate(rng: np.random.Generator, n_prompts: int) -> Panel:
        size = np.abs(rng.normal(0.0, 300.0, n_prompts)) + 1.0
        difference = np.where(rng.random(n_prompts) < longer, size, -size)
        if np.isinf(slope):
            return margins_panel(np.round(difference).astype(np.float64), difference)
        odds = np.log(0.65 / 0.35) + slope * difference / 300.0
        right = rng.random(n_prompts) < 1.0 / (1.0 + np.exp(-odds))
        return margins_panel(np.where(right, 1.0, -1.0).astype(np.float64), difference)

    return simulate


def lognormal_gold(rng: np.random.Generator, n_prompts: int) -> Panel:
    """Pools of 16 whose gold has a heavy tail between prompts."""
    level = rng.normal(0.0, 1.5, (n_prompts, 1))
    gold = np.exp(level + rng.normal(0.0, 0.5, (n_prompts, 16)))
    return pools_panel(np.log(gold) + rng.normal(0.0, 1.0, gold.shape), gold)


def mostly_equal_pools(rng: np.random.Generator, n_prompts: int) -> Panel:
    """Pools of 16 of which nine in ten have the same gold throughout."""
    gold = rng.normal(size=(n_prompts, 16)) * (rng.random((n_prompts, 1)) < 0.1)
    return pools_panel(gold + rng.normal(0.0, 1.0, gold.shape), gold)


def binary_gold(rng: np.random.Generator, n_prompts: int) -> Panel:
    """Pools of 16 that are right or wrong, some prompts easy and some hard."""
    level = rng.normal(0.0, 1.5, (n_prompts, 1))
    gold = (rng.normal(size=(n_prompts, 16)) + level > 0.0).astype(float)
    return pools_panel(gold + rng.normal(0.0, 0.7, gold.shape), gold)


def blind_pools(rng: np.random.Generator, n_prompts: int) -> Panel:
    """Pools of 16 whose rewards know nothing of gold: it is the same at every n but for noise."""
    gold = rng.normal(0.0, 1.0, (n_prompts, 1)) + rng.normal(0.0, 1.0, (n_prompts, 16))
    return pools_panel(rng.normal(size=gold.shape), gold)
