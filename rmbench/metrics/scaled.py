"""Margins divided by a temperature of other prompts, and what not knowing it costs an interval."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.stats import t as student_t

from rmbench.metrics.folds import folds_of
from rmbench.metrics.freedom import freedom_of
from rmbench.metrics.margins import too_large
from rmbench.metrics.reliability import Forecasts
from rmbench.metrics.temperature import design_effect, information_of, steady_temperature
from rmbench.stats import Statistic
from rmbench.stats.clusters import Floats, Ints

_DRAWS = 100_000
_NORMAL = 1.959964


def cross_fitted(margin: Floats, label: Floats, cluster: Ints, n_folds: int, seed: int) -> Floats | str:
    """Return each margin divided by the temperature fitted on the *other* folds, or why that cannot be."""
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

    The error of the fitted temperature is of second order, so it is in no influence. But where margins say
    little the losses of pairs vary little too, and it is as large as their standard error. So the lower end
    starts at the loss with the temperature fitted to *all* pairs, which is below that at the best one, and
    the upper end at the cross-fitted loss, which tends to be above it. In units of `design effect / P`,
    with S the score of 1/T, a standard normal, X its square and Y the sum of squares of its parts in K folds,

    - the temperature that was fitted is X / 2 better on its own pairs than the best one, so t^2 / 2 at most;
    - the cross-fitted loss is `K / (K - 1) (X - Y) + ((K - 2) X + Y) K / (K - 1)^2 / 2` above it, of which
      the 2.5% quantile is below 0.

    These are added to the distances to the ends as independent errors are, by their squares.

    Args:
        loss: Mean loss of the pairs with cross-fitted temperatures, with its own interval.
        fitted: Mean loss with the temperature of all pairs.
        curvature: Second derivative of the loss of each pair by log(1/T), at what is expected of the
            label, shape (P,).
        scaled: The forecasts with cross-fitted temperatures.
        n_folds: Most folds.

    Source: the expansion is that of Akaike 1974 and Takeuchi 1976, for cross-fitting; ends are put together
    as in Donner & Zou 2012, Statistical Methods in Medical Research 21 ("MOVER").
    """
    interval = loss.estimate().ci95
    if interval is None:
        return loss
    z = scaled.margin
    information = float(information_of(z).sum())
    if information == 0.0:
        return loss  # all are certain: no temperature near this one gives other forecasts
    unit = float(curvature.sum()) / information * design_effect(z, scaled.label, scaled.cluster, 1.0) / len(z)
    t2 = float(student_t.ppf(0.975, freedom_of(scaled.cluster))) ** 2
    below = unit * t2 * _least_excess(min(n_folds, len(np.unique(scaled.cluster))))
    low = min(fitted, loss.value) - np.hypot(loss.value - interval[0], 0.5 * t2 * unit)
    high = loss.value + np.hypot(interval[1] - loss.value, below)
    most = 1.0 if loss.bounded else np.inf
    return replace(loss, ci95=(max(0.0, float(low)), min(most, float(high))))


@lru_cache(maxsize=64)
def _least_excess(n_folds: int) -> float:
    """Return how far the cross-fitted loss can be below that at the best temperature (97.5%), over 1.96^2."""
    k = float(n_folds)
    parts = np.random.default_rng(0).standard_normal((_DRAWS, n_folds)) / np.sqrt(k)
    x, y = np.square(parts.sum(axis=1)), np.square(parts).sum(axis=1)
    excess = k / (k - 1) * (x - y) + ((k - 2) * x + y) * k / (k - 1) ** 2 / 2
    return max(0.0, -float(np.quantile(excess, 0.025))) / _NORMAL**2
