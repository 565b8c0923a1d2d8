"""Losses: values and gradients against hand-derived ones, guards, and what each leaves alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rmbench.errors import ConfigError
from rmbench.train.losses import LOSSES, BatchStatistics, summary_of

CHOSEN = [1.0, -0.5, 3.0, 0.25]
REJECTED = [0.5, 1.0, -1.0, 0.25]
MARGIN = np.array(CHOSEN) - np.array(REJECTED)


def sigma(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def values_and_gradient(
    name: str, batch: BatchStatistics | None = None, **params: object
) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Return per-pair losses, the gradient of their sum with respect to d, and the diagnostics."""
    chosen = torch.tensor(CHOSEN, dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor(REJECTED, dtype=torch.float64, requires_grad=True)
    batch = batch or BatchStatistics(margins=torch.tensor(MARGIN, dtype=torch.float32))
    values, told = LOSSES.get(name)(chosen, rejected, batch, **params)
    values.sum().backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    if name != "centred":
        assert torch.allclose(chosen.grad, -rejected.grad)
    return values.detach().numpy(), chosen.grad.numpy(), dict(told)


def test_bradley_terry() -> None:
    values, gradient, _ = values_and_gradient("bradley-terry")
    assert values == pytest.approx(np.log1p(np.exp(-MARGIN)), abs=1e-6)
    assert gradient == pytest.approx(-(1 - sigma(MARGIN)), abs=1e-6)


def test_confidence_margin_is_equation_4_and_its_margin_has_no_gradient() -> None:
    mu = MARGIN.mean()
    values, gradient, told = values_and_gradient("confidence-margin")
    assert values == pytest.approx(np.log1p(np.exp(-(MARGIN - mu))), abs=1e-6)
    # With a gradient through mu the sum over the batch would be exactly 0; it must not be.
    assert gradient == pytest.approx(-(1 - sigma(MARGIN - mu)), abs=1e-6)
    assert abs(gradient.sum()) > 0.5
    assert told["mu_batch"] == pytest.approx(mu)
    assert told["margin_used"] == pytest.approx(mu)


@pytest.mark.parametrize(("threshold", "tau"), [("mean", MARGIN.mean()), ("0.1", 0.1), ("-9", -9.0)])
def test_confidence_margin_with_a_threshold_is_equation_5(threshold: str, tau: float) -> None:
    used = np.where(MARGIN < tau, MARGIN.mean(), 0.0)
    values, gradient, _ = values_and_gradient("confidence-margin", threshold=threshold)
    assert values == pytest.approx(np.log1p(np.exp(-(MARGIN - used))), abs=1e-6)
    assert gradient == pytest.approx(-(1 - sigma(MARGIN - used)), abs=1e-6)


def test_a_negative_mean_margin_is_clamped_a_cap_and_a_warm_up_hold_it_down() -> None:
    plain = values_and_gradient("bradley-terry")[0]
    inverted = BatchStatistics(margins=torch.tensor([-3.0, 1.0]))
    assert values_and_gradient("confidence-margin", inverted)[0] == pytest.approx(plain)
    capped = values_and_gradient("confidence-margin", cap=0.25)
    assert capped[0] == pytest.approx(np.log1p(np.exp(-(MARGIN - 0.25))), abs=1e-6)
    for step, share in ((0, 0.0), (3, 0.3), (10, 1.0), (99, 1.0)):
        batch = BatchStatistics(margins=torch.tensor(MARGIN, dtype=torch.float32), step=step)
        told = values_and_gradient("confidence-margin", batch, warmup=10)[2]
        assert told["margin_used"] == pytest.approx(share * MARGIN.mean())


def test_fixed_and_label_margins() -> None:
    assert values_and_gradient("fixed-margin", margin=0.7)[0] == pytest.approx(
        np.log1p(np.exp(-(MARGIN - 0.7))), abs=1e-6
    )
    strength = np.array([0.0, 1.0, 2.0, 0.5])
    batch = BatchStatistics(
        margins=torch.tensor(MARGIN, dtype=torch.float32),
        strength=torch.tensor(strength, dtype=torch.float32),
    )
    values, gradient, _ = values_and_gradient("label-margin", batch, scale=0.5)
    assert values == pytest.approx(np.log1p(np.exp(-(MARGIN - 0.5 * strength))), abs=1e-6)
    assert gradient == pytest.approx(-(1 - sigma(MARGIN - 0.5 * strength)), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("fixed-margin", {"margin": 0.0}),
        ("confidence-margin", {"cap": 0.0}),
        ("confidence-margin", {"threshold": "-1000"}),
        ("conservative", {"smoothing": 0.0}),
        ("centred", {"weight": 0.0}),
    ],
)
def test_a_margin_of_zero_is_exactly_bradley_terry(name: str, params: dict[str, object]) -> None:
    plain, other = values_and_gradient("bradley-terry"), values_and_gradient(name, **params)
    assert np.array_equal(plain[0], other[0])
    assert np.array_equal(plain[1], other[1])


