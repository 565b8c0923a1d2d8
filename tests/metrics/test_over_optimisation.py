"""KL of best of n against enumeration and closed forms; the fitted curve against data made from one."""

from itertools import product
from math import inf, log, sqrt

import numpy as np
import pytest
from panels import make_panel
from test_selection import with_logprobs

from rmbench.metrics.best_of_n import expected_kl, measure_best_of_n
from rmbench.metrics.over_optimisation import fit_curve, measure_over_optimisation, peak_of
from rmbench.metrics.selection import Pools, kl_bound, kl_of_pick

POLICY = (0.5, 0.3, 0.2)
"""Three responses, the last one with the highest reward."""


def best_of_n_policy(policy: tuple[float, ...], n: int) -> list[float]:
    """Return P(response is the best of n draws), responses in the order of their rewards."""
    below = np.concatenate([[0.0], np.cumsum(policy)])
    return [float(below[k + 1] ** n - below[k] ** n) for k in range(len(policy))]


def exact_kl(policy: tuple[float, ...], n: int) -> float:
    pairs = zip(best_of_n_policy(policy, n), policy, strict=True)
    return sum(q * log(q / p) for q, p in pairs if q > 0)


def test_kl_of_a_pick_is_the_formula_worked_out_by_hand() -> None:
    # n = 2, P = 1/2: 1/4 (log 2 + log 1/2 - 1/2) + 3/4 log((3/4) / (1/2)).
    assert float(kl_of_pick(np.array(log(0.5)), 2)) == pytest.approx(-1 / 8 + 0.75 * log(1.5), abs=1e-15)


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_limits_of_the_kl_of_a_pick(n: int) -> None:
    with np.errstate(all="raise", under="ignore"):
        found = kl_of_pick(np.array([-5000.0, -800.0, -690.0, -50.0, -1e-12, 0.0]), n)
    # An improbable pick is as far away as can be; a certain one has not moved.
    assert found[:4] == pytest.approx(np.full(4, kl_bound(n)), abs=1e-9)
    assert found[4:] == pytest.approx(np.zeros(2), abs=1e-9)
    grid = kl_of_pick(np.log(np.linspace(0.001, 1.0, 500)), n)
    assert (grid >= -1e-15).all()
    assert (grid <= kl_bound(n) + 1e-12).all()


@pytest.mark.parametrize("top", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("n", [2, 5, 32])
def test_it_is_exact_where_only_the_best_response_has_a_probability_to_speak_of(top: float, n: int) -> None:
    many = 50_000
    policy = (*[(1 - top) / many] * many, top)
    assert float(kl_of_pick(np.array(log(top)), n)) == pytest.approx(exact_kl(policy, n), abs=2e-4)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_estimate_over_all_pools_that_a_policy_can_draw_is_its_mean_over_picks(n: int) -> None:
    """Duplicates in a pool are ties, and the pool is bigger than n: the expectation must not depend on it."""
    drawn = list(product(range(3), repeat=3))
    chance = np.array([np.prod([POLICY[k] for k in pool]) for pool in drawn])
    rewards = np.array(drawn, dtype=float)
    logprobs = np.log(np.array(POLICY))[np.array(drawn)]
    pools = Pools(rewards.ravel(), rewards.ravel(), np.arange(0, 82, 3))
    found = float(chance @ expected_kl(pools, (n,), logprobs.ravel())[:, 0])
    over_picks = sum(
        q * float(kl_of_pick(np.array(log(p)), n))
        for q, p in zip(best_of_n_policy(POLICY, n), POLICY, strict=True)
    )
    assert found == pytest.approx(over_picks, abs=1e-12)
    # An estimate, not the value; but nearer to it than the bound that is often taken for it.
    exact = exact_kl(POLICY, n)
    assert abs(found - exact) <= abs(kl_bound(n) - exact)
    assert exact <= kl_bound(n) + 1e-12


def random_pools(seed: int = 0, items: int = 40, m: int = 16) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(items, m)), rng.normal(size=(items, m)), -rng.exponential(2.0, (items, m))


