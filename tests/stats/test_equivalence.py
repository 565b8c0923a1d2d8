"""Equivalence and families: two one-sided tests by hand, exact bounds, verdicts, error rates."""

import numpy as np
import pytest
from scipy.stats import beta, ttest_1samp

from rmbench.errors import ConfigError
from rmbench.stats import Statistic, difference, equivalence, family, mean


def one(values: np.ndarray, **options: bool) -> Statistic:
    return mean(values, np.arange(len(values)), len(values), **options)


def test_it_is_the_larger_of_two_one_sided_t_tests() -> None:
    x, y = np.random.default_rng(0).normal(0.05, 1, (2, 60))
    for margin in (0.1, 0.4, 1.0):
        tests = [
            ttest_1samp(x - y, -margin, alternative="greater").pvalue,
            ttest_1samp(x - y, margin, alternative="less").pvalue,
        ]
        found = equivalence(difference(one(x), one(y)), margin)
        assert found == pytest.approx(max(tests), rel=1e-6)


def test_it_holds_where_the_ninety_percent_interval_lies_within() -> None:
    rng = np.random.default_rng(1)
    verdicts = []
    for _ in range(200):
        a, b = (one((rng.random(80) < 0.7).astype(float), bounded=True) for _ in range(2))
        paired = difference(a, b)
        low, high = paired.interval(0.05) or (np.nan, np.nan)
        p = equivalence(paired, 0.12)
        assert p is not None
        assert (p < 0.05) == (-0.12 < low and high < 0.12)
        verdicts.append(p < 0.05)
    assert 0 < sum(verdicts) < 200


@pytest.mark.parametrize("n", [20, 100, 350])
def test_two_models_without_a_discordant_prompt_are_equivalent_within_the_exact_bound(n: int) -> None:
    values = (np.arange(n) % 2).astype(float)
    paired = difference(one(values, bounded=True), one(values, bounded=True))
    # One-sided at 5%: at most 1 - 0.05^(1/n) of the prompts tell them apart, the upper end of 0 of n.
    bound = float(beta.ppf(0.95, 1, n))
    for margin, expected in ((bound * 1.01, True), (bound * 0.99, False)):
        p = equivalence(paired, margin)
        assert p is not None
        assert (p < 0.05) == expected
    assert equivalence(paired, bound) == pytest.approx(0.05, rel=1e-6)


def test_a_difference_beyond_the_margin_is_no_equivalence() -> None:
    values = np.zeros(50)
    paired = difference(one(np.append(np.ones(3), values), bounded=True), one(np.zeros(53), bounded=True))
    assert equivalence(paired, 0.03) == 1.0, "three of 53 is .057, by the exact interval"
    x, y = np.random.default_rng(2).normal(0, 1, (2, 50))
    assert (equivalence(difference(one(x + 1), one(y)), 0.5) or 0) > 0.5


def test_without_an_error_there_is_no_equivalence() -> None:
    blind = Statistic(value=2.0, influence=None, n=3, n_clusters=3)
    assert equivalence(difference(blind, blind), 1.0) is None
    flat = one(np.full(30, 2.5))
    assert equivalence(difference(flat, flat), 1.0) is None, "values without limits could lie anywhere"
    (test,) = family([(blind, blind)], 1.0)
    assert (test.verdict, test.words, test.n_tests, test.smallest()) == ("no test", "no test", 0, None)


def pair_of(shift: float, n: int = 400) -> tuple[Statistic, Statistic]:
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.1, n)
    noise -= noise.mean()
    base = rng.normal(0, 1, n)
    return one(base + noise + shift), one(base)


@pytest.mark.parametrize(
    ("shift", "margin", "words"),
    [
        (0.05, None, "better"),
        (-0.05, None, "worse"),
        (0.05, 0.08, "better, by less than 0.08"),
        (0.05, 0.055, "better"),
        (0.0, 0.02, "equivalent within 0.02"),
        (0.0, 0.002, "undecided"),
        (0.0, None, "undecided"),
    ],
)
def test_verdicts(shift: float, margin: float | None, words: str) -> None:
    (found,) = family([pair_of(shift)], margin)
    assert found.words == words
    assert found.within_margin == ("0.0" in words)
    assert found.n_tests == 1
    assert found.p_holm == found.paired.p_value


