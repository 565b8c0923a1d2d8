"""Power of paired tests: known values, enumeration of the exact test, and simulation with clusters."""

from math import comb, sqrt

import numpy as np
import pytest
from scipy.stats import nct
from scipy.stats import t as student_t

from rmbench.errors import ConfigError
from rmbench.stats import (
    Resolution,
    Statistic,
    compare,
    mean,
    noncentrality,
    power_of,
    resolution_of_data,
    resolution_of_one,
)


@pytest.mark.parametrize(
    ("n", "effect", "power"),
    # Published power of the one-sample t test: G*Power 3.1 and Cohen 1988, to the digits given.
    [(34, 0.5, 0.8078), (199, 0.2, 0.8017), (15, 0.8, 0.8213), (10, 0.8, 0.6162)],
)
def test_power_is_that_of_published_tables(n: int, effect: float, power: float) -> None:
    assert power_of(effect, 1 / sqrt(n), n - 1) == pytest.approx(power, abs=2e-4)


@pytest.mark.parametrize("freedom", [2.0, 3.5, 9.0, 40.0, 349.0])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 45])
@pytest.mark.parametrize("power", [0.6, 0.8, 0.95])
def test_the_noncentrality_is_that_of_the_noncentral_t(freedom: float, alpha: float, power: float) -> None:
    critical = student_t.isf(alpha / 2, freedom)
    # The other direction adds less than 1e-3 of a percent here.
    assert nct.sf(critical, freedom, noncentrality(freedom, alpha, power)) == pytest.approx(power, abs=1e-4)


def test_many_clusters_have_the_normal_rule_and_few_need_more() -> None:
    assert noncentrality(1e6) == pytest.approx(1.959964 + 0.841621, abs=1e-4)
    found = [noncentrality(df) for df in (1e6, 349.0, 9.0, 4.0, 1.0)]
    assert found == sorted(found)
    # A sum of quantiles of t, the usual approximation, is near where there are many degrees of freedom.
    assert found[1] == pytest.approx(student_t.isf(0.025, 349) + student_t.isf(0.2, 349), abs=2e-3)


def test_prompts_needed_are_as_many_as_show_the_difference() -> None:
    found = Resolution(0.0263, 349.0, 350)
    for difference in (0.005, 0.02, 0.3):
        n = found.clusters_for(difference)
        for clusters, reached in ((n, True), (n - 1, False)):
            scale = clusters / 350
            power = power_of(difference, 0.0263 / sqrt(scale), 350 * scale - 1)
            assert (power >= 0.8 - 1e-9) == reached
    smallest = found.smallest()
    assert smallest is not None
    assert found.clusters_for(smallest) == pytest.approx(350, abs=1)
    assert 350 * (smallest / 0.02) ** 2 == pytest.approx(found.clusters_for(0.02), rel=0.01)
    assert found.clusters_for(0.02, 0.05 / 10) > found.clusters_for(0.02)


def exact_power(n: int, rate: float, alpha: float) -> float:
    """Return P(the sign-flip test finds it) where each of n clusters parts the models, one way, at `rate`."""
    return sum(
        comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1) if k > 0 and 2.0 ** (1 - k) < alpha
    )


@pytest.mark.parametrize(("n", "alpha"), [(20, 0.05), (100, 0.05), (350, 0.05), (100, 0.05 / 28)])
def test_two_equal_models_could_have_differed_by_what_the_exact_test_finds(n: int, alpha: float) -> None:
    values = (np.arange(n) % 3 == 0).astype(float)
    same = mean(values, np.arange(n), n, bounded=True)
    resolution = compare(same, same).resolution
    assert resolution is not None
    smallest = resolution.smallest(alpha)
    assert smallest is not None
    assert exact_power(n, smallest, alpha) == pytest.approx(0.8, abs=1e-9)
    more = resolution.clusters_for(smallest / 2, alpha)
    assert exact_power(more, smallest / 2, alpha) >= 0.8 > exact_power(more - 1, smallest / 2, alpha)


def test_too_few_prompts_show_nothing() -> None:
    same = mean(np.ones(5), np.arange(5), 5, bounded=True)
    resolution = compare(same, same).resolution
    assert resolution is not None
    assert resolution.smallest() is None, "five signs have p >= 1/16"
    assert resolution.clusters_for(0.5) == next(n for n in range(1, 99) if exact_power(n, 0.5, 0.05) >= 0.8)
    wide = Resolution(0.5, 3.0, 4, largest=1.0)
    assert wide.smallest() is None, "no two accuracies differ by 2"
    with pytest.raises(ConfigError, match="above 0 to 1"):
        wide.clusters_for(1.5)


