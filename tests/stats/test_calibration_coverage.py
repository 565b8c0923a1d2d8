"""Do intervals of calibration hold the truth, from ten pairs on? Simulation with a known relation."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from panels import make_panel, pair_panel
from scipy.special import betaincinv, ndtr, ndtri

from rmbench.metrics.calibration import measure_calibration
from rmbench.metrics.panel import Panel
from rmbench.metrics.reliability import Forecasts, bin_edges
from rmbench.metrics.temperature import fit_temperature, sigma
from rmbench.stats import Statistic
from rmbench.stats.clusters import Floats, Ints

pytestmark = pytest.mark.long

_SOFTNESS = 4.0
"""Soft labels are beta-distributed around their probability, as shares of about this many votes."""
_GRID = 40_000


@dataclass(frozen=True)
class World:
    """|log-odds| of pairs are |N(0, signal)|; margins are `confidence` times as large; prompts hang together."""

    signal: float = 1.5
    confidence: float = 1.0
    informative: bool = True
    per_prompt: int = 1
    soft: bool = False

    def truth(self, odds: Floats) -> Floats:
        return sigma(odds) if self.informative else np.full(len(odds), 0.5)

    def sample(self, seed: int, n_prompts: int) -> tuple[Floats, Floats, Ints]:
        """Return margin and label of the better response, and the prompt of each pair."""
        rng, m = np.random.default_rng(seed), self.per_prompt
        prompt = np.repeat(np.arange(n_prompts), m)
        common, own = rng.normal(size=n_prompts)[prompt], rng.normal(size=n_prompts * m)
        latent = own if m == 1 else np.sqrt(0.4) * common + np.sqrt(0.6) * own
        odds = np.abs(self.signal * rng.normal(size=n_prompts * m))
        p, u = self.truth(odds), ndtr(latent)
        label = betaincinv(_SOFTNESS * p, _SOFTNESS * (1 - p), u) if self.soft else (u < p).astype(float)
        label = np.clip(label, 1e-9, 1 - 1e-9) if self.soft else label
        margin = self.confidence * odds * np.where(label > 0.5, 1.0, -1.0)
        return margin, np.maximum(label, 1 - label), prompt

    def values(self, edges: Floats) -> dict[str, float]:
        """Return what the metrics would be on all pairs there are, in the bins of a sample."""
        odds = np.abs(self.signal * ndtri((np.arange(_GRID) + 0.5) / _GRID))
        p, margin = self.truth(odds), self.confidence * odds
        noise = p * (1 - p) / (1 + _SOFTNESS if self.soft else 1)
        best = odds if self.informative else 0 * odds
        both, happens = np.concatenate([margin, -margin]), np.concatenate([p, 1 - p])
        cell = np.searchsorted(edges, both, side="right")
        count, gap, found = (
            np.bincount(cell, v) for v in (0 * both + 1, sigma(both) - happens, happens - 0.5)
        )
        share, inhabited = count / count.sum(), np.maximum(count, 1)
        return {
            "ece": float(share @ np.abs(gap / inhabited)),
            "ece_debiased": float(share @ np.abs(gap / inhabited)),
            "brier_reliability": float(share @ np.square(gap / inhabited)),
            "brier_resolution": float(share @ np.square(found / inhabited)),
            "temperature": self.confidence if self.informative else np.inf,
            "nll_scaled": float((np.logaddexp(0, -best) + (1 - p) * best).mean()),
            "brier_scaled": float((np.square(sigma(best) - p) + noise).mean()),
        }


WORLDS = {
    "calibrated": World(),
    "over-confident": World(confidence=4.0),
    "under-confident": World(confidence=0.3),
    "weak": World(signal=0.3),
    "weak, over-confident": World(signal=0.3, confidence=4.0),
    "no signal": World(informative=False),
    "several pairs per prompt": World(per_prompt=4),
    "several, over-confident": World(confidence=4.0, per_prompt=4),
    "several, weak": World(signal=0.3, per_prompt=4),
    "soft": World(soft=True),
    "soft, weak": World(signal=0.3, confidence=4.0, soft=True),
}


def panel_of(margin: Floats, label: Floats, prompt: Ints, *, soft: bool) -> Panel:
    per_prompt = len(prompt) // (int(prompt.max()) + 1)
    return pair_panel(margin, label if soft else None, per_prompt)


def shares_held(world: World, n_prompts: int, repeats: int, names: set[str]) -> dict[str, float]:
    """Return metric -> share of samples whose interval holds the value on all pairs there are."""
    held: Counter[str] = Counter()
    for seed in range(repeats):
        margin, label, prompt = world.sample(50_000 + seed, n_prompts)
        edges = bin_edges(Forecasts(margin, label, prompt, n_prompts), 15, equal_mass=True)
        found: Mapping[str, Statistic] = measure_calibration(
            panel_of(margin, label, prompt, soft=world.soft), {"seed": 0}
        ).metrics
        fit = fit_temperature(margin, label, prompt, n_prompts)
        assert not isinstance(fit, str)
        for name, true in world.values(edges).items():
            if name in names:
                low, high = (fit if name == "temperature" else found[name]).estimate().ci95 or (
                    np.nan,
                    np.nan,
                )
                held[name] += low - 1e-9 <= true <= high + 1e-9
    return {name: held[name] / repeats for name in sorted(names)}


BINNED = {"ece", "ece_debiased", "brier_reliability", "brier_resolution"}
FITTED = {"temperature", "nll_scaled", "brier_scaled"}


def check(world: World, n_prompts: int, repeats: int) -> None:
    """Fail below 93%, or 90% for fewer than 50 prompts, give or take two standard errors."""
    least = 0.93 if n_prompts >= 50 else 0.90
    slack = 2 * np.sqrt(least * (1 - least) / repeats)
    found = shares_held(world, n_prompts, repeats, BINNED | FITTED)
    assert min(found.values()) >= least - slack, found


@pytest.mark.parametrize("name", ["calibrated", "several, over-confident", "weak", "soft"])
def test_ten_prompts(name: str) -> None:
    check(WORLDS[name], 10, 40)


@pytest.mark.parametrize("name", ["over-confident", "several, weak"])
def test_fifty_prompts(name: str) -> None:
    check(WORLDS[name], 50, 40)


@pytest.mark.slow
@pytest.mark.parametrize("n_prompts", [10, 20, 50, 200])
@pytest.mark.parametrize("name", WORLDS)
def test_all_worlds_and_sizes(name: str, n_prompts: int) -> None:
    check(WORLDS[name], n_prompts, 200)


def unequal_prompts(seed: int, n_prompts: int) -> tuple[Floats, Floats, Ints]:
    """Calibrated pairs of prompts of Pareto-distributed size, right together more often than by chance."""
    rng = np.random.default_rng(seed)
    sizes = np.minimum(1 + rng.pareto(1.2, n_prompts).astype(int), 40)
    prompt = np.repeat(np.arange(n_prompts), sizes)
    odds = np.abs(1.5 * rng.normal(size=len(prompt)))
    common, own = rng.normal(size=n_prompts)[prompt], rng.normal(size=len(prompt))
    right = ndtr(np.sqrt(0.4) * common + np.sqrt(0.6) * own) < sigma(odds)
    return np.where(right, odds, -odds), np.ones(len(prompt)), prompt


@pytest.mark.parametrize(("n_prompts", "repeats"), [(20, 40), pytest.param(10, 400, marks=pytest.mark.slow)])
def test_prompts_of_unequal_size(n_prompts: int, repeats: int) -> None:
    held: Counter[str] = Counter()
    for seed in range(repeats):
        margin, label, prompt = unequal_prompts(seed, n_prompts)
        panel = make_panel(
            [[m, 0.0] for m in margin.tolist()],
            [[1.0, 0.0]] * len(margin),
            clusters=[f"c{k:04d}" for k in prompt],
            kind="label",
        )
        low, _ = measure_calibration(panel, {"seed": 0}).metrics["ece"].estimate().ci95 or (1.0, 1.0)
        held["ece"] += low < 0.02
        fit = fit_temperature(margin, label, prompt, n_prompts)
        assert not isinstance(fit, str)
        low, high = fit.ci95 or (np.nan, np.nan)
        held["temperature"] += low <= 1.0 <= high
    slack = 2 * np.sqrt(0.09 / repeats)
    assert min(held.values()) / repeats >= 0.90 - slack, held


def test_a_loss_after_scaling_does_not_explode_on_ten_pairs() -> None:
    world = World()
    true = world.values(np.zeros(1))["nll_scaled"]
    found = [
        measure_calibration(panel_of(*world.sample(seed, 10), soft=False), {"seed": 0})
        .metrics["nll_scaled"]
        .value
        for seed in range(100)
    ]
    assert abs(np.mean(found) - true) < 0.12
    assert max(found) < 3.0
