"""Margin calibration: do the probabilities that reward margins claim match the labels.

A margin `d = r_a - r_b` claims P(a is better) = sigma(d). The order of a pair is arbitrary, so each pair
enters as `(p, y)` and as `(1 - p, 1 - y)`. With `(p_chosen, 1)` alone a reliability curve is meaningless.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from scipy.special import stdtrit

from rmbench.core.options import Option, made_of
from rmbench.metrics.gaps import freedom_of
from rmbench.metrics.kinds import Measured, Metric, Params, register_kind
from rmbench.metrics.margins import (
    area_under_risk_coverage,
    auroc_of_margin,
    deciles,
    margin_metrics,
    strength_metrics,
    too_large,
)
from rmbench.metrics.panel import Pairs, Panel, folds_of, left_out_items, pairs_of, settle_invalid
from rmbench.metrics.reliability import Forecasts, bin_edges, brier_parts, calibration_error
from rmbench.metrics.temperature import (
    design_effect,
    fit_temperature,
    information_of,
    named_bound,
    sigma,
    steady_temperature,
)
from rmbench.stats import Statistic, mean
from rmbench.stats.clusters import Floats, Ints

NO_PAIR = "no pair whose gold differs"


def _with_split(pairs: Pairs) -> tuple[Floats, Floats, Floats]:
    """Return margin, label and cluster of all pairs, those with a label of exactly 0.5 included."""
    if pairs.split is None or len(pairs.split) == 0:
        return pairs.margin, pairs.label, pairs.cluster.astype(np.float64)
    return (
        np.concatenate([pairs.margin, pairs.split.margin]),
        np.concatenate([pairs.label, np.full(len(pairs.split), 0.5)]),
        np.concatenate([pairs.cluster, pairs.split.cluster]).astype(np.float64),
    )


def negative_log_likelihood(margin: Floats, label: Floats) -> Floats:
    """Return the cross-entropy of sigma(margin) against the label, nats, shape (P,); never overflows."""
    return np.asarray(np.logaddexp(0.0, -margin) + (1.0 - label) * margin)


def _proper(forecasts: Forecasts, suffix: str, seed: int, bins: int) -> dict[str, Statistic]:
    """Return ECE, Brier and NLL of one set of margins."""
    edges = bin_edges(forecasts, bins, equal_mass=True)
    ece, debiased = calibration_error(forecasts, edges, seed=seed)
    nll = negative_log_likelihood(forecasts.margin, forecasts.label)
    brier = np.square(forecasts.probability - forecasts.label)
    return {
        f"ece{suffix}": ece,
        f"ece_debiased{suffix}": debiased,
        f"brier{suffix}": replace(_mean(brier, forecasts), higher_is_better=False),
        f"nll{suffix}": replace(_mean(nll, forecasts), unit="nats", bounded=False, higher_is_better=False),
    }


def _proper_scaled(
    raw: Forecasts, scaled: Forecasts, fit: Statistic | str, seed: int, bins: int, folds: int
) -> dict[str, Statistic]:
    """Return the same for scaled margins, with the error that the fit of the temperature adds."""
    found = _proper(scaled, "_scaled", seed, bins)
    p, label = scaled.probability, scaled.label
    certain = p * (1.0 - p)
    if not isinstance(fit, str) and fit.influence is not None:
        # An error of T changes Brier to first order; NLL is at its minimum there.
        slope = float((2.0 * (p - label) * certain * scaled.margin).mean())
        brier = found["brier_scaled"]
        if brier.influence is not None:
            found["brier_scaled"] = replace(
                brier, influence=brier.influence - slope * fit.influence, linear=False
            )
    temperature = steady_temperature(raw.margin, label, raw.cluster)
    if isinstance(temperature, str):
        return found
    margin = raw.margin / temperature
    curvature = information_of(scaled.margin)
    for name, fitted, bend in (
        ("nll_scaled", negative_log_likelihood(margin, label), curvature),
        ("brier_scaled", np.square(sigma(margin) - label), 2.0 * certain * curvature),
    ):
        found[name] = with_fit(found[name], float(fitted.mean()), bend, scaled, folds)
    return found


def _mean(values: Floats, forecasts: Forecasts) -> Statistic:
    return mean(values, forecasts.cluster, forecasts.n_clusters, bounded=True)


@dataclass(frozen=True, slots=True)
class Claims:
    """Claims of a panel's margins, as measured and after a cross-fitted temperature."""

    pairs: Pairs
    """Pairs with an order."""
    margin: Floats
    """Margins of all pairs, those with a label of exactly 0.5 included, shape (P,)."""
    raw: Forecasts
    scaled: Forecasts | str
    """Each margin divided by the temperature of the other folds; or the reason why it has no value."""
    n_invalid: int
    """Number of items left out."""