def test_what_has_no_error_has_no_resolution() -> None:
    blind = Statistic(value=2.0, influence=None, n=3, n_clusters=3)
    assert compare(blind, blind).resolution is None
    flat = mean(np.full(30, 2.5), np.arange(30), 30)
    assert compare(flat, flat).resolution is None, "nothing says how far a value without limits can lie off"
    assert resolution_of_one(flat, 0.5) is None
    assert resolution_of_one(blind, 0.5) is None


def clustered(rng: np.random.Generator, sizes: np.ndarray, gain: float) -> tuple[Statistic, Statistic]:
    """Return two models on clusters of these sizes; prompts are hard or easy for both, the first gains."""
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    level = rng.uniform(0.2, 0.5, len(sizes))[cluster]
    # What tells the models apart is in part the cluster's own.
    lean = rng.uniform(-0.1, 0.1, len(sizes))[cluster]
    draws = rng.random((2, len(cluster)))
    a, b = (draws[0] < level + lean + gain).astype(float), (draws[1] < level - lean).astype(float)
    first, second = (mean(v, cluster, len(sizes), bounded=True) for v in (a, b))
    return first, second


def found_share(n_clusters: int, repeats: int) -> float:
    """Return how often the test finds a difference of the size that such data promise to show."""
    rng = np.random.default_rng(5)
    sizes = 1 + np.arange(n_clusters) % 7
    promised = 0.2
    for _ in range(3):  # the promise depends a little on the difference itself
        pairs = [compare(*clustered(rng, sizes, promised)) for _ in range(50)]
        promised = float(np.mean([p.resolution.smallest() or np.nan for p in pairs if p.resolution]))
    p_values = [compare(*clustered(rng, sizes, promised)).p_value for _ in range(repeats)]
    return float(np.mean([p is not None and p < 0.05 for p in p_values]))


@pytest.mark.parametrize("n_clusters", [30, 100])
def test_the_smallest_difference_is_found_eighty_percent_of_the_time(n_clusters: int) -> None:
    assert found_share(n_clusters, 500) == pytest.approx(0.8, abs=0.055)


@pytest.mark.slow
@pytest.mark.parametrize("n_clusters", [30, 50, 100, 300])
def test_the_smallest_difference_is_found_eighty_percent_of_the_time_at_length(n_clusters: int) -> None:
    assert found_share(n_clusters, 4000) == pytest.approx(0.8, abs=0.03)


def test_one_record_and_a_correlation_give_the_error_of_the_pair() -> None:
    rng = np.random.default_rng(1)
    shared, own = rng.normal(0, 1, 4000), rng.normal(0, 1, (2, 4000))
    a, b = (mean(sqrt(0.3) * shared + sqrt(0.7) * x, np.arange(4000), 4000) for x in own)
    one, two = resolution_of_one(a, 0.3), compare(a, b).resolution
    assert one is not None
    assert two is not None
    assert one.stderr == pytest.approx(two.stderr, rel=0.05)
    assert one.freedom == pytest.approx(two.freedom)
    with pytest.raises(ConfigError, match="correlation"):
        resolution_of_one(a, 1.0)


@pytest.mark.parametrize("copies", [False, True])
def test_data_and_a_discordance_give_the_error_of_what_they_say(copies: bool) -> None:
    sizes = np.array([1, 1, 2, 3, 8, 5, 1, 4])
    cluster = np.repeat(np.arange(8), sizes)
    rng = np.random.default_rng(2)
    signs = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=(60_000, 8 if copies else len(cluster)))
    means = (signs[:, cluster] if copies else signs).mean(axis=1)
    found = resolution_of_data(sizes.astype(float), 0.2, copies=copies)
    assert found.stderr == pytest.approx(means.std(), rel=0.02)
    equal = resolution_of_data(np.full(50, 3.0), 0.2, copies=copies)
    assert (equal.freedom, equal.n_clusters) == (pytest.approx(49), 50)


@pytest.mark.parametrize("power", [0.01, 1.0, 1.5])
def test_a_power_is_above_the_level_and_below_one(power: float) -> None:
    with pytest.raises(ConfigError, match="power"):
        noncentrality(10.0, 0.05, power)