def test_kl_at_n_has_an_interval_and_stays_below_its_bound() -> None:
    measured = measure_best_of_n(with_logprobs(*random_pools()), {"seed": 0})
    for n in (2, 4, 8, 16):
        estimate = measured.metrics[f"kl@{n}"].estimate()
        assert estimate.ci95 is not None
        assert 0 < estimate.ci95[0] < estimate.value < estimate.ci95[1] < kl_bound(n)
    assert measured.metrics["kl@1"].value == 0.0


def test_where_there_is_no_kl_it_says_why() -> None:
    rewards, gold, logprobs = random_pools()
    some = logprobs.copy()
    some[:3, 0] = np.nan
    assert (
        "missing in 3 of 40 items"
        in measure_best_of_n(with_logprobs(rewards, gold, some), {}).undefined["kl"]
    )
    full = with_logprobs(rewards, gold, logprobs)
    assert "top-k" in measure_best_of_n(full, {"select": "top-k", "k": 2}).undefined["kl"]
    none = measure_best_of_n(make_panel(rewards.tolist(), gold.tolist()), {})
    assert not [name for name in {**none.metrics, **none.undefined} if name.partition("@")[0] == "kl"]


def made_from(alpha: float, beta: float, noise: float, clusters: int = 400) -> dict[str, np.ndarray]:
    kl = np.array([kl_bound(n) for n in (1, 2, 4, 8, 16, 32, 64)])
    d = np.sqrt(kl)
    rng = np.random.default_rng(3)
    gold = 0.7 + alpha * d - beta * kl + noise * rng.normal(size=(clusters, 7))
    return {"gold": gold, "kl": np.tile(kl, (clusters, 1)), "prompts": np.ones(clusters)}


def test_the_fit_finds_the_curve_that_data_were_made_from() -> None:
    exact, why = fit_curve(**made_from(0.8, 0.25, 0.0), n=400, seed=0)
    assert why == {}
    assert exact["fit_alpha"].value == pytest.approx(0.8, abs=1e-10)
    assert exact["fit_beta"].value == pytest.approx(0.25, abs=1e-10)
    assert exact["fit_rmse"].value == pytest.approx(0.0, abs=1e-10)
    assert exact["fit_peak_kl"].value == pytest.approx((0.8 / 0.5) ** 2, abs=1e-8)
    noisy, _ = fit_curve(**made_from(0.8, 0.25, 0.3), n=400, seed=0)
    for name, truth in (("fit_alpha", 0.8), ("fit_beta", 0.25)):
        low, high = noisy[name].estimate().ci95 or (0, 0)
        assert low < truth < high
        assert high - low < 0.2
    assert noisy["fit_rmse"].value > 0.0


def test_the_fit_is_that_of_a_general_solver() -> None:
    data = made_from(0.3, 0.4, 0.5, clusters=30)
    gold = data["gold"].mean(axis=0)
    d = np.sqrt(data["kl"][0, 1:])
    (alpha, minus_beta), residual, *_ = np.linalg.lstsq(np.stack([d, d**2], 1), gold[1:] - gold[0])
    found, _ = fit_curve(**data, n=30, seed=0)
    assert found["fit_alpha"].value == pytest.approx(alpha)
    assert found["fit_beta"].value == pytest.approx(-minus_beta)
    assert found["fit_rmse"].value == pytest.approx(sqrt(residual[0] / 6))


def test_where_the_curve_has_no_fit_or_no_peak_it_says_why() -> None:
    rising, why = fit_curve(**made_from(0.8, -0.1, 0.0), n=400, seed=0)
    assert "fit_alpha" in rising
    assert "no peak" in why["fit_peak_kl"]
    short = {k: v if v.ndim == 1 else v[:, :3] for k, v in made_from(0.8, 0.2, 0.0).items()}
    assert fit_curve(**short, n=400, seed=0) == (
        {}, dict.fromkeys(("fit_alpha", "fit_beta", "fit_rmse", "fit_peak_kl"), "3 values of n; the curve needs 4")
    )  # fmt: skip
    still = {**made_from(0.8, 0.2, 0.0), "kl": np.zeros((400, 7))}
    assert set(fit_curve(**still, n=400, seed=0)[1].values()) == {"KL does not grow with n"}


