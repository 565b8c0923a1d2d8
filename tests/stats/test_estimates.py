"""Estimates and their errors against closed forms, the jackknife and the bootstrap."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student_t

from rmbench.stats import (
    Statistic,
    cluster_bootstrap,
    combine,
    difference,
    jackknife_groups,
    jackknife_influence,
    mean,
    ratio,
    t_interval,
    wilson_interval,
)
from rmbench.stats.bootstrap import least_compatible_effect, percentile_interval


def clustered(seed: int, n_clusters: int = 50, size: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = np.repeat(rng.normal(size=n_clusters), size) + rng.normal(size=n_clusters * size)
    return values, np.repeat(np.arange(n_clusters), size)


def test_error_of_a_mean_without_clusters_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(size=40)
    got = mean(values, np.arange(40), 40)
    assert got.value == pytest.approx(values.mean())
    assert got.stderr == pytest.approx(values.std(ddof=1) / sqrt(40), rel=1e-12)
    half = student_t.ppf(0.975, 39) * values.std(ddof=1) / sqrt(40)
    assert got.estimate().ci95 == pytest.approx((values.mean() - half, values.mean() + half))


def test_error_of_a_clustered_mean_is_that_of_the_means_of_equal_clusters() -> None:
    values, cluster = clustered(1)
    of_clusters = values.reshape(50, 4).mean(axis=1)
    assert mean(values, cluster, 50).stderr == pytest.approx(of_clusters.std(ddof=1) / sqrt(50), rel=1e-12)


def test_copies_of_observations_do_not_shrink_the_error() -> None:
    values, cluster = clustered(2)
    once, thrice = mean(values, cluster, 50), mean(np.tile(values, 3), np.tile(cluster, 3), 50)
    assert thrice.stderr == pytest.approx(once.stderr)
    assert thrice.n == 3 * once.n


def test_error_of_a_ratio_agrees_with_the_jackknife_and_the_bootstrap() -> None:
    rng = np.random.default_rng(3)
    bottom = rng.integers(1, 6, 200).astype(float)
    top = bottom * rng.normal(2, 0.5, 200)
    got = ratio(top, bottom, n=200)
    left_out = (top.sum() - top) / (bottom.sum() - bottom)
    jackknife = sqrt(199 / 200 * np.square(left_out - left_out.mean()).sum())
    replicates = cluster_bootstrap(np.stack([top, bottom], 1), lambda t: t[:, :1] / t[:, 1:], seed=0)
    assert got.stderr == pytest.approx(jackknife, rel=0.01)
    assert got.stderr == pytest.approx(replicates.std(), rel=0.05)
    assert got.influence is not None
    assert got.influence.sum() == pytest.approx(0, abs=1e-12)


def test_empty_clusters_change_nothing() -> None:
    values, cluster = clustered(4)
    few, many = mean(values, cluster, 50), mean(values, 3 * cluster, 150)
    assert (many.n_clusters, many.stderr) == (50, pytest.approx(few.stderr))


@pytest.mark.parametrize(("right", "n"), [(1, 50), (25, 50), (37, 50), (49, 50)])
def test_wilson_without_clusters_is_the_closed_form_with_students_quantile(right: int, n: int) -> None:
    p = right / n
    t2 = student_t.ppf(0.975, n - 1) ** 2
    size = n - 1  # the error divides by it
    centre = (p + t2 / (2 * size)) / (1 + t2 / size)
    half = sqrt(t2) / (1 + t2 / size) * sqrt(p * (1 - p) / size + t2 / (4 * size**2))
    got = mean(np.arange(n) < right, np.arange(n), n, bounded=True).estimate().ci95
    expected = (max(0.0, centre - half), min(1.0, centre + half))
    assert got == pytest.approx(expected, abs=1e-12)


@given(
    value=st.floats(0, 1),
    stderr=st.floats(0, 0.5),
    n=st.integers(2, 10_000),
)
def test_wilson_holds_its_value_and_stays_inside(value: float, stderr: float, n: int) -> None:
    low, high = wilson_interval(value, stderr, n)
    assert 0.0 <= low <= value <= high <= 1.0


def test_a_single_cluster_has_no_interval() -> None:
    alone = mean(np.array([1.0, 0.0]), np.array([0, 0]), 1, bounded=True).estimate()
    assert (alone.value, alone.ci95, alone.stderr, alone.n_clusters) == (0.5, None, None, 1)


def test_a_difference_is_paired() -> None:
    rng = np.random.default_rng(5)
    common = rng.normal(size=80)
    x, y = common + rng.normal(0, 0.1, 80), common + rng.normal(0, 0.1, 80)
    a, b = (mean(v, np.arange(80), 80) for v in (x, y))
    paired = difference(a, b)
    assert paired.value == pytest.approx((x - y).mean())
    assert paired.stderr == pytest.approx((x - y).std(ddof=1) / sqrt(80), rel=1e-12)
    assert a.stderr is not None
    assert paired.stderr is not None
    assert paired.stderr < a.stderr / 5


def test_a_combination_knows_how_its_parts_move_together() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=60)
    a, b = mean(x, np.arange(60), 60), mean(-x, np.arange(60), 60)
    assert combine([a, b]).value == pytest.approx(0.0, abs=1e-12)
    assert combine([a, b]).stderr == pytest.approx(0.0, abs=1e-12)
    assert combine([a, a]).stderr == pytest.approx(a.stderr)
    assert combine([a, b], [2.0, 0.0]).value == pytest.approx(2 * x.mean())


def test_a_log_scale_interval_is_positive_and_symmetric_in_ratio() -> None:
    influence = np.random.default_rng(7).normal(0, 0.1, 30)
    s = Statistic(value=2.0, influence=influence - influence.mean(), n=30, n_clusters=30, log_scale=True)
    low, high = s.estimate().ci95 or (0, 0)
    assert low > 0
    assert high / 2.0 == pytest.approx(2.0 / low)


def test_the_grouped_jackknife_of_a_mean_is_the_textbook_error() -> None:
    values, cluster = clustered(8)
    group, groups = jackknife_groups(cluster, seed=0, n_groups=50)
    left_out = np.array([values[group != g].mean() for g in range(groups)])
    influence = jackknife_influence(left_out, group, cluster, 50)
    s = Statistic(value=values.mean(), influence=influence, n=200, n_clusters=groups)
    assert groups == 50
    assert s.stderr == pytest.approx(mean(values, cluster, 50).stderr, rel=1e-9)


def test_the_bootstrap_is_seeded_pairs_models_and_has_the_right_spread() -> None:
    values, cluster = clustered(9)
    sums = np.stack([values.reshape(50, 4).sum(1), np.full(50, 4.0)], 1)

    def statistic(totals: np.ndarray) -> np.ndarray:
        return totals[:, :1] / totals[:, 1:]

    a, again, other = (cluster_bootstrap(sums, statistic, seed=s) for s in (1, 1, 2))
    assert np.array_equal(a, again)
    assert not np.array_equal(a, other)
    shifted = cluster_bootstrap(sums + [4.0, 0.0], statistic, seed=1)
    assert (shifted - a).std() < 1e-12, "two models must see the same resamples"
    expected = mean(values, cluster, 50).stderr
    assert a.std() == pytest.approx(expected, rel=0.05)
    low, high = percentile_interval(a[:, 0])
    assert low == np.quantile(a, 0.025)
    assert high == np.quantile(a, 0.975)


def test_the_least_compatible_effect_is_normal_far_from_zero_and_zero_for_noise() -> None:
    noise = np.random.default_rng(0).normal(size=20_000)
    far = least_compatible_effect(30.0, lambda t: np.abs(30.0 * t + noise))
    assert 30 * far == pytest.approx(30 - norm.ppf(0.975), abs=0.05)
    assert least_compatible_effect(1.9, lambda t: np.abs(1.9 * t + noise)) == 0.0
    assert 0.0 < least_compatible_effect(2.5, lambda t: np.abs(2.5 * t + noise)) < 0.5
    assert least_compatible_effect(0.0, lambda t: np.abs(0.0 * t + noise)) == 0.0


def test_grouping_many_clusters_leaves_the_spread_of_the_bootstrap_alone() -> None:
    rng = np.random.default_rng(1)
    sums = np.stack([rng.exponential(size=30_001), np.ones(30_001)], 1)
    replicates = cluster_bootstrap(sums, lambda t: t[:, :1] / t[:, 1:], seed=0)
    assert replicates.std() == pytest.approx(sums[:, 0].std() / sqrt(30_001), rel=0.05)
    assert replicates.mean() == pytest.approx(sums[:, 0].mean(), abs=4 * replicates.std() / sqrt(2000))


def test_t_interval_is_students() -> None:
    assert t_interval(1.0, 2.0, 10) == pytest.approx((1 - 2 * 2.2281388, 1 + 2 * 2.2281388))


def test_clusters_beyond_the_limit_are_grouped_the_same_whatever_arrays_they_come_in() -> None:
    """By brute force: deal all rows into groups at once, and resample the groups."""
    from rmbench.stats import bootstrap

    rng = np.random.default_rng(5)
    n = 2 * bootstrap.MOST_UNITS + 77
    left, right = rng.normal(size=(n, 3)), rng.normal(size=(n, 2))
    whole = np.concatenate([left, right], axis=1)
    apart = cluster_bootstrap([left, right], lambda t: t, seed=3, n_resamples=60)
    assert np.array_equal(apart, cluster_bootstrap(whole, lambda t: t, seed=3, n_resamples=60))
    drawing = np.random.default_rng(3)
    dealt = drawing.permutation(n) % bootstrap.MOST_UNITS
    groups = np.stack([whole[dealt == g].sum(axis=0) for g in range(bootstrap.MOST_UNITS)])
    drawn = drawing.integers(0, len(groups), size=(50, len(groups)))
    assert np.allclose(apart[:50], groups[drawn].sum(axis=1))
