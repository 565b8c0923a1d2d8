"""Distributions against exact fractions and scipy.stats."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from scipy.stats import chi2, hypergeom, norm
from scipy.stats import t as student_t

from rmbench.stats import Statistic, equivalence, power_of, t_interval
from rmbench.stats.compare import p_of
from rmbench.stats.distributions import hypergeometric, rank_at_place

FREEDOMS = (1.0, 1.5, 2.0, 3.7, 9.25, 29.0, 100.5, 349.0, 12345.6)


@pytest.mark.parametrize("total", [1, 2, 7, 64, 301, 2000])
def test_draws_without_replacement_are_the_exact_fractions_far_into_the_tails(total: int) -> None:
    for draws in sorted({1, min(2, total), max(1, total // 2), max(1, total - 1), total}):
        ways = comb(total, draws)
        for good in sorted({0, 1, total // 3, total}):
            x = np.unique(np.linspace(0, draws, 40).astype(int))
            exact = [float(Fraction(comb(good, k) * comb(total - good, draws - k), ways)) for k in x.tolist()]
            found = hypergeometric(total, good, draws)
            assert len(found) == draws + 1
            assert found[x] == pytest.approx(exact, rel=1e-12, abs=1e-290)
            assert found[x] == pytest.approx(hypergeom.pmf(x, total, good, draws), rel=1e-12, abs=1e-290)
        for place in sorted({1, min(2, draws), max(1, draws // 2), draws}):
            rank = np.unique(np.linspace(1, total, 40).astype(int))
            exact = [
                float(Fraction(comb(r - 1, place - 1) * comb(total - r, draws - place), ways))
                for r in rank.tolist()
            ]
            assert rank_at_place(total, draws, place)[rank - 1] == pytest.approx(exact, rel=1e-12, abs=1e-290)


@pytest.mark.parametrize("freedom", FREEDOMS)
@pytest.mark.parametrize("tail", [0.4, 0.05, 0.025, 1e-4, 1e-9])
def test_intervals_have_the_quantiles_of_scipy_stats(freedom: float, tail: float) -> None:
    half = student_t.ppf(1.0 - tail, freedom)
    assert t_interval(0.0, 1.0, freedom, tail) == pytest.approx((-half, half), rel=1e-12)


@pytest.mark.parametrize("n_pairs", [1, 3, 20, 300])
@pytest.mark.parametrize("largest", [1, 2, 7], ids="largest cluster {}".format)
def test_p_values_are_those_of_scipy_stats_far_into_the_tails(n_pairs: int, largest: int) -> None:
    share = np.repeat(np.linspace(1.0, largest, n_pairs), 2)
    influence = np.tile([1.0, -1.0], n_pairs)  # of no skewness
    found = []
    for value in (0.0, 1e-3, 3.0, 40.0, 1e4):
        paired = Statistic(
            value=value, influence=influence, share=share / share.sum(), n=2 * n_pairs,
            n_clusters=2 * n_pairs, paired=True,
        )  # fmt: skip
        stderr, freedom = paired.stderr, paired.freedom
        assert stderr is not None
        found.append(p_of(paired))
        assert found[-1] == pytest.approx(2.0 * student_t.sf(value / stderr, freedom), rel=1e-12)
        for margin in (1e-3, 5.0, 100.0, 1e5):
            expected = student_t.sf((margin - value) / stderr, freedom)
            assert equivalence(paired, margin) == pytest.approx(expected, rel=1e-12)
    assert found[0] == 1.0
    assert n_pairs < 20 or found[-1] < 1e-60


@pytest.mark.parametrize("freedom", FREEDOMS)
@pytest.mark.parametrize("alpha", [0.3, 0.05, 1e-3, 1e-9])
def test_power_is_that_of_quantiles_by_scipy_stats(freedom: float, alpha: float) -> None:
    levels = (np.arange(2000) + 0.5) / 2000
    edges = student_t.isf(alpha / 2.0, freedom) * np.sqrt(chi2.ppf(levels, freedom) / freedom)
    for difference in (0.0, 0.5, 3.0, 10.0):
        expected = (norm.cdf(difference - edges) + norm.cdf(-difference - edges)).mean()
        assert power_of(difference, 1.0, freedom, alpha) == pytest.approx(expected, rel=1e-12)
