"""Limits at distance 0 and their weighted sums, against scikit-learn, SciPy, enumeration and closed forms."""

from math import sqrt

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.linear_model import Ridge

from rmbench.stats import Limit, jeffreys_interval, limit_at_zero, sum_of_limits


def noisy(seed: int, n: int = 60, per_cluster: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    distance = rng.random(n)
    values = (rng.random(n) < 0.5 + 0.4 * distance).astype(float)
    return values, distance, np.arange(n) // per_cluster


@pytest.mark.parametrize("window", [0.4, 0.9, 5.0])
def test_the_value_is_the_intercept_of_a_weighted_ridge_regression(window: float) -> None:
    values, distance, cluster = noisy(1)
    near = distance < window
    x = distance[near] / window
    line = Ridge(alpha=0.3).fit(x[:, None], values[near], sample_weight=1 - x)
    found = limit_at_zero(values, distance, window, cluster, 30)
    assert found.value == pytest.approx(line.intercept_, abs=1e-12)
    assert found.used.sum() == near.sum()


def test_without_any_distance_it_is_the_mean_with_the_sandwich_influence() -> None:
    values, _, cluster = noisy(2)
    found = limit_at_zero(values, np.zeros(60), 1.0, cluster, 30)
    assert found.value == pytest.approx(values.mean(), abs=1e-12)
    expected = np.bincount(cluster, values - values.mean()) / 60
    assert np.allclose(found.influence, expected, atol=1e-12)
    assert found.size == pytest.approx(30)


def test_the_influence_is_what_leaving_a_cluster_out_changes() -> None:
    values, distance, cluster = noisy(3, 2000)
    found = limit_at_zero(values, distance, 0.8, cluster, 1000)
    assert found.influence.sum() == pytest.approx(0.0, abs=1e-12)
    for left_out in (0, 17, 500):
        keep = cluster != left_out
        without = limit_at_zero(values[keep], distance[keep], 0.8, cluster[keep], 1000)
        # To first order, and a penalty that does not shrink with the data.
        assert found.value - without.value == pytest.approx(found.influence[left_out], rel=0.05, abs=1e-5)


def test_a_constant_is_found_exactly_and_is_no_certainty() -> None:
    _, distance, cluster = noisy(4)
    for constant in (0.0, 0.5, 1.0):
        found = limit_at_zero(np.full(60, constant), distance, 0.7, cluster, 30)
        assert found.value == pytest.approx(constant, abs=1e-12)
        low, high = found.ci95
        assert low <= constant <= high
        assert high - low > 0.02
    all_ties = limit_at_zero(np.full(60, 0.5), distance, 0.7, cluster, 30).ci95
    by_coin = limit_at_zero(np.arange(60) % 2.0, distance, 0.7, cluster, 30).ci95
    assert all_ties[1] - all_ties[0] < by_coin[1] - by_coin[0], "ties vary less than right and wrong"


@pytest.mark.parametrize(("right", "trials"), [(3, 10), (9, 10), (40, 50)])
def test_jeffreys_is_the_quantiles_of_its_beta(right: int, trials: int) -> None:
    low, high = jeffreys_interval(right / trials, trials)
    posterior = beta(right + 0.5, trials - right + 0.5)
    assert (low, high) == pytest.approx((posterior.ppf(0.025), posterior.ppf(0.975)), abs=1e-10)


def test_jeffreys_reaches_the_end_where_nothing_was_wrong() -> None:
    low, high = jeffreys_interval(1.0, 20)
    assert (high, low) == (1.0, pytest.approx(beta(20.5, 0.5).ppf(0.025)))
    assert jeffreys_interval(0.0, 20) == pytest.approx((0.0, 1 - low))


def limit(value: float, ci95: tuple[float, float], influence: list[float]) -> Limit:
    values = np.array(influence)
    return Limit(value=value, ci95=ci95, influence=values, used=(values != 0).astype(float), size=1.0)


def test_intervals_add_as_independent_standard_errors_do_or_fully_where_influences_agree() -> None:
    a, b = limit(0.9, (0.7, 0.95), [0.1, -0.1, 0, 0]), limit(0.2, (0.1, 0.5), [0, 0, 0.1, -0.1])
    apart = sum_of_limits([a, b], [0.5, 0.5])
    low, high = apart.ci95 or (0, 0)
    assert apart.value == pytest.approx(0.55)
    assert low == pytest.approx(0.55 - 0.5 * sqrt(0.2**2 + 0.1**2))
    assert high == pytest.approx(0.55 + 0.5 * sqrt(0.05**2 + 0.3**2))
    together = sum_of_limits([a, limit(0.2, (0.1, 0.5), [0.2, -0.2, 0, 0])], [0.5, 0.5]).ci95
    assert together == pytest.approx((0.55 - 0.5 * 0.3, 0.55 + 0.5 * 0.35))
    against = sum_of_limits([a, limit(0.2, (0.1, 0.5), [-0.1, 0.1, 0, 0])], [0.5, 0.5]).ci95
    assert against == pytest.approx((0.55 - 0.5 * 0.1, 0.55 + 0.5 * 0.25))
    assert (apart.n_clusters, together is not None) == (4, True)
