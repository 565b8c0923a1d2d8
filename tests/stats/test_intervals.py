"""Intervals against published and exact ones, and what they do where hardly anything varies."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import binomtest

from rmbench.metrics.margins import auroc_of_margin
from rmbench.stats import combine, compare, mean, ratio, t_interval, wilson_interval
from rmbench.stats.compare import sign_flip
from rmbench.stats.intervals import (
    bootstrap_t_interval,
    constant_interval,
    few_interval,
    is_skewed,
    rare_interval,
    stratified_interval,
)
from rmbench.stats.statistic import Statistic, few_decide


def of(values: list[float], **more: object) -> object:
    return mean(np.array(values), np.arange(len(values)), len(values), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [2, 10, 50, 1000])
@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_all_wrong_is_clopper_pearson(n: int, right: bool) -> None:
    exact = binomtest(n * right, n).proportion_ci(method="exact")
    assert of([float(right)] * n, bounded=True).estimate().ci95 == pytest.approx((exact.low, exact.high))


@given(n=st.integers(1, 200), k=st.integers(0, 200))
def test_few_observations_have_the_exact_interval(n: int, k: int) -> None:
    k = min(n, k)
    exact = binomtest(k, n).proportion_ci(method="exact")
    assert few_interval(k / n, n) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_all_tied_is_no_certainty() -> None:
    low, high = of([0.5] * 60, bounded=True).estimate().ci95
    assert (low, high) == pytest.approx((0.5 * 0.025 ** (1 / 60), 1 - 0.5 * 0.025 ** (1 / 60)))


def test_no_discordant_pair_of_n_is_about_3_7_over_n() -> None:
    right = [1.0, 0.0] * 100
    result = compare(of(right, bounded=True), of(right, bounded=True))
    assert result.p_value == 1.0
    low, high = result.difference.ci95
    assert (low, high) == pytest.approx((-3.69 / 200, 3.69 / 200), rel=0.01)


def test_gold_that_never_varies_has_no_interval_and_says_why() -> None:
    same = of([2.5] * 8, unit="gold")
    assert same.estimate().ci95 is None
    assert few_decide(same) == "it is the same for all 8 prompts"


def test_a_model_against_itself_has_no_interval_where_nothing_bounds_a_difference() -> None:
    """Not the point [0, 0] that it had on ECE, AUROC and the temperature."""
    auroc = Statistic(value=0.7, influence=np.r_[0.1, -0.1] / 9, n=2, n_clusters=2, bounded=True)
    found = compare(auroc, auroc)
    assert (found.difference.value, found.difference.ci95, found.p_value) == (0.0, None, 1.0)
    assert found.difference.remark == "it is the same for all 2 prompts: no interval"


def test_one_discordant_pair_is_mcnemars_exact_test_with_an_exact_interval() -> None:
    first = np.ones(100)
    second = first.copy()
    second[3] = 0.0
    result = compare(of(first, bounded=True), of(second, bounded=True))
    assert result.p_value == 1.0
    low, high = result.difference.ci95
    exact = binomtest(1, 100).proportion_ci(method="exact")
    assert high == pytest.approx(exact.high, abs=1e-9)
    assert -0.04 < low < 0.0


@pytest.mark.parametrize(("better", "worse"), [(1, 0), (5, 1), (7, 0), (6, 6), (9, 3)])
def test_differences_of_one_size_are_mcnemars_test(better: int, worse: int) -> None:
    signs = np.r_[np.ones(better), -np.ones(worse)]
    assert sign_flip(signs) == pytest.approx(binomtest(better, better + worse).pvalue)


@given(st.lists(st.integers(-5, 5).filter(bool), min_size=1, max_size=8))
def test_signs_are_all_tried(differences: list[int]) -> None:
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
            for signs in product((1, -1), repeat=len(differences))]  # fmt: skip
    expected = sum(s >= abs(sum(differences)) for s in sums) / len(sums)
    assert sign_flip(np.array(differences, dtype=float)) == pytest.approx(expected)


@given(
    values=st.lists(st.sampled_from([0.0, 0.5, 0.5, 0.5, 0.7, 1.0]), min_size=2, max_size=60),
    seed=st.integers(0, 99),
)
def test_a_rare_interval_holds_its_value_and_stays_inside(values: list[float], seed: int) -> None:
    share = np.random.default_rng(seed).random(len(values)) + 0.1
    share /= share.sum()
    found = rare_interval(np.array(values), share, (0.0, 1.0))
    value = float(share @ np.array(values))
    off = np.array(values) != sorted(values)[(len(values) - 1) // 2]
    assert (found is None) == bool(off.sum() >= 10 or 2 * off.sum() > len(values))
    if found is not None:
        assert 0.0 <= found[0] <= value + 1e-12
        assert value - 1e-12 <= found[1] <= 1.0


def test_without_rare_events_it_is_what_a_constant_has_on_each_side() -> None:
    share = np.full(40, 1 / 40)
    low, high = rare_interval(np.full(40, 0.3), share, (0.0, 1.0))
    assert (low, high) == pytest.approx(constant_interval(0.3, 40, (0.0, 1.0)))


def test_strata_put_together_by_hand() -> None:
    low, high = stratified_interval([0.8, 0.5], [(0.7, 0.85), (0.2, 0.9)], [0.5, 0.5])
    assert low == pytest.approx(0.65 - np.hypot(0.05, 0.15))
    assert high == pytest.approx(0.65 + np.hypot(0.025, 0.2))


def test_newcombes_interval_of_a_difference_is_the_same_rule() -> None:
    """Newcombe 1998, Stat. Med. 17, example (a): 56/70 - 48/80 is 0.2000 [0.0524, 0.3339] by method 10."""

    def wilson(k: int, n: int) -> tuple[float, float]:
        found = binomtest(k, n).proportion_ci(method="wilson")
        return found.low, found.high

    (l1, u1), (l2, u2) = wilson(56, 70), wilson(48, 80)
    low, high = stratified_interval([56 / 70, 1 - 48 / 80], [(l1, u1), (1 - u2, 1 - l2)], [1.0, 1.0])
    assert (low - 1, high - 1) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_a_bootstrap_of_t_is_students_where_nothing_is_skewed() -> None:
    y = np.random.default_rng(0).normal(5, 1, 200)
    found = bootstrap_t_interval(y / 200, np.full(200, 1 / 200))
    assert found == pytest.approx(t_interval(y.mean(), y.std(ddof=1) / np.sqrt(200), 199), abs=0.03)
    assert not is_skewed((y - y.mean()) / 200)


@pytest.mark.parametrize("usual", [0.0, 0.313, 1e4])
def test_resamples_without_the_one_value_that_is_off_say_nothing(usual: float) -> None:
    """37% of resamples lack it: their error is 0 but for rounding, and t was 1e8 and the interval as wide."""
    y = np.full(60, usual)
    y[7] += 1.0
    assert bootstrap_t_interval(y / 60, np.full(60, 1 / 60)) is None
    low, high = of(y.tolist(), unit="nats").estimate().ci95
    exact = binomtest(1, 60).proportion_ci(method="exact")
    assert (low, high) == pytest.approx((usual + exact.low, usual + exact.high), rel=1e-9, abs=1e-9)


def test_what_rounding_leaves_of_an_error_is_zero() -> None:
    influence = np.array([1e-17, -2e-17, 1e-17])
    flat = Statistic(value=0.5, influence=influence, n=3, n_clusters=3)
    assert flat.estimate().stderr == 0.0


def test_skewed_gold_has_a_lopsided_interval_that_covers_better() -> None:
    rng = np.random.default_rng(1)
    held = {"t": 0, "used": 0}
    for _ in range(200):
        y = np.exp(1.5 * rng.normal(size=20))
        found = of(y.tolist(), unit="gold")
        low, high = found.estimate().ci95
        held["used"] += low <= np.exp(1.125) <= high
        low, high = t_interval(found.value, found.stderr, 19)
        held["t"] += low <= np.exp(1.125) <= high
    assert held["used"] >= held["t"] + 15, held


def test_few_prompts_that_decide_are_told() -> None:
    values = [0.0] * 95 + [1.0] * 5
    assert few_decide(of(values)) == "about 12 prompts decide it"
    assert few_decide(of([0.0, 1.0] * 20)) == ""
    assert few_decide(of([0.0, 1.0] * 9)) == "about 18 prompts decide it"
    normal = np.random.default_rng(0).normal(size=4000)
    assert few_decide(of(normal.tolist())) == ""


def test_wilson_without_an_error_has_the_size_of_its_freedom() -> None:
    assert wilson_interval(1.0, 0.0, 49) == wilson_interval(1.0, 1e-15, 49)
    assert wilson_interval(1.0, 0.0, 49)[1] == 1.0


def test_a_mean_over_strata_of_one_prompt_each_has_an_honest_interval() -> None:
    parts = [mean(np.array([v]), np.array([k]), 4, bounded=True) for k, v in enumerate((1.0, 1.0, 0.0, 1.0))]
    found = combine(parts).estimate()
    assert (found.value, found.n, found.n_clusters) == (0.75, 4, 4)
    low, high = found.ci95
    assert low < 0.35
    assert high > 0.95


def test_a_ratio_with_limits_stays_inside() -> None:
    top, bottom = np.array([1.0, 2.0, 0.0, 3.0]), np.array([1.0, 2.0, 0.0, 3.0])
    low, high = ratio(top, bottom, n=4, limits=(-1.0, 1.0)).estimate().ci95
    assert high == 1.0
    assert -1.0 < low < 0.0


@pytest.mark.parametrize(("n", "accuracy", "apart"), [(100, 0.97, 1.0), (100, 0.97, 2.5), (50, 0.9, 1.0)])
def test_the_area_of_a_few_wrong_pairs_is_not_certain(n: int, accuracy: float, apart: float) -> None:
    rng, truth = np.random.default_rng(0), float(ndtr(apart / np.sqrt(2)))
    held, repeats = [], 400
    for _ in range(repeats):
        right = rng.random(n) < accuracy
        size = np.exp(rng.normal(size=n) + apart * right)
        found = auroc_of_margin(np.where(right, size, -size), np.arange(n), n)
        if not isinstance(found, str):  # all are right
            low, high = found.interval() or (0.0, 0.0)
            held.append(low <= truth <= high)
    assert np.mean(held) >= 0.93  # it was .66, .68 and .83


def test_the_area_of_many_pairs_has_the_interval_of_its_influence() -> None:
    rng = np.random.default_rng(0)
    found = auroc_of_margin(rng.normal(size=100), np.arange(100), 100)
    assert not isinstance(found, str)
    assert found.ci95 is None


def test_a_heavy_prompt_that_is_slightly_off_does_not_lose_its_lower_end() -> None:
    """One prompt of one pair is wrong altogether, a large one in 2%: their mean deviation is no rate."""
    values, pairs = np.ones(20), np.ones(20)
    values[0], values[1], pairs[1] = 0.0, 0.98, 100.0
    low, high = rare_interval(values, pairs / pairs.sum(), (0.0, 1.0))
    value = float(values @ pairs) / float(pairs.sum())
    assert low < value
    assert 1.0 - high < 0.3 * (1.0 - value), "two events say little of how few there could be"


def held(draw: object, truth: float, repeats: int) -> float:
    found = [draw(np.random.default_rng(seed)).interval() for seed in range(repeats)]  # type: ignore[operator]
    return float(np.mean([low <= truth <= high for low, high in found]))


def nearly_right(rng: np.random.Generator) -> object:
    sizes = np.clip(np.round(np.exp(1.0 + 1.2 * rng.normal(size=20))), 1, 300)
    right = rng.binomial(sizes.astype(np.int64), 0.95).astype(float)
    return ratio(right, sizes, n=int(sizes.sum()), bounded=True)


def test_accuracy_near_one_on_prompts_of_unequal_size_is_covered() -> None:
    assert held(nearly_right, 0.95, 300) > 0.93, "0.86 while deviations were not weighted"


def strata_nearly_right(sizes: tuple[int, ...], p: float) -> object:
    def draw(rng: np.random.Generator) -> object:
        total, parts, first = sum(sizes), [], 0
        for size in sizes:
            right = (rng.random(size) < p).astype(float)
            parts.append(mean(right, np.arange(first, first + size), total, bounded=True))
            first += size
        return combine(parts)

    return draw


@pytest.mark.parametrize("sizes", [(40,) * 23, (30,) * 20, (12,) * 5, (100, 20, 20)], ids=str)
def test_many_strata_that_are_nearly_all_right_are_covered(sizes: tuple[int, ...]) -> None:
    assert held(strata_nearly_right(sizes, 0.98), 0.98, 300) > 0.93, "0.84 to 0.91 by the strata alone"


def test_a_mean_of_means_that_are_all_1_is_1_and_not_more() -> None:
    parts = [mean(np.ones(4), np.arange(4 * k, 4 * k + 4), 80, bounded=True) for k in range(20)]
    found = combine(parts)
    assert found.value <= 1.0
    assert found.interval()[0] < found.value <= found.interval()[1]


def test_two_equally_good_margins_are_rarely_told_apart_by_their_area() -> None:
    """0.12 of such tests at 20 prompts were below 0.05 while the wrong pairs had no error of their own."""
    rejected = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        sides = [rng.random(20) < 0.8 for _ in range(2)]
        if any(right.all() or not right.any() for right in sides):
            continue
        sizes = [np.exp(rng.normal(size=20) + 0.5 * right) for right in sides]
        found = [
            auroc_of_margin(np.where(right, size, -size), np.arange(20), 20)
            for right, size in zip(sides, sizes, strict=True)
        ]
        rejected.append((compare(*found).p_value or 1.0) < 0.05)
    assert np.mean(rejected) < 0.08