@dataclass(frozen=True, kw_only=True)
class Calibration(Params):
    """Parameters of the kind `calibration`."""

    bins: Annotated[int, Option("most bins of the reliability curve; few pairs get fewer", low=2)] = 15
    folds: Annotated[int, Option("folds of the cross-fitted temperature", low=2)] = 5


def claims_of(panel: Panel, params: Any) -> Claims:
    """Return the forecasts that calibration is measured on; `params` as `Calibration` or a task's mapping."""
    params = made_of(Calibration, params)
    panel, n_invalid = settle_invalid(panel, params.invalid, ranking=False)
    pairs = pairs_of(panel)
    margin, label, cluster_as_float = _with_split(pairs)
    cluster = cluster_as_float.astype(np.int64)
    raw = Forecasts(margin, label, cluster, panel.n_clusters)
    if why := NO_PAIR if len(pairs) == 0 else too_large(margin):
        return Claims(pairs, margin, raw, why, n_invalid)
    found = cross_fitted(margin, label, cluster, params.folds, params.seed)
    scaled = found if isinstance(found, str) else replace(raw, margin=found)
    return Claims(pairs, margin, raw, scaled, n_invalid)


@register_kind(
    "calibration",
    title="Calibration",
    params=Calibration,
    needs_scale=lambda _: True,
    metrics=[
        Metric("ece", "distance between claimed and observed probability", in_strata=True),
        Metric("ece_debiased", "the same, less what noise adds", in_strata=True, brief=False),
        Metric("ece_scaled", "the first, after a cross-fitted temperature", in_strata=True, brief=False),
        Metric("temperature", "what margins must be divided by", in_strata=True),
        Metric("brier", "mean squared error of the claimed probability", in_strata=True),
        Metric("nll", "cross-entropy of the claimed probability", in_strata=True),
        Metric("auroc_margin", "whether a right pair has a larger margin than a wrong one", in_strata=True),
    ],
)
def measure_calibration(panel: Panel, params: Calibration) -> Measured:
    """Measure calibration of margins, raw and after a cross-fitted temperature.

    Args:
        panel: Items and rewards.
        params: `short` leaves out the metrics that are not reported per stratum: bins of equal width,
            Murphy's parts, the margins' distribution, strength.

    Returns:
        The metrics of the kind; `curves` holds reliability, margin deciles and quantiles.
    """
    bins, seed = params.bins, params.seed
    left_out = left_out_items(panel, params.invalid, ranking=False)
    claims = claims_of(panel, params)
    pairs, margin, raw, scaled = claims.pairs, claims.margin, claims.raw, claims.scaled
    counts = {
        "pairs": len(margin),
        "invalid_items": claims.n_invalid,
        "split_labels": len(margin) - len(pairs),
    }
    if len(pairs) == 0:
        return Measured({}, counts, {"ece": NO_PAIR}, left_out=left_out)
    if why := too_large(margin):
        return Measured({}, counts, dict.fromkeys(measure_calibration.headlines, why), left_out=left_out)
    metrics = _proper(raw, "", seed, bins)
    if not params.short:
        metrics["ece_equal_width"], _ = calibration_error(
            raw, bin_edges(raw, bins, equal_mass=False), seed=seed
        )
        metrics |= brier_parts(raw, bin_edges(raw, bins, equal_mass=True), seed=seed)
    undefined: dict[str, str] = {}
    for name, found in {"auroc_margin": auroc_of_margin, "aurc": area_under_risk_coverage}.items():
        _put(name, found(pairs.margin, pairs.cluster, panel.n_clusters), metrics, undefined)
    fit = fit_temperature(margin, raw.label, raw.cluster, panel.n_clusters)
    _put("temperature", fit if isinstance(fit, str) else named_bound(fit) or fit, metrics, undefined)
    curves: dict[str, Any] = {"reliability": raw.table(bin_edges(raw, bins, equal_mass=True))}
    if isinstance(scaled, str):
        names = ("ece_scaled", "ece_debiased_scaled", "brier_scaled", "nll_scaled")
        undefined |= dict.fromkeys(names, scaled)
    else:
        metrics |= _proper_scaled(raw, scaled, fit, seed, bins, params.folds)
        curves["reliability_scaled"] = scaled.table(bin_edges(scaled, bins, equal_mass=True))
    if not params.short:
        for name, result in strength_metrics(pairs, panel.n_clusters, seed).items():
            _put(name, result, metrics, undefined)
        metrics |= margin_metrics(pairs, panel.n_clusters)
        curves |= deciles(pairs, panel.n_clusters)
    return Measured(metrics, counts, undefined, curves, left_out)


