"""Noise of binned gaps and bins by margin, against enumeration, formulas and simulation."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

from rmbench.metrics.gaps import (
    Cells,
    Dependence,
    Gaps,
    dependence_of,
    draw_noise,
    freedom_of,
    noise_covariance,
)
from rmbench.metrics.reliability import (
    Forecasts,
    bin_edges,
    brier_parts,
    calibration_error,
    number_of_bins,
)
from rmbench.metrics.temperature import sigma

ALONE = Dependence(0.0, 1.0, None)


def random_cells(seed: int, n: int, per_prompt: int = 1) -> tuple[Cells, np.ndarray]:
    rng = np.random.default_rng(seed)
    forecasts = Forecasts(np.abs(rng.normal(0, 1.5, n)), np.ones(n), np.arange(n) // per_prompt, n)
    return forecasts.cells(bin_edges(forecasts, 5, equal_mass=True)), forecasts.probability


def test_bins_follow_the_number_of_pairs() -> None:
    found = {n: number_of_bins(n, 15) for n in (1, 10, 19, 20, 50, 74, 75, 10**6)}
    assert found == {1: 2, 10: 2, 19: 2, 20: 4, 50: 10, 74: 14, 75: 15, 10**6: 15}
    assert [number_of_bins(10**4, most) for most in (2, 3, 40)] == [2, 3, 40]
    assert number_of_bins(100, 40) == 20


def test_saturated_margins_fill_all_bins() -> None:
    rng = np.random.default_rng(0)
    margin = rng.choice([-1.0, 1.0], 300, p=[0.2, 0.8]) * rng.uniform(40.0, 900.0, 300)
    forecasts = Forecasts(margin, np.ones(300), np.arange(300), 300)
    assert len(set(sigma(np.abs(margin)))) == 1
    rows = forecasts.table(bin_edges(forecasts, 15, equal_mass=True))
    assert len(rows) == 15
    assert max(r["n"] for r in rows) <= 41
    # Bins of equal width are those of the probability, whose two values fill two.
    assert len(forecasts.table(bin_edges(forecasts, 15, equal_mass=False))) == 2


def test_bins_of_equal_width_are_cut_at_probabilities() -> None:
    forecasts = Forecasts(np.zeros(200), np.ones(200), np.arange(200), 200)
    assert sigma(bin_edges(forecasts, 10, equal_mass=False)) == pytest.approx(np.arange(1, 10) / 10)


def test_covariance_equals_enumeration_of_all_labels() -> None:
    cells, p = random_cells(1, 8)
    labels = np.array(list(product([0.0, 1.0], repeat=8)))
    weight = np.prod(np.where(labels == 1.0, p, 1 - p), axis=1)
    sums = np.array([cells.odd_sums(y - p) for y in labels])
    assert weight @ sums == pytest.approx(0.0, abs=1e-12)
    assert noise_covariance(cells, p, ALONE) == pytest.approx((sums * weight[:, None]).T @ sums, abs=1e-12)


@pytest.mark.parametrize("within", [0.0, 0.3, 1.0])
def test_covariance_of_dependent_labels_equals_the_double_sum(within: float) -> None:
    cells, p = random_cells(2, 30, per_prompt=3)
    expected = np.zeros((5, 5))
    side = [np.eye(5)[h] - np.eye(5)[m] for h, m in zip(cells.here, cells.mirrored, strict=True)]
    s = np.sqrt(p * (1 - p))
    for i in range(30):
        for j in range(30):
            together = 1.0 if i == j else within if cells.cluster[i] == cells.cluster[j] else 0.0
            expected += together * s[i] * s[j] * np.outer(side[i], side[j])
    assert noise_covariance(cells, p, Dependence(within, 1.0, None)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "within"), [(60, 0.0), (60, 0.4), (900, 0.0), (900, 0.4)])
def test_draws_have_the_covariance_and_the_seed_decides(n: int, within: float) -> None:
    cells, p = random_cells(3, n, per_prompt=3)
    dependence = Dependence(within, 1.0, None)
    drawn = draw_noise(cells, p, dependence, seed=(0, 0))
    expected = noise_covariance(cells, p, dependence)
    # The copula gives labels of probability 1/2 their correlation, and others a little less.
    assert np.diag(np.cov(drawn.T)) == pytest.approx(np.diag(expected), rel=0.12)
    assert np.array_equal(drawn, draw_noise(cells, p, dependence, seed=(0, 0)))
    assert not np.array_equal(drawn, draw_noise(cells, p, dependence, seed=(1, 0)))


def test_dependence_is_found() -> None:
    rng = np.random.default_rng(4)
    prompt = np.repeat(np.arange(4000), 3)
    common, own = rng.normal(size=4000)[prompt], rng.normal(size=12_000)
    for latent in (0.0, 0.5):
        label = (np.sqrt(latent) * common + np.sqrt(1 - latent) * own < 0).astype(float)
        cells = Cells(np.ones(12_000, np.int64), np.zeros(12_000, np.int64), prompt, 2)
        found = dependence_of(label, np.full(12_000, label.mean()), cells)
        assert found.within == pytest.approx(2 / np.pi * np.arcsin(latent), abs=0.03)
        assert found.scale == 1.0
    soft = rng.beta(2, 2, 12_000)
    assert dependence_of(soft, np.full(12_000, soft.mean()), cells).scale == pytest.approx(0.2**0.5, rel=0.03)


def test_debiased_ece_equals_numerical_integration() -> None:
    rng = np.random.default_rng(5)
    margin = rng.normal(0, 2, 80)
    forecasts = Forecasts(margin, (rng.random(80) < sigma(0.5 * margin)).astype(float), np.arange(80), 80)
    edges = bin_edges(forecasts, 6, equal_mass=True)
    plain, debiased = calibration_error(forecasts, edges, seed=0)
    turned, cells = forecasts.turned(), forecasts.cells(edges)
    gap, count = cells.odd_sums(turned.label - turned.probability), cells.counts()
    # The labels that were seen, and four prompts more of which two are right, say how far gaps may move.
    seen = np.array([r["observed"] for r in forecasts.table(edges)])[cells.here]
    spread = np.sqrt(np.diag(noise_covariance(cells, (80 * seen + 2.0) / 84, ALONE)))
    normal = norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    excess = sum(np.abs(g + s * normal).mean() - abs(g) for g, s in zip(gap, spread, strict=True))
    assert plain.value == pytest.approx(np.abs(gap).sum() / count.sum(), abs=1e-12)
    assert debiased.value == pytest.approx(plain.value - excess / count.sum(), abs=1e-5)


def test_debiased_ece_is_nearer_to_the_truth_and_never_negative() -> None:
    errors = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        margin = rng.normal(0, 1.5, 150)
        forecasts = Forecasts(margin, (rng.random(150) < sigma(margin)).astype(float), np.arange(150), 150)
        plain, debiased = calibration_error(forecasts, bin_edges(forecasts, 15, equal_mass=True), seed=0)
        assert 0.0 <= debiased.value < plain.value
        low, high = debiased.ci95 or (1.0, 0.0)
        assert low <= debiased.value <= high
        errors.append((plain.value, debiased.value))
    assert np.mean(errors, axis=0)[1] < 0.7 * np.mean(errors, axis=0)[0]  # the truth is 0


@pytest.mark.parametrize("label", [1.0, 0.0])
def test_ten_labels_that_agree_have_an_interval(label: float) -> None:
    forecasts = Forecasts(np.full(10, 1.0), np.full(10, label), np.arange(10), 10)
    edges = bin_edges(forecasts, 15, equal_mass=True)
    ece, _ = calibration_error(forecasts, edges, seed=0)
    found = [ece, *brier_parts(forecasts, edges, seed=0).values()]
    assert ece.value == pytest.approx(abs(label - sigma(np.ones(1))[0]))
    for statistic in found[:3]:
        low, high = statistic.ci95 or (0.0, 0.0)
        assert low < statistic.value < high
    # Ten of ten where 73% was claimed is no surprise (p = .04, one-sided); none of ten is.
    assert (found[0].ci95 or (1.0, 1.0))[0] == (
        pytest.approx(0.0, abs=0.1) if label else pytest.approx(0.5, abs=0.2)
    )


def test_gaps_of_no_size_have_no_certain_size() -> None:
    cells = Cells(np.ones(20, np.int64), np.zeros(20, np.int64), np.arange(20), 2)
    for power in (1, 2):
        gaps = Gaps(np.full(20, 0.5), np.repeat([0.0, 1.0], 10), cells)
        low, high = gaps.interval(power, seed=0) or (1.0, 1.0)
        assert (gaps.size(power), low) == (0.0, 0.0)
        assert high > 0.1**power


def test_one_prompt_has_no_interval() -> None:
    forecasts = Forecasts(np.ones(9), np.ones(9), np.zeros(9, np.int64), 1)
    assert calibration_error(forecasts, bin_edges(forecasts, 15, equal_mass=True), seed=0)[0].ci95 is None


def test_freedom_counts_prompts_by_what_they_weigh() -> None:
    assert freedom_of(np.repeat(np.arange(12), 5)) == pytest.approx(11.0)
    assert freedom_of(np.repeat(np.arange(12), [10] + [1] * 11)) == pytest.approx(21**2 / 111 - 1)
    assert freedom_of(np.zeros(5, np.int64)) == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_the_last_digits_of_margins_change_nothing(seed: int) -> None:
    """Many margins are equal, as those of ratings are; processors differ in the last digits of each."""
    rng = np.random.default_rng(seed)
    margin = np.log(rng.integers(1, 12, 400) / rng.integers(1, 12, 400))
    label = (rng.random(400) < sigma(0.7 * margin)).astype(float)
    cluster = np.arange(400) // 4
    other = margin * (1 + rng.integers(-2, 3, 400) * np.finfo(float).eps)
    assert len(np.unique(np.abs(other))) > len(np.unique(np.abs(margin).round(12)))
    found = []
    for values in (margin, other):
        forecasts = Forecasts(values, label, cluster, 100)
        edges = bin_edges(forecasts, 15, equal_mass=True)
        ece, debiased = calibration_error(forecasts, edges, seed=0)
        low, high = ece.interval() or (0.0, 0.0)
        found.append((ece.value, debiased.value, low, high))
    assert found[0] == pytest.approx(found[1], abs=1e-12)