def test_proxy_and_gold_part_where_the_highest_rewards_are_a_trap() -> None:
    rng = np.random.default_rng(5)
    gold = rng.normal(size=(200, 32))
    rewards = gold.copy()
    rewards[:, 0], gold[:, 0] = 9.0, -3.0
    found = measure_over_optimisation(with_logprobs(rewards, gold, np.full(gold.shape, -90.0)), {"seed": 0})
    proxy = [found.metrics[f"reward@{n}"].value for n in found.n_values]
    assert proxy == sorted(proxy)
    assert proxy[-1] == pytest.approx(9.0)
    assert proxy[0] == pytest.approx(rewards.mean())
    assert found.metrics["gold@32"].value == pytest.approx(-3.0)
    assert found.kl == pytest.approx([kl_bound(n) for n in found.n_values])
    assert found.kl_is == "estimate"
    peak = found.metrics["fit_peak_kl"]
    assert 0.0 < peak.value < kl_bound(32)
    low, high = peak.ci95 or (0.0, 0.0)
    assert 0.0 < low < peak.value < high < inf


def test_a_peak_that_some_resamples_do_not_have_is_open_at_that_end() -> None:
    """KL of the peak of d (alpha - beta d): 0 where it falls from the start, infinite where it only rises."""
    alpha, beta = np.array([0.8, -0.1, 0.3, 0.0]), np.array([0.25, 0.2, -0.1, 0.2])
    assert peak_of(alpha, beta).tolist() == pytest.approx([(0.8 / 0.5) ** 2, 0.0, inf, 0.0])
    kl = np.array([kl_bound(n) for n in (1, 2, 4, 8, 16)])
    d = np.sqrt(kl)
    # Six prompts whose gold falls again, and six whose gold rises on and on: half of the resamples have no peak.
    gold = np.stack([d - bend * kl for bend in [0.5, -0.4] * 6])
    found, why = fit_curve(gold, np.tile(kl, (12, 1)), np.ones(12), n=12, seed=0)
    assert not why
    peak = found["fit_peak_kl"].estimate()
    assert peak.value == pytest.approx((1.0 / 0.1) ** 2)
    low, high = peak.ci95 or (0.0, 0.0)
    assert 0.0 < low < peak.value
    assert high == inf


def test_rewards_that_were_made_up_have_no_mean() -> None:
    rewards, gold, logprobs = random_pools()
    rewards[3, 2] = np.nan
    panel = with_logprobs(rewards, gold, logprobs)
    wrong = measure_over_optimisation(panel, {"invalid": "wrong"})
    assert wrong.undefined["reward"] == "invalid=wrong made up the rewards of 1 pools"
    assert not [name for name in wrong.metrics if name.startswith("reward@")]
    dropped = measure_over_optimisation(panel, {"invalid": "drop"})
    assert "reward" not in dropped.undefined
    assert dropped.metrics["reward@1"].value == pytest.approx(np.delete(rewards, 3, axis=0).mean())
    # An invalid pool that is left out for want of gold makes nothing up.
    gold[3, 0] = np.nan
    without = measure_over_optimisation(with_logprobs(rewards, gold, logprobs), {"invalid": "wrong"})
    assert without.metrics["reward@1"].value == pytest.approx(np.delete(rewards, 3, axis=0).mean())


def test_nothing_to_measure_is_no_curve() -> None:
    found = measure_over_optimisation(make_panel([[1.0, 2.0]], [[None, 1.0]]), {})
    assert (found.n_values, found.metrics) == ((), {})
    assert found.undefined["win_rate"] == "no pool with gold on every response"


def test_probability_of_one_is_no_division_by_zero() -> None:
    found = measure_over_optimisation(with_logprobs(*random_pools()[:2], np.zeros((40, 16))), {"seed": 0})
    assert found.kl == (0.0,) * 5
    assert found.undefined["fit_alpha"] == "KL does not grow with n"