def _put(
    name: str, result: Statistic | str, metrics: dict[str, Statistic], undefined: dict[str, str]
) -> None:
    if isinstance(result, str):
        undefined[name] = result
    else:
        metrics[name] = result


_DRAWS = 100_000


_NORMAL = 1.959964


def cross_fitted(margin: Floats, label: Floats, cluster: Ints, n_folds: int, seed: int) -> Floats | str:
    """Return each margin divided by the temperature fitted on the *other* folds, or a reason for no value."""
    if len(np.unique(cluster)) < 2:
        return "fewer than two prompts to cross-fit a temperature"
    fold = folds_of(cluster, n_folds, seed)
    scaled = np.empty_like(margin)
    for k in range(int(fold.max()) + 1):
        inside = fold != k
        temperature = steady_temperature(margin[inside], label[inside], cluster[inside])
        if isinstance(temperature, str):
            return temperature
        scaled[~inside] = margin[~inside] / temperature
    return too_large(scaled) or scaled


def with_fit(loss: Statistic, fitted: float, curvature: Floats, scaled: Forecasts, n_folds: int) -> Statistic:
    """Return a loss of scaled margins with an interval of its true value at the best temperature.

    The error of the fitted temperature is of second order, so no influence contains it. But if margins carry
    little information, the losses of pairs vary little too, and this error is as large as their standard
    error. So the lower end starts at the loss with the temperature fitted to *all* pairs, which is below the
    loss at the best temperature. The upper end starts at the cross-fitted loss, which tends to be above it.
    In units of `design effect / P`, with S the score of 1/T, a standard normal, X its square and Y the sum of
    squares of its parts in K folds,

    - the fitted temperature is X / 2 better on its own pairs than the best one, so t^2 / 2 at most;
    - the cross-fitted loss is `K / (K - 1) (X - Y) + ((K - 2) X + Y) K / (K - 1)^2 / 2` above it, of which
      the 2.5% quantile is below 0.

    These are added to the distances to the ends like independent errors, by their squares.

    Args:
        loss: Mean loss of the pairs with cross-fitted temperatures, with its own interval.
        fitted: Mean loss with the temperature of all pairs.
        curvature: Second derivative of the loss of each pair by log(1/T), at the expected label, shape (P,).
        scaled: The forecasts with cross-fitted temperatures.
        n_folds: Most folds.

    Source: the expansion is that of Akaike 1974 and Takeuchi 1976, for cross-fitting; ends are combined as in
    Donner & Zou 2012, Statistical Methods in Medical Research 21 ("MOVER").
    """
    interval = loss.estimate().ci95
    if interval is None:
        return loss
    z = scaled.margin
    information = float(information_of(z).sum())
    if information == 0.0:
        return loss  # all are certain: no temperature near this one gives other forecasts
    unit = float(curvature.sum()) / information * design_effect(z, scaled.label, scaled.cluster, 1.0) / len(z)
    t2 = float(stdtrit(freedom_of(scaled.cluster), 0.975)) ** 2
    below = unit * t2 * _least_excess(min(n_folds, len(np.unique(scaled.cluster))))
    low = min(fitted, loss.value) - np.hypot(loss.value - interval[0], 0.5 * t2 * unit)
    high = loss.value + np.hypot(interval[1] - loss.value, below)
    most = 1.0 if loss.bounded else np.inf
    return replace(loss, ci95=(max(0.0, float(low)), min(most, float(high))))


@lru_cache(maxsize=64)
def _least_excess(n_folds: int) -> float:
    """Return the 97.5% bound on the best temperature's loss minus the cross-fitted loss, over 1.96^2."""
    k = float(n_folds)
    parts = np.random.default_rng(0).standard_normal((_DRAWS, n_folds)) / np.sqrt(k)
    x, y = np.square(parts.sum(axis=1)), np.square(parts).sum(axis=1)
    excess = k / (k - 1) * (x - y) + ((k - 2) * x + y) * k / (k - 1) ** 2 / 2
    return max(0.0, -float(np.quantile(excess, 0.025))) / _NORMAL**2
