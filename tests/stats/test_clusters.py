"""CR2 and its degrees of freedom against the matrices that define them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import block_diag, sqrtm

from rmbench.stats import Statistic, combine, difference, few_decide, mean, ratio
from rmbench.stats.clusters import Stratum, cr2_factors, spread_of, working_variance


def matrices(sizes: list[int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the residual maker of a mean and CR2's adjustment of each cluster, (I - H_gg)^(-1/2)."""
    n = sum(sizes)
    hat = np.full((n, n), 1.0 / n)
    ends = np.cumsum([0, *sizes])
    blocks = [np.eye(s) - hat[a : a + s, a : a + s] for s, a in zip(sizes, ends, strict=False)]
    return np.eye(n) - hat, [np.linalg.inv(np.real(sqrtm(b))) for b in blocks]


@pytest.mark.parametrize("sizes", [[1, 1, 1], [5, 2, 1, 1], [40, 3, 2, 2, 1, 1, 1], [4] * 6, [30, 1]])
def test_independent_observations_give_cr2_of_bell_and_mccaffrey(sizes: list[int]) -> None:
    n = sum(sizes)
    share = np.array(sizes) / n
    factor, freedom = cr2_factors(share, share)
    left, adjust = matrices(sizes)
    y = np.random.default_rng(0).normal(size=n)
    residual = left @ y
    ends = np.cumsum([0, *sizes])
    # The estimate is the mean of y: each cluster's part of the variance is (1' A_g e_g / n)^2.
    rows = np.stack(
        [
            np.concatenate([np.zeros(a), np.ones(s) @ A / n, np.zeros(n - a - s)])
            for s, a, A in zip(sizes, ends, adjust, strict=False)
        ]
    )
    by_matrix = float(np.square(rows @ residual).sum())
    influence = np.array([residual[a : a + s].sum() / n for s, a in zip(sizes, ends, strict=False)])
    assert float(np.square(factor * influence).sum()) == pytest.approx(by_matrix, rel=1e-9)
    gram = rows @ left @ left.T @ rows.T
    assert freedom == pytest.approx(max(1.0, np.trace(gram) ** 2 / np.trace(gram @ gram)), rel=1e-9)


@pytest.mark.parametrize("correlation", [0.0, 0.2, 1.0])
def test_the_variance_is_unbiased_under_its_working_model(correlation: float) -> None:
    sizes = np.array([50, 20, 10, 5, 5, 2, 1, 1])
    share = sizes / sizes.sum()
    working = sizes * (1 - correlation) + correlation * sizes**2.0
    factor, freedom = cr2_factors(working / working.sum(), share)
    blocks = [(1 - correlation) * np.eye(s) + correlation * np.ones((s, s)) for s in sizes]
    root = np.linalg.cholesky(block_diag(*blocks) + 1e-12 * np.eye(sizes.sum()))
    y = root @ np.random.default_rng(1).normal(size=(sizes.sum(), 40_000))
    centred = y - y.mean(axis=0)
    sums = np.stack([part.sum(axis=0) for part in np.split(centred, np.cumsum(sizes)[:-1])]) / sizes.sum()
    variances = np.square(factor[:, None] * sums).sum(axis=0)
    assert variances.mean() == pytest.approx(y.mean(axis=0).var(), rel=0.03)
    # Satterthwaite: a chi-squared over its degrees of freedom has the variance 2 / freedom.
    assert 2 * variances.mean() ** 2 / variances.var() == pytest.approx(freedom, rel=0.1)


def test_equal_clusters_give_the_textbook_error_whatever_the_working_model() -> None:
    share = np.full(7, 1 / 7)
    influence = np.random.default_rng(2).normal(size=7)
    assert np.array_equal(working_variance(influence, share), share)
    factor, freedom = cr2_factors(share, share)
    assert factor == pytest.approx(np.sqrt(7 / 6))
    assert freedom == pytest.approx(6.0)


def test_the_data_say_how_far_the_items_of_a_prompt_are_copies() -> None:
    rng = np.random.default_rng(3)
    sizes = np.array([1, 2, 4, 8, 16, 32] * 40)
    share = sizes / sizes.sum()
    largest = {}
    for name, sums in {"independent": rng.normal(0, np.sqrt(sizes)), "copies": rng.normal(0, sizes)}.items():
        model = working_variance(sums / sizes.sum(), share)
        largest[name] = model[5] / model[0]
    assert largest["independent"] < 60
    assert largest["copies"] > 500  # 1,024 were they copies, 32 were they independent


def test_one_cluster_of_a_mean_has_no_error_and_two_have() -> None:
    one, two = (
        mean(np.array([1.0, 0.0]), np.array([0, 0]), 1),
        mean(np.array([1.0, 0.0]), np.array([0, 1]), 2),
    )
    assert one.stderr is None
    assert two.stderr == pytest.approx(0.5)


