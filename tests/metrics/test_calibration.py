"""Calibration against loops, scikit-learn, SciPy, and synthetic models whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panels import make_panel, pair_panel, random_panel
from scipy.optimize import minimize_scalar
from scipy.stats import kendalltau, spearmanr
from scipy.stats import t as student_t
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from rmbench.metrics.calibration import measure_calibration
from rmbench.metrics.kinds import Measured
from rmbench.metrics.panel import Panel, folds_of
from rmbench.metrics.temperature import fit_temperature, sigma

ALWAYS = {
    "ece", "ece_debiased", "ece_equal_width", "brier", "brier_reliability", "brier_resolution", "brier_uncertainty", "nll",
    "auroc_margin", "aurc", "temperature", "ece_scaled", "ece_debiased_scaled", "brier_scaled",
    "nll_scaled", "margin_mean", "margin_median", "share_negative",
}  # fmt: skip


def measure(panel: Panel, **params: object) -> Measured:
    return measure_calibration(panel, {"seed": 0, **params})


def values(panel: Panel, **params: object) -> dict[str, float]:
    return {name: s.value for name, s in measure(panel, **params).metrics.items()}


def honest_margins(n: int, seed: int, temperature: float = 1.0) -> np.ndarray:
    """Return chosen-minus-rejected margins of a model whose sigma(margin / temperature) is the truth."""
    rng = np.random.default_rng(seed)
    shown = rng.normal(0, 1.5, n)
    first_is_better = rng.random(n) < sigma(shown)
    return temperature * np.where(first_is_better, shown, -shown)


def both_orders(margin: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p = 1 / (1 + np.exp(-margin))
    return np.concatenate([p, 1 - p]), np.concatenate([label, 1 - label])


def naive_ece(p: np.ndarray, y: np.ndarray, bin_of: list[int]) -> float:
    total = 0.0
    for b in set(bin_of):
        inside = [k for k in range(len(p)) if bin_of[k] == b]
        total += len(inside) / len(p) * abs(np.mean(p[inside]) - np.mean(y[inside]))
    return total


MARGIN = honest_margins(400, 3, temperature=2.5)


def test_every_name_is_there_and_no_other() -> None:
    assert set(measure(pair_panel(MARGIN)).metrics) == ALWAYS
    graded = measure(random_panel(1))
    assert set(graded.metrics) == ALWAYS | {"kendall_tau", "spearman"}
    assert set(measure(pair_panel(MARGIN)).undefined) == {"kendall_tau", "spearman"}


def test_equal_width_ece_equals_a_loop() -> None:
    p, y = both_orders(MARGIN, np.ones(400))
    bins = [min(int(v * 15), 14) for v in p]
    assert values(pair_panel(MARGIN))["ece_equal_width"] == pytest.approx(naive_ece(p, y, bins), abs=1e-12)


@pytest.mark.parametrize("n_bins", [2, 15, 40])
def test_equal_mass_ece_equals_a_loop(n_bins: int) -> None:
    p, y = both_orders(MARGIN, np.ones(400))
    # 800 distinct forecasts: the k-th bin begins at the ceil(k (n - 1) / B)-th smallest.
    ranked = np.sort(p)
    starts = [ranked[int(np.ceil(k * 799 / n_bins))] for k in range(1, n_bins)]
    bins = [sum(v >= s for s in starts) for v in p]
    assert max(np.bincount(bins)) - min(np.bincount(bins)) <= 2
    got = values(pair_panel(MARGIN), bins=n_bins)["ece"]
    assert got == pytest.approx(naive_ece(p, y, bins), abs=1e-12)


def test_equal_forecasts_share_a_bin() -> None:
    margin = np.repeat([1.0, -1.0, 2.0, -2.0], [60, 40, 90, 10])
    p, y = both_orders(margin, np.ones(200))
    levels = sorted({round(v, 12) for v in p})
    exact = naive_ece(p, y, [levels.index(round(v, 12)) for v in p])
    assert len(levels) == 4
    assert values(pair_panel(margin))["ece"] == pytest.approx(exact, abs=1e-12)


def test_ece_of_a_calibrated_model_goes_to_zero_and_of_an_overconfident_one_does_not() -> None:
    eces = [values(pair_panel(honest_margins(n, 0)))["ece"] for n in (200, 2_000, 40_000)]
    assert eces[-1] < 0.01
    assert eces[0] > eces[1] > eces[2]
    assert values(pair_panel(honest_margins(20_000, 0, temperature=4.0)))["ece"] > 0.15


def test_the_interval_of_ece_undoes_its_bias() -> None:
    # 15 bins of 400 calibrated pairs: the plug-in value is far from 0, and 0 must be inside the interval.
    held = 0
    for seed in range(60):
        ece = measure(pair_panel(honest_margins(400, seed))).metrics["ece"].estimate()
        assert ece.ci95 is not None
        assert ece.value > 0.01
        held += ece.ci95[0] <= 0.0 <= ece.ci95[1]
    assert held >= 56  # 97.5% in the long run: noise alone can only surprise upwards


def test_brier_and_nll_equal_scikit_learn() -> None:
    got = values(pair_panel(MARGIN))
    p, y = both_orders(MARGIN, np.ones(400))
    assert got["brier"] == pytest.approx(brier_score_loss(y, p), abs=1e-12)
    assert got["nll"] == pytest.approx(log_loss(y, p), abs=1e-10)


def test_nll_of_huge_margins_is_finite_and_exact() -> None:
    got = values(pair_panel(np.array([-5000.0, 5000.0, 3.0])))
    assert got["nll"] == pytest.approx((5000.0 + 0.0 + np.log1p(np.exp(-3.0))) / 3)


@pytest.mark.parametrize("reward", [1e200, 1e308])
def test_margins_too_large_to_square_have_a_reason_and_no_number(reward: float) -> None:
    panel = make_panel([[reward, -reward], [0.0, 1.0], [2.0, 1.0]], [[1.0, 0.0]] * 3)
    found = measure(panel)
    assert found.metrics == {}
    assert found.counts["pairs"] == 3
    shown = "inf" if reward > 1e300 else "2e+200"
    why = f"margins of up to {shown} are too large to compute with"
    assert found.undefined == dict.fromkeys(
        ("ece", "ece_debiased", "ece_scaled", "temperature", "brier", "nll", "auroc_margin"), why
    )


def test_margins_just_within_have_all_their_numbers() -> None:
    got = values(pair_panel(np.array([1e153, 5e152, -1e152, 1e151])))
    assert got["margin_mean"] == pytest.approx((1e153 + 5e152 - 1e152 + 1e151) / 4)
    assert all(np.isfinite(v) for v in got.values())


def test_murphys_parts_add_up_where_forecasts_are_constant_within_bins() -> None:
    rng = np.random.default_rng(1)
    margin = rng.choice([-1.5, -0.5, 0.5, 1.5], 500, p=[0.1, 0.2, 0.3, 0.4])
    got = values(pair_panel(margin))
    whole = got["brier_reliability"] - got["brier_resolution"] + got["brier_uncertainty"]
    assert whole == pytest.approx(got["brier"], abs=1e-12)
    assert got["brier_uncertainty"] == 0.25


def test_murphys_parts_equal_a_loop() -> None:
    got = values(pair_panel(MARGIN), bins=2)
    p, y = both_orders(MARGIN, np.ones(400))
    upper = p >= np.sort(p)[400]
    reliability = sum(m.mean() * (p[m].mean() - y[m].mean()) ** 2 for m in (upper, ~upper))
    resolution = sum(m.mean() * (y[m].mean() - 0.5) ** 2 for m in (upper, ~upper))
    assert got["brier_reliability"] == pytest.approx(reliability, abs=1e-12)
    assert got["brier_resolution"] == pytest.approx(resolution, abs=1e-12)


def test_auroc_of_margin_equals_scikit_learn() -> None:
    for margin in (MARGIN, np.round(MARGIN)):
        used = margin[margin != 0]
        got = values(pair_panel(used))["auroc_margin"]
        assert got == pytest.approx(roc_auc_score(used > 0, np.abs(used)), abs=1e-12)
    # A tied pair is half right and half wrong.
    tied = np.round(MARGIN)
    x, y = np.tile(np.abs(tied), 2), np.repeat([1, 0], len(tied))
    credit = (tied > 0) + 0.5 * (tied == 0)
    weight = np.concatenate([credit, 1 - credit])
    assert values(pair_panel(tied))["auroc_margin"] == pytest.approx(
        roc_auc_score(y, x, sample_weight=weight), abs=1e-12
    )


@pytest.mark.parametrize(
    ("margin", "said"), [([1.0, 2.0], "all pairs are right"), ([-1.0, -2.0], "all pairs are wrong")]
)
def test_auroc_without_two_classes_says_so(margin: list[float], said: str) -> None:
    assert measure(pair_panel(np.array(margin))).undefined["auroc_margin"] == said


def test_area_under_risk_coverage_equals_a_loop() -> None:
    order = np.argsort(-np.abs(MARGIN))
    wrong = (MARGIN[order] < 0).astype(float)
    exact = np.mean([wrong[: k + 1].mean() for k in range(len(wrong))])
    assert values(pair_panel(MARGIN))["aurc"] == pytest.approx(exact, abs=1e-12)


def test_area_under_risk_coverage_of_equal_margins_is_the_error_rate() -> None:
    margin = np.where(np.arange(50) % 5 == 0, -1.0, 1.0)
    assert values(pair_panel(margin))["aurc"] == pytest.approx(0.2, abs=1e-12)


def test_temperature_equals_a_minimiser_and_finds_the_truth() -> None:
    def loss(log_t: float) -> float:
        return float(np.logaddexp(0, -MARGIN / np.exp(log_t)).mean())

    best = minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-10})
    assert values(pair_panel(MARGIN))["temperature"] == pytest.approx(np.exp(best.x), rel=1e-5)
    fitted = measure(pair_panel(honest_margins(50_000, 0, temperature=3.0))).metrics["temperature"].estimate()
    assert fitted.value == pytest.approx(3.0, rel=0.03)
    assert fitted.ci95 is not None
    assert fitted.ci95[0] < 3.0 < fitted.ci95[1]


def test_a_scale_of_rewards_moves_the_temperature_and_nothing_after_it() -> None:
    once, seven = values(pair_panel(MARGIN)), values(pair_panel(7 * MARGIN))
    assert seven["temperature"] == pytest.approx(7 * once["temperature"], rel=1e-9)
    for name in ("ece_scaled", "brier_scaled", "nll_scaled", "auroc_margin", "aurc"):
        assert seven[name] == pytest.approx(once[name], abs=1e-9)
    assert seven["ece"] > once["ece"] + 0.05


def test_scaled_metrics_use_the_temperature_of_the_other_folds() -> None:
    margin = MARGIN
    cluster = np.arange(400)
    fold = folds_of(cluster, 5, 0)
    scaled = np.empty(400)
    for k in range(5):
        inside = fold != k
        # One more pair, at the median |margin|, right as often as wrong.
        typical = np.median(np.abs(margin[inside]))
        seen, weight = np.append(margin[inside], [typical, -typical]), np.ones(inside.sum() + 2)
        weight[-2:] = 0.5
        best = minimize_scalar(
            lambda log_t, m=seen, w=weight: float((w * np.logaddexp(0, -m / np.exp(log_t))).sum()),
            bounds=(-5, 5), method="bounded", options={"xatol": 1e-10},
        )  # fmt: skip
        scaled[~inside] = margin[~inside] / np.exp(best.x)
    p, y = both_orders(scaled, np.ones(400))
    got = values(pair_panel(margin))
    assert got["brier_scaled"] == pytest.approx(brier_score_loss(y, p), abs=1e-6)
    assert got["nll_scaled"] == pytest.approx(log_loss(y, p), abs=1e-6)
    assert got["nll_scaled"] < got["nll"]


@pytest.mark.parametrize(
    ("margin", "said"),
    [
        ([-1.0, -2.0, -0.5, -1.0], "best temperature is infinite"),
        ([1.0, 2.0, 0.5, 1.0], "best temperature is 0"),
        ([0.0, 0.0, 0.0, 0.0], "every margin is 0"),
    ],
)
def test_a_temperature_that_does_not_exist_says_so(margin: list[float], said: str) -> None:
    measured = measure(pair_panel(np.array(margin)))
    assert said in measured.undefined["temperature"]
    assert "temperature" not in measured.metrics
    scaled = {"ece_scaled", "ece_debiased_scaled", "brier_scaled", "nll_scaled"}
    assert scaled <= (set(measured.undefined) if "every" in said else set(measured.metrics))
    assert all(np.isfinite(s.value) for s in measured.metrics.values())


def test_the_interval_of_the_temperature_is_that_of_the_likelihood_ratio() -> None:
    fit = fit_temperature(MARGIN, np.ones(400), np.arange(400), 400)
    assert not isinstance(fit, str)
    low, high = fit.ci95 or (0.0, 0.0)
    p = sigma(MARGIN / fit.value)
    ratio = 400 / 399 * np.square((1 - p) * MARGIN).sum() / (p * (1 - p) * MARGIN**2).sum()
    # Twice the log-likelihood lost at the ends, against Student's t squared and the design effect.
    for end in (low, high):
        lost = 2 * (np.logaddexp(0, -MARGIN / end) - np.logaddexp(0, -MARGIN / fit.value)).sum()
        assert lost == pytest.approx(max(1.0, ratio) * student_t.ppf(0.975, 399) ** 2, rel=0.02)
    assert low < fit.value < high


@pytest.mark.parametrize(
    ("margin", "said"),
    [
        (np.linspace(0.5, 2.0, 30), "the best temperature is 0; it is at most"),
        (np.array([1.0, 2.0]), "the best temperature is 0; its 95% interval holds every temperature"),
        (np.array([-1.0, 1.1, -1.2, 0.9, -1.0]), "the best temperature is infinite; it is at least"),
        (-np.linspace(0.5, 2.0, 30), "is infinite; no positive temperature is within its 95% interval"),
    ],
)
def test_a_temperature_at_its_bound_says_what_is_known(margin: np.ndarray, said: str) -> None:
    assert said in measure(pair_panel(margin)).undefined["temperature"]


def test_the_interval_of_a_temperature_reaches_infinity_where_margins_may_say_nothing() -> None:
    margin = np.where(np.arange(40) % 20 < 11, 1.0, -1.0)  # 22 of 40 right
    low, high = measure(pair_panel(margin)).metrics["temperature"].estimate().ci95 or (0.0, 0.0)
    assert 0.5 < low < 2.0
    assert high == np.inf


def test_the_median_of_two_values_is_as_sure_as_the_share_between_them() -> None:
    for right, expected in ((33, (-1.0, 1.0)), (45, (1.0, 1.0))):
        margin = np.where(np.arange(60) < right, 1.0, -1.0)
        assert measure(pair_panel(margin)).metrics["margin_median"].ci95 == expected
    # Below six prompts even the range is no 95% interval: 1 - 2 / 2^5 = 0.94.
    assert measure(pair_panel(np.arange(1.0, 6.0))).metrics["margin_median"].estimate().ci95 is None
    assert measure(pair_panel(np.arange(1.0, 7.0))).metrics["margin_median"].ci95 == (1.0, 6.0)


def test_rank_correlations_stay_within_one_and_are_never_certain() -> None:
    strength = np.arange(1.0, 11.0)
    for margin, end in ((strength, 1), (-strength, 0)):
        found = measure(make_panel([[m, 0.0] for m in margin], [[s, 0.0] for s in strength])).metrics
        for name in ("kendall_tau", "spearman"):
            interval = found[name].estimate().ci95 or (0.0, 0.0)
            assert found[name].value == pytest.approx(2.0 * end - 1)
            assert interval[end] == pytest.approx(2.0 * end - 1)
            assert interval[1] - interval[0] > 0.5


def test_kendall_and_spearman_equal_scipy_on_graded_pairs() -> None:
    rng = np.random.default_rng(4)
    strength = rng.integers(1, 6, 200).astype(float)
    margin = strength + rng.normal(0, 3, 200)
    panel = make_panel([[m, 0.0] for m in margin], [[s, 0.0] for s in strength])
    got = measure(panel).metrics
    assert got["kendall_tau"].value == pytest.approx(kendalltau(margin, strength).statistic, abs=1e-12)
    assert got["spearman"].value == pytest.approx(spearmanr(margin, strength).statistic, abs=1e-12)
    for name in ("kendall_tau", "spearman"):
        low, high = got[name].estimate().ci95 or (0, 0)
        assert low < got[name].value < high
        assert 0.1 < high - low < 0.35
        assert (got[name].estimate().n_clusters, got[name].freedom) == (200, 99.0)  # prompts; groups less 1


def test_soft_labels_are_matched_as_probabilities() -> None:
    rng = np.random.default_rng(5)
    p_chosen = rng.uniform(0.05, 0.95, 3000)
    margin = np.log(p_chosen / (1 - p_chosen))
    got = values(pair_panel(margin, p_chosen))
    assert got["ece"] < 1e-12
    assert got["temperature"] == pytest.approx(1.0, abs=1e-6)
    y = np.maximum(p_chosen, 1 - p_chosen)
    assert got["brier"] == pytest.approx(0.0, abs=1e-12)
    assert got["nll"] == pytest.approx(-(y * np.log(y) + (1 - y) * np.log(1 - y)).mean(), abs=1e-10)
    assert got["brier_uncertainty"] == pytest.approx(np.square(p_chosen - 0.5).mean())


def test_a_label_of_one_half_counts_as_a_forecast_but_not_as_a_pair_to_rank() -> None:
    panel = pair_panel(np.array([2.0, 0.0, 1.0]), np.array([0.5, 0.5, 0.9]))
    measured = measure(panel)
    p = 1 / (1 + np.exp(-np.array([2.0, 0.0, 1.0])))
    assert measured.metrics["brier"].value == pytest.approx(np.square(p - [0.5, 0.5, 0.9]).mean())
    assert measured.counts["split_labels"] == 2
    assert measured.metrics["margin_mean"].n == 1


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_responses_in_an_item_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    margin, flip = np.round(honest_margins(60, seed), 3), rng.random(60) < 0.5
    rows = [[-m / 2, m / 2] if f else [m / 2, -m / 2] for m, f in zip(margin.tolist(), flip, strict=True)]
    gold = [[0.0, 1.0] if f else [1.0, 0.0] for f in flip]
    a = values(make_panel([[m / 2, -m / 2] for m in margin.tolist()], [[1.0, 0.0]] * 60, kind="label"))
    b = values(make_panel(rows, gold, kind="label"))
    assert a == pytest.approx(b, abs=1e-12)


def test_margin_distribution_and_deciles_equal_numpy() -> None:
    measured = measure(pair_panel(MARGIN))
    got = {name: s.value for name, s in measured.metrics.items()}
    assert got["margin_mean"] == pytest.approx(MARGIN.mean())
    assert got["margin_median"] == pytest.approx(np.median(MARGIN))
    assert got["share_negative"] == pytest.approx((MARGIN < 0).mean())
    rows = measured.curves["margin_deciles"]
    order = np.argsort(np.abs(MARGIN))
    assert sum(r["n"] for r in rows) == 400
    assert len(rows) == 10
    for row, k in zip(rows, np.split(order, np.cumsum([r["n"] for r in rows])[:-1]), strict=True):
        assert 38 <= row["n"] <= 42
        assert row["accuracy"] == pytest.approx((MARGIN[k] > 0).mean())
        assert row["margin_from"] == np.abs(MARGIN[k]).min()
    assert measured.curves["margin_quantiles"]["0.25"] == pytest.approx(np.quantile(MARGIN, 0.25))


def test_the_reliability_curve_is_symmetric_and_covers_every_forecast() -> None:
    rows = measure(pair_panel(MARGIN), bins=10).curves["reliability"]
    assert sum(r["n"] for r in rows) == 800
    for low, high in zip(rows, reversed(rows), strict=True):
        assert low["forecast"] + high["forecast"] == pytest.approx(1.0, abs=0.02)
        assert low["observed"] + high["observed"] == pytest.approx(1.0, abs=0.03)


def test_invalid_rewards_leave_calibration_but_are_counted() -> None:
    panel = make_panel([[float("nan"), 0.0], [1.0, 0.0], [2.0, 0.0]], [[1.0, 0.0]] * 3, kind="label")
    for rule in ("wrong", "drop"):
        measured = measure(panel, invalid=rule)
        assert (measured.counts["invalid_items"], measured.counts["pairs"]) == (1, 2)


def test_the_order_of_items_changes_no_number() -> None:
    rng = np.random.default_rng(4)
    margin, order = rng.normal(0.5, 1.5, 30), rng.permutation(30)
    names = [f"c{k // 2:02d}" for k in range(30)]

    def intervals(places: np.ndarray) -> dict[str, object]:
        panel = make_panel(
            [[float(margin[k]), 0.0] for k in places],
            [[1.0, 0.0]] * 30,
            clusters=[names[k] for k in places],
            kind="label",
        )
        found = measure_calibration(panel, {"seed": 0}).metrics
        return {name: s.estimate().ci95 or (0.0, 0.0) for name, s in found.items()}

    a, b = intervals(np.arange(30)), intervals(order)
    for name, interval in a.items():
        assert interval == pytest.approx(b[name], rel=1e-6, abs=1e-9), name
