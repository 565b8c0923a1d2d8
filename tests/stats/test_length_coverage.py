"""Length-controlled accuracy on data whose truth is known: bias, coverage, and the paired test."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest
from panels import make_panel
from scipy.stats import norm

from rmbench.metrics import Panel
from rmbench.metrics.preference import measure_preference
from rmbench.metrics.temperature import sigma
from rmbench.stats import compare

NAME = "accuracy_length_controlled"
Floats: TypeAlias = np.ndarray
Curve: TypeAlias = Callable[[Floats], Floats]
"""P(correct) at z, the standardised logarithm of the ratio of lengths; z > 0: the chosen one is longer."""

CURVES: dict[str, Curve] = {
    "no dependence": lambda z: np.full(len(z), 0.7),
    "nearly always right": lambda z: np.full(len(z), 0.95),
    "weak": lambda z: sigma(0.85 + 0.5 * z),
    "strong": lambda z: sigma(0.85 + 2.0 * z),
    "prefers short": lambda z: sigma(0.5 - 1.5 * z),
    "pure length": lambda z: (z > 0) + 0.5 * (z == 0),
    "pure length with noise": lambda z: np.where(z > 0, 0.9, 0.1) + 0.4 * (z == 0) * 1.0,
    "pure brevity": lambda z: (z < 0) + 0.5 * (z == 0),
    "length seen through noise": lambda z: np.asarray(norm.cdf(z / 0.3)),
    "step and slope": lambda z: sigma(0.8 + 0.7 * np.sign(z) + 0.7 * z),
    "clearer the further apart": lambda z: sigma(0.4 + 0.8 * np.abs(z)),
}

SIZES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "one": lambda rng, n: np.ones(n, dtype=int),
    "three": lambda rng, n: np.full(n, 3),
    "pareto": lambda rng, n: np.minimum(1 + rng.pareto(1.2, n).astype(int), 40),
}


def truth(curve: Curve) -> float:
    return float(curve(np.array([1e-9, -1e-9])).mean())


def simulated(
    rng: np.random.Generator,
    n_clusters: int,
    curve: Curve,
    *,
    longer: float,
    sizes: str = "one",
    equal: float = 0.0,
    ties: float = 0.0,
) -> Panel:
    """Return pairs whose chosen response is longer with probability `longer`; prompts are hard or easy.

    `equal` of them are of equal length, `ties` of them have tied rewards.
    """
    cluster = np.repeat(np.arange(n_clusters), SIZES[sizes](rng, n_clusters))
    n = len(cluster)
    z = np.where(rng.random(n) < equal, 0.0, norm.ppf(longer) + rng.normal(size=n))
    # Gaussian copula: right together within a prompt, each with its own probability.
    latent = np.sqrt(0.5) * (rng.normal(size=n_clusters)[cluster] + rng.normal(size=n))
    margin = np.where(norm.cdf(latent) < curve(z), 1.0, -1.0) * (rng.random(n) >= ties)
    rejected = np.exp(rng.normal(9.0, 0.5, n))  # long: rounding makes hardly any pair equal
    chosen = rejected * np.exp(0.4 * z)
    return make_panel(
        [[m, 0.0] for m in margin.tolist()],
        [[1.0, 0.0]] * n,
        lengths=[[round(c), round(r)] for c, r in zip(chosen, rejected, strict=True)],
        clusters=[f"c{c:06d}" for c in cluster],
    )


def coverage(name: str, n_clusters: int, repeats: int, **options: float | str) -> tuple[float, float, int]:
    """Return the share of intervals that hold the truth, the bias beyond three standard errors, and the sets."""
    right = truth(CURVES[name])
    if ties := float(options.get("ties", 0.0)):
        right = (1.0 - ties) * right + 0.5 * ties
    held, errors = 0, []
    for seed in range(repeats):
        panel = simulated(np.random.default_rng(seed), n_clusters, CURVES[name], **options)  # type: ignore[arg-type]
        found = measure_preference(panel, {}).metrics.get(NAME)
        if found is None:
            continue
        low, high = found.estimate().ci95 or (np.nan, np.nan)
        held += low <= right <= high
        errors.append(found.value - right)
    noise = 3 * np.std(errors) / np.sqrt(len(errors))
    return held / len(errors), max(float(abs(np.mean(errors)) - noise), 0.0), len(errors)


QUICK: list[tuple[str, int, dict[str, float | str]]] = [
    ("no dependence", 50, {"longer": 0.7}),
    ("strong", 50, {"longer": 0.9}),
    ("pure length with noise", 100, {"longer": 0.8, "sizes": "pareto"}),
]


@pytest.mark.parametrize(("name", "n_clusters", "options"), QUICK)
def test_quick(name: str, n_clusters: int, options: dict[str, float | str]) -> None:
    share, bias, _ = coverage(name, n_clusters, 120, **options)
    assert share >= 0.90
    assert bias < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CURVES))
@pytest.mark.parametrize(
    ("n_clusters", "options"),
    [
        (50, {"longer": 0.5}),
        (200, {"longer": 0.6}),
        (200, {"longer": 0.9}),
        (50, {"longer": 0.7, "sizes": "three"}),
        (50, {"longer": 0.7, "sizes": "pareto"}),
        (200, {"longer": 0.6, "equal": 0.2}),
        (200, {"longer": 0.6, "ties": 0.4}),
        (1000, {"longer": 0.7}),
    ],
)
def test_coverage(name: str, n_clusters: int, options: dict[str, float | str]) -> None:
    repeats = 400 if n_clusters < 1000 else 150
    share, bias, _ = coverage(name, n_clusters, repeats, **options)
    assert share >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / repeats)
    assert bias < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CURVES))
@pytest.mark.parametrize(("n_clusters", "longer"), [(20, 0.5), (20, 0.8), (50, 0.95)])
def test_few_pairs_on_a_side_are_wide_rather_than_wrong(name: str, n_clusters: int, longer: float) -> None:
    share, _, n = coverage(name, n_clusters, 400, longer=longer)
    assert share >= 0.90
    assert n > 100


@pytest.mark.parametrize("longer", [0.6, 0.9])
@pytest.mark.parametrize("name", ["pure length", "pure brevity"])
def test_a_scorer_of_pure_length_is_at_one_half(name: str, longer: float) -> None:
    for seed in range(20):
        panel = simulated(np.random.default_rng(seed), 100, CURVES[name], longer=longer, sizes="pareto")
        found = measure_preference(panel, {}).metrics[NAME]
        assert found.value == pytest.approx(0.5, abs=0.02), "but for a pair or two of equal length"
        low, high = found.estimate().ci95 or (0, 0)
        assert low < 0.5 < high


@pytest.mark.parametrize(("n_clusters", "longer"), [(50, 0.7), (200, 0.6)])
def test_two_equal_models_are_rarely_told_apart(n_clusters: int, longer: float) -> None:
    rejected, repeats = 0, 300
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        # The same seed twice: the same lengths; a coin decides whose answer the second model gives.
        a = simulated(np.random.default_rng(seed), n_clusters, CURVES["weak"], longer=longer)
        z = np.log(a.lengths[0::2] / a.lengths[1::2]) / 0.4
        fresh = np.where(rng.random(n_clusters) < CURVES["weak"](z), 1.0, -1.0)
        rewards = a.rewards.copy()
        rewards[0::2] = np.where(rng.random(n_clusters) < 0.5, rewards[0::2], fresh)
        b = Panel(**{**{f: getattr(a, f) for f in a.__slots__}, "rewards": rewards})
        one, other = (measure_preference(p, {}).metrics[NAME] for p in (a, b))
        p = compare(one, other).p_value
        rejected += p is not None and p < 0.05
    assert rejected / repeats < 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)
    assert rejected > 0