def test_the_quantile_margin_pushes_the_middle_with_one_half() -> None:
    values, gradient, told = values_and_gradient("quantile-margin", quantile=0.5)
    top = np.quantile(MARGIN, 0.5)
    used = np.minimum(np.maximum(MARGIN, 0), top)
    assert told["margin_cap"] == pytest.approx(top)
    assert values == pytest.approx(np.log1p(np.exp(-(MARGIN - used))), abs=1e-6)
    inside = (MARGIN >= 0) & (MARGIN <= top)
    assert gradient[inside] == pytest.approx(-0.5)
    assert gradient[MARGIN < 0] == pytest.approx(-(1 - sigma(MARGIN[MARGIN < 0])), abs=1e-6)


def test_label_smoothing_is_lowest_at_the_log_odds_of_its_share() -> None:
    values, gradient, _ = values_and_gradient("conservative", smoothing=0.2)
    expected = 0.8 * np.log1p(np.exp(-MARGIN)) + 0.2 * np.log1p(np.exp(MARGIN))
    assert values == pytest.approx(expected, abs=1e-6)
    assert gradient == pytest.approx(sigma(MARGIN) - 0.8, abs=1e-6)


def test_centring_adds_the_square_of_the_sum() -> None:
    values, gradient, _ = values_and_gradient("centred", weight=0.1)
    total = np.array(CHOSEN) + np.array(REJECTED)
    assert values == pytest.approx(np.log1p(np.exp(-MARGIN)) + 0.1 * total**2, abs=1e-6)
    assert gradient == pytest.approx(-(1 - sigma(MARGIN)) + 0.2 * total, abs=1e-6)


def test_distance_normalisation_takes_the_distance_out_of_the_gradient() -> None:
    distance = torch.tensor([1.0, 2.0, 4.0, 1e-9])
    batch = BatchStatistics(
        margins=torch.tensor(MARGIN, dtype=torch.float32), distance=distance, mean_distance=2.0
    )
    _, gradient, told = values_and_gradient("distance-normalised", batch, largest=10.0)
    weight = np.array([2.0, 1.0, 0.5, 10.0])
    assert gradient == pytest.approx(-weight * (1 - sigma(MARGIN)), abs=1e-6)
    assert told["weight_max"] == 10.0


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=8), st.integers(1, 7))
def test_micro_batches_add_up_to_the_whole(margins: list[float], at: int) -> None:
    d = torch.tensor(margins)
    batch = BatchStatistics(margins=d)
    at = min(at, len(margins) - 1)
    for name in ("bradley-terry", "confidence-margin", "quantile-margin"):
        loss, zero = LOSSES.get(name), torch.zeros(len(d))
        whole, _ = loss(d, zero, batch)
        parts = torch.cat([loss(d[:at], zero[:at], batch)[0], loss(d[at:], zero[at:], batch)[0]])
        assert torch.equal(whole, parts)


@pytest.mark.parametrize("name", ["confidence-margin", "quantile-margin"])
def test_a_batch_of_one_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="at least 2 pairs per optimiser step"):
        LOSSES.get(name)(torch.zeros(1), torch.zeros(1), BatchStatistics(margins=torch.zeros(1)))


def test_rewards_of_another_shape_are_refused_before_they_broadcast() -> None:
    with pytest.raises(ConfigError, match=r"shapes \(3, 1\) and \(3,\)"):
        LOSSES.get("bradley-terry")(
            torch.zeros(3, 1), torch.zeros(3), BatchStatistics(margins=torch.zeros(3))
        )


def test_differences_are_taken_in_float32() -> None:
    chosen, rejected = torch.tensor([256.0, 257.0]).bfloat16(), torch.tensor([255.0, 256.0]).bfloat16()
    values, _ = LOSSES.get("bradley-terry")(chosen, rejected, BatchStatistics(margins=torch.zeros(2)))
    assert values.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("label-margin", {}, "pairs with strength"),
        ("quantile-margin", {"quantile": 1.0}, "between 0 and 1"),
        ("conservative", {"smoothing": 0.5}, "below 0.5"),
        ("confidence-margin", {"threshold": "half"}, "none, mean or a number"),
        ("distance-normalised", {}, "distances"),
    ],
)
def test_wrong_use_is_one_clear_line(name: str, params: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        values_and_gradient(name, **params)


def test_every_loss_says_its_equation_and_source() -> None:
    for name in LOSSES.names():
        loss = LOSSES.get(name)
        assert summary_of(loss).startswith("`-"), name
        assert (
            "Source" in (loss.__doc__ or "")
            or "ablation" in (loss.__doc__ or "")
            or "own margin" in (loss.__doc__ or "")
        )
