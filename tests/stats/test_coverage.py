"""Do 95% intervals cover 95% of the time? Simulation on synthetic data whose truth is known."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from panels import make_panel

from rmbench.metrics import KINDS, Panel
from rmbench.metrics.temperature import sigma
from rmbench.stats import Statistic, compare, mean

pytestmark = pytest.mark.long

Simulation = Callable[[np.random.Generator, int], Panel]


def clustered_pairs(rng: np.random.Generator, n_clusters: int) -> Panel:
    """Three pairs per prompt, hard or easy together; margins twice too confident; chosen tends to be long."""
    n = 3 * n_clusters
    level = np.repeat(rng.normal(0, 1, n_clusters), 3)
    shown = rng.normal(0.3 * level, 1.2)
    first_is_better = rng.random(n) < sigma(shown + 0.4 * level)
    margin = 2.0 * np.where(first_is_better, shown, -shown)
    longer = rng.normal(20, 80, n).round()
    return make_panel(
        [[m, 0.0] for m in margin.tolist()],
        [[1.0, 0.0]] * n,
        lengths=[[1000 + int(d), 1000] for d in longer],
        clusters=[f"c{k // 3:06d}" for k in range(n)],
        kind="label",
    )


def graded_pairs(rng: np.random.Generator, n_clusters: int) -> Panel:
    """Two pairs per prompt with graded strength."""
    n = 2 * n_clusters
    level = np.repeat(rng.normal(0, 0.5, n_clusters), 2)
    strength = rng.integers(1, 6, n).astype(float)
    margin = strength + level + rng.normal(0, 3, n)
    return make_panel(
        [[m, 0.0] for m in margin.tolist()],
        [[s, 0.0] for s in strength.tolist()],
        clusters=[f"c{k // 2:06d}" for k in range(n)],
    )


def pools(rng: np.random.Generator, n_clusters: int) -> Panel:
    """Pools of eight whose reward is gold and noise, prompts of different quality."""
    level = rng.normal(0, 1, (n_clusters, 1))
    gold = sigma(level + rng.normal(0, 1, (n_clusters, 8)))
    rewards = np.round(gold * 4 + rng.normal(0, 1, (n_clusters, 8)), 1)
    return make_panel(rewards.tolist(), gold.tolist())


def coverage(
    kind: str, simulate: Simulation, names: set[str], *, n_clusters: int, repeats: int
) -> dict[str, float]:
    """Return metric -> share of data sets whose interval holds the value on a vast one."""
    params = {"seed": 0}
    measure = KINDS.get(kind)
    vast = measure(simulate(np.random.default_rng(123), 40_000), params).metrics
    held: Counter[str] = Counter()
    for seed in range(repeats):
        found = measure(simulate(np.random.default_rng(10_000 + seed), n_clusters), params).metrics
        for name in names:
            low, high = found[name].estimate().ci95 or (np.nan, np.nan)
            held[name] += low <= vast[name].value <= high
    return {name: held[name] / repeats for name in sorted(names)}


def check(shares: dict[str, float], repeats: int) -> None:
    """Fail unless each share is within 93% to 97%, give or take two standard errors of the simulation."""
    slack = 2 * np.sqrt(0.95 * 0.05 / repeats)
    outside = {n: s for n, s in shares.items() if not 0.93 - slack <= s <= 0.97 + slack}
    assert not outside, f"{outside} of {shares}"


def test_preference() -> None:
    names = {"accuracy", "accuracy_length_controlled", "longer_wins"}
    check(coverage("preference", clustered_pairs, names, n_clusters=100, repeats=600), 600)


def test_best_of_n() -> None:
    names = {f"{m}@{n}" for m in ("gold", "win_rate", "regret", "oracle", "recovery") for n in (2, 8)}
    check(coverage("best_of_n", pools, names, n_clusters=80, repeats=300), 300)


SLOW_CALIBRATION = {
    "ece", "ece_equal_width", "brier", "brier_reliability", "brier_resolution", "nll",
    "auroc_margin", "aurc", "temperature", "brier_scaled", "nll_scaled",
    "margin_mean", "margin_median", "share_negative",
}  # fmt: skip


def test_calibration_quick() -> None:
    check(coverage("calibration", clustered_pairs, SLOW_CALIBRATION, n_clusters=150, repeats=60), 60)


@pytest.mark.slow
def test_calibration() -> None:
    check(coverage("calibration", clustered_pairs, SLOW_CALIBRATION, n_clusters=150, repeats=600), 600)


@pytest.mark.slow
def test_rank_correlations() -> None:
    names = {"kendall_tau", "spearman"}
    check(coverage("calibration", graded_pairs, names, n_clusters=100, repeats=300), 300)


def clustered_fraction(rng: np.random.Generator, n_clusters: int, p: float) -> Statistic:
    """Four observations per cluster that agree more often than chance."""
    common = rng.random(n_clusters) < p
    own = rng.random((n_clusters, 4)) < p
    copies = rng.random((n_clusters, 4)) < 0.5
    values = np.where(copies, common[:, None], own).astype(float).ravel()
    return mean(values, np.repeat(np.arange(n_clusters), 4), n_clusters, bounded=True)


@pytest.mark.parametrize("p", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("n_clusters", [20, 200])
def test_clustered_fractions(p: float, n_clusters: int) -> None:
    held = 0
    for seed in range(2000):
        low, high = clustered_fraction(np.random.default_rng(seed), n_clusters, p).estimate().ci95 or (0, 0)
        held += low <= p <= high
    if n_clusters * (1 - p) < 5:
        assert held / 2000 >= 0.93, "a handful of wrong clusters: conservative at worst"
    else:
        assert 0.93 <= held / 2000 <= 0.97


def test_p_values_of_equal_models_are_uniform_although_items_are_clustered() -> None:
    rng = np.random.default_rng(0)
    p_values = []
    cluster = np.repeat(np.arange(60), 3)
    for _ in range(2000):
        hard = np.repeat(rng.normal(0, 1, 60), 3)
        quirk = np.repeat(rng.normal(0, 0.7, (2, 60)), 3, axis=1)
        right = (rng.normal(size=(2, 180)) + hard + quirk > 0).astype(float)
        a, b = (mean(r, cluster, 60, bounded=True) for r in right)
        p_values.append(compare(a, b).p_value)
    for level in (0.05, 0.2, 0.5):
        slack = 3 * np.sqrt(level * (1 - level) / 2000)
        assert abs(np.mean(np.array(p_values) < level) - level) < slack