def test_a_cluster_that_holds_nearly_all_has_no_error() -> None:
    values = np.r_[np.random.default_rng(0).random(100_000), 0.3]
    found = mean(values, np.r_[np.zeros(100_000, dtype=int), 1], 2, bounded=True)
    assert (found.stderr, found.estimate().ci95) == (None, None)
    assert found.estimate().remark == "one prompt holds nearly all of the data: no interval"


def macro(sizes: list[int], seed: int) -> tuple[np.ndarray, list[Stratum]]:
    rng = np.random.default_rng(seed)
    cluster = np.arange(sum(sizes))
    values = rng.random(sum(sizes))
    parts = []
    for a, s in zip(np.cumsum([0, *sizes]), sizes, strict=False):
        parts.append(mean(values[a : a + s], cluster[a : a + s], sum(sizes), bounded=True))
    return values, list(combine(parts).terms)


def test_strata_have_an_error_of_their_own_each() -> None:
    sizes = [40, 25, 12]
    values, terms = macro(sizes, 4)
    parts = np.split(values, np.cumsum(sizes)[:-1])
    by_hand = [p.var(ddof=1) / len(p) / 9 for p in parts]
    found = spread_of(terms, 77, limits=(0.0, 1.0))
    assert found.variance == pytest.approx(sum(by_hand))
    welch = sum(by_hand) ** 2 / sum(v**2 / (len(p) - 1) for v, p in zip(by_hand, parts, strict=True))
    assert found.freedom == pytest.approx(welch)


def test_small_strata_are_pooled_with_the_next_larger_one() -> None:
    sizes = [60, 12, 2, 1]
    values, terms = macro(sizes, 5)
    pooled = values[60:]
    pull = np.r_[np.full(12, 1 / 12), np.full(2, 1 / 2), 1.0] / 4
    large = values[:60].var(ddof=1) / 60 / 16
    expected = large + pooled.var(ddof=1) * np.square(pull).sum()
    assert spread_of(terms, 75, limits=(0.0, 1.0)).variance == pytest.approx(expected)
    # Equal values are no certainty: one at each limit is added.
    same = [replace(t, influence=0.0 * t.influence, value=0.5) for t in terms[1:]]
    expected = large + np.r_[np.full(15, 0.5), 0.0, 1.0].var() * np.square(pull).sum()
    assert spread_of([terms[0], *same], 75, limits=(0.0, 1.0)).variance == pytest.approx(expected)


def test_prompts_count_whatever_their_influence() -> None:
    """PandaLM's 64 prompts were told as 60 to 64, since those without influence were not counted."""
    parts = [
        mean(np.array(v), np.array(c), 6, bounded=True)
        for v, c in (([1.0, 1.0], [0, 1]), ([1.0, 0.0, 1.0], [2, 3, 4]))
    ]
    assert combine(parts).n_clusters == 5
    assert combine(parts).n == 5


def test_terms_over_the_same_clusters_are_one_and_a_difference_of_copies_is_nothing() -> None:
    values = np.random.default_rng(6).random((2, 30))
    cluster = np.arange(30)
    a, b = (mean(v, cluster, 30, bounded=True) for v in values)
    both = combine([a, b], n=30)
    assert len(both.terms) == 1
    assert both.n == 30
    assert both.stderr == pytest.approx(mean(values.mean(axis=0), cluster, 30).stderr)
    assert combine([both, both], [1.0, -1.0]).stderr == 0.0


@pytest.mark.parametrize("n_clusters", [6, 12])  # strata of fewer than 10 are pooled
def test_a_difference_of_ratios_with_other_shares_keeps_what_both_have_in_common(n_clusters: int) -> None:
    rng = np.random.default_rng(0)
    top, bottom = rng.random(n_clusters) * 3, np.arange(1.0, n_clusters + 1)
    other = bottom + (np.arange(n_clusters) == 0)  # one model has one observation more
    found = difference(ratio(top, bottom, n=21), ratio(top, other, n=22))
    assert found.influence is not None
    assert found.stderr is not None
    plain = np.sqrt(n_clusters / (n_clusters - 1)) * np.linalg.norm(found.influence)
    assert found.stderr == pytest.approx(plain, rel=0.3)


def test_a_difference_of_jackknifed_values_has_the_error_of_its_influence() -> None:
    base = Statistic(value=0.5, influence=np.array([3.0, -1, 0, -2]) / 9, n=4, n_clusters=4)
    other = replace(base, influence=np.array([3.0, -1, -1, -1]) / 9)  # no 0 where the first one has it
    found = difference(base, other)
    assert found.stderr == pytest.approx(np.sqrt(4 / 3 * (1 + 1)) / 9)


def test_the_remark_of_a_difference_is_on_the_difference() -> None:
    few = mean(np.r_[np.zeros(99), 100.0], np.arange(100), 100)
    few = replace(few, remark=few_decide(few))
    many = replace(few, value=few.value + 0.1, influence=few.influence + np.tile([0.1, -0.1], 50))
    assert few.remark == "about 2 prompts decide it"
    assert difference(few, many).remark == ""
    assert combine([few, many]).remark == ""
    assert difference(few, replace(few, value=0.0, influence=np.zeros(100))).remark == few.remark
