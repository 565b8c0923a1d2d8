"""Panels for the tests of metrics."""

from collections.abc import Sequence

import numpy as np

from rmbench.metrics import Panel, PanelRow, build_panel


def make_panel(
    rewards: Sequence[Sequence[float]],
    gold: Sequence[Sequence[float | None]],
    *,
    lengths: Sequence[Sequence[int]] | None = None,
    clusters: Sequence[str] | None = None,
    strata: Sequence[dict[str, str]] | None = None,
    kind: str = "graded",
) -> Panel:
    """Return a panel; by default every item is a cluster and all responses are equally long."""
    n = len(rewards)
    lengths = lengths or [[1] * len(row) for row in rewards]
    clusters = clusters or [f"c{k:05d}" for k in range(n)]
    strata = strata or [{} for _ in range(n)]
    return build_panel(
        PanelRow(
            id=f"i{k}",
            rewards=rewards[k],
            gold=gold[k],
            lengths=lengths[k],
            cluster=clusters[k],
            strata=strata[k],
            gold_kind=kind,
        )
        for k in range(n)
    )


def pair_panel(margin: np.ndarray, p_chosen: np.ndarray | None = None, per_cluster: int = 1) -> Panel:
    """Return pairs with the given margins; with `p_chosen`, gold is a soft label."""
    gold = [[1.0, 0.0]] * len(margin) if p_chosen is None else [[float(p), 1.0 - float(p)] for p in p_chosen]
    return make_panel(
        [[float(m), 0.0] for m in margin],
        gold,
        kind="label" if p_chosen is None else "probability",
        clusters=[f"c{k // per_cluster:06d}" for k in range(len(margin))],
    )


def random_panel(seed: int, n_items: int = 40, *, levels: int | None = None) -> Panel:
    """Return ragged pools of 2 to 6 with tied gold and, with `levels`, tied rewards; two items a cluster."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 7, n_items)
    rewards = [
        list(map(float, rng.integers(0, levels, k) if levels else np.round(rng.normal(size=k), 6)))
        for k in sizes
    ]
    return make_panel(
        rewards,
        [list(map(float, rng.integers(0, 4, k))) for k in sizes],
        lengths=[[int(v) for v in rng.integers(1, 500, k)] for k in sizes],
        clusters=[f"c{k // 2}" for k in range(n_items)],
        strata=[{"half": "even" if k % 2 else "odd"} for k in range(n_items)],
    )