@pytest.mark.parametrize(("higher", "word"), [(True, "better"), (False, "worse"), (None, "higher")])
def test_a_verdict_knows_which_direction_is_better(higher: bool | None, word: str) -> None:
    a, b = (
        mean(s.contributions() * 400, np.arange(400), 400, higher_is_better=higher) for s in pair_of(0.05)
    )
    found = [family([pair])[0].verdict for pair in ((a, b), (b, a))]
    assert found == [word, {"better": "worse", "worse": "better", "higher": "lower"}[word]]


def test_both_families_are_corrected_over_all_their_tests() -> None:
    tests = family([pair_of(0.0)] * 3 + [pair_of(0.05)], 0.02)
    alone = [family([pair], 0.02)[0] for pair in (pair_of(0.0), pair_of(0.05))]
    assert tests[0].n_tests == 4
    assert tests[3].p_holm == pytest.approx(4 * (alone[1].paired.p_value or np.nan))
    assert tests[0].p_equivalence_holm == pytest.approx(4 * (alone[0].p_equivalence or np.nan))
    shown = [t.smallest() for t in (tests[0], alone[0])]
    assert shown[0] is not None
    assert shown[1] is not None
    assert shown[0] > shown[1], "a family of four needs a larger difference"


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan")])
def test_a_margin_is_above_zero(margin: float) -> None:
    with pytest.raises(ConfigError, match="margin"):
        family([pair_of(0.0)], margin)


def false_equivalences(n_clusters: int, discordance: float, margin: float, repeats: int) -> float:
    """Return how often two models that differ by exactly the margin are called equivalent."""
    rng = np.random.default_rng(4)
    sizes = 1 + np.arange(n_clusters) % 5
    cluster = np.repeat(np.arange(n_clusters), sizes)
    up = (discordance + margin) / 2
    called = 0
    for _ in range(repeats):
        # Half of what a prompt's pairs have is the prompt's own.
        own = rng.random((2, len(cluster)))
        shared = rng.random((2, n_clusters))[:, cluster]
        draw, _ = np.where(rng.random(len(cluster)) < 0.5, own, shared)
        a, b = (draw < up).astype(float), (draw > 1 - (discordance - up)).astype(float)
        pair = [mean(v, cluster, n_clusters, bounded=True) for v in (a, b)]
        called += family([(pair[0], pair[1])], margin)[0].within_margin
    return called / repeats


@pytest.mark.parametrize(
    ("n_clusters", "discordance", "margin"), [(40, 0.3, 0.15), (150, 0.2, 0.05), (60, 0.05, 0.05)]
)
def test_models_at_the_margin_are_seldom_called_equivalent(
    n_clusters: int, discordance: float, margin: float
) -> None:
    assert false_equivalences(n_clusters, discordance, margin, 300) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_a_test_without_resolution_shows_nothing() -> None:
    blind = Statistic(value=2.0, influence=None, n=3, n_clusters=3)
    found = family([(blind, blind), pair_of(0.0)])[0]
    assert (found.n_tests, found.smallest()) == (1, None)


def test_differences_of_one_direction_are_not_called_equivalent_too_often() -> None:
    """Only one of two models is ever wrong alone, and exactly as often as the margin allows."""
    wrong = 0
    for seed in range(600):
        right = (np.random.default_rng(seed).random(200) >= 0.1).astype(float)
        models = [mean(v, np.arange(200), 200, bounded=True) for v in (np.ones(200), right)]
        p = equivalence(difference(*models), 0.1)
        wrong += p is not None and p < 0.05
    assert wrong / 600 < 0.07, "0.09 to 0.10 by Student's t alone"
