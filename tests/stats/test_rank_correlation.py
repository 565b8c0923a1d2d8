"""Rank correlations without each group, against scipy on what is left; ties, tiny and constant data too."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from rmbench.stats import Statistic, compare, jackknife_groups, jackknife_influence
from rmbench.stats.rank_correlation import kendall_tau, spearman_rho


def plainly(coefficient: Callable, x: np.ndarray, y: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant input
        return float(coefficient(x, y).statistic) if len(x) > 1 else float("nan")


@pytest.mark.parametrize(("ours", "theirs"), [(kendall_tau, kendalltau), (spearman_rho, spearmanr)])
@pytest.mark.parametrize(
    ("size", "levels_x", "levels_y"),
    [(2, 2, 2), (3, 2, 2), (5, 3, 2), (8, 8, 8), (30, 4, 4), (30, 100, 3), (31, 3, 100), (257, 7, 1000),
     (600, 10**6, 10**6)],
)  # fmt: skip
def test_every_left_out_group_is_as_if_computed_anew(
    ours: Callable, theirs: Callable, size: int, levels_x: int, levels_y: int
) -> None:
    rng = np.random.default_rng(size + levels_x)
    for _ in range(10):
        x = rng.integers(-levels_x, levels_x, size) / 7.0
        y = np.where(rng.random(size) < 0.3, x, rng.integers(0, levels_y, size))
        n_groups = int(rng.integers(2, 12))
        group = rng.integers(0, n_groups, size)
        value, left_out = ours(x, y, group, n_groups)
        assert value == pytest.approx(plainly(theirs, x, y), abs=1e-12, nan_ok=True)
        anew = [plainly(theirs, x[group != g], y[group != g]) for g in range(n_groups)]
        assert left_out == pytest.approx(np.array(anew), abs=1e-12, nan_ok=True)


def test_a_jackknife_over_groups_counts_prompts_and_has_the_freedom_of_its_groups() -> None:
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(150), 3)
    x = rng.normal(size=450)
    group, n_groups = jackknife_groups(cluster, seed=1, n_groups=40)
    found = []
    for noise in (1.0, 2.0):
        value, left_out = kendall_tau(x, x + rng.normal(0, noise, 450), group, n_groups)
        influence = jackknife_influence(left_out, group, cluster, 150)
        found.append(Statistic(value=value, influence=influence, n=450, n_clusters=150, n_groups=n_groups))
        around = left_out - left_out.mean()
        assert found[-1].stderr == pytest.approx(np.sqrt(39 / 40 * np.square(around).sum()), rel=1e-12)
        assert (found[-1].freedom, found[-1].estimate().n_clusters) == (39.0, 150)
    difference = compare(*found)
    assert (difference.freedom, difference.difference.n_clusters) == (39.0, 150)
