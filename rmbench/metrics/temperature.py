"""Temperature scaling of margins: P(chosen) = sigma(margin / T).

Margins are divided by a temperature that is fitted on other prompts. Intervals include the error of the fit.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.special import stdtrit

from rmbench.metrics.gaps import freedom_of
from rmbench.stats import Statistic, cluster_sums, shares
from rmbench.stats.clusters import Floats, Ints

_LARGEST = 1e4
"""Upper bound of inverse temperature times root mean square margin; its inverse is the lower bound."""


def sigma(z: Floats) -> Floats:
    """Return the logistic function, shape of `z`, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))


def information_of(z: Floats) -> Floats:
    """Return the second derivative of the cross-entropy of sigma(k z) by k at k = 1, shape of `z`."""
    p = sigma(z)
    return np.asarray(np.square(z * np.sqrt(p * (1.0 - p))))


def fit_temperature(margin: Floats, label: Floats, cluster: Ints, n_clusters: int) -> Statistic | str:
    """Return the temperature T of least cross-entropy of sigma(margin / T) against the labels.

    The loss is convex in 1/T. If margins carry no information or point the wrong way, the best T is infinite;
    if they separate all pairs, it is 0. Then T is put at its bound (1e4 times, or 1e-4 times, the root mean
    square margin) and is not an estimate (see `named_bound`), but its interval is valid.

    The interval inverts the likelihood ratio of 1/T, divided by the design effect (the clustered variance of
    the score over the variance under the model), against Student's t. It is `(low, inf)` if 1/T = 0 is
    inside, and None below two prompts.

    Args:
        margin: Shape (P,), reward units.
        label: P(first is better), shape (P,), in [0, 1].
        cluster: Shape (P,).
        n_clusters: Clusters in the panel.

    Returns:
        T in reward units, its influence on the log scale; or the reason why none can be fitted.

    Source: Guo et al. 2017, "On calibration of modern neural networks", arXiv 1706.04599. The interval: Rao &
    Scott 1984, Annals of Statistics 12, likelihood ratios under clustering.
    """
    scale = float(np.sqrt(np.mean(np.square(margin)))) if len(margin) else 0.0
    if scale == 0.0:
        return "every margin is 0"
    z = margin / scale

    def gradient(inverse: float) -> float:
        return float(((sigma(inverse * z) - label) * z).sum())

    low, high = 1.0 / _LARGEST, _LARGEST
    fit = Statistic(
        value=math.nan,
        influence=None,
        n=len(margin),
        n_clusters=len(np.unique(cluster)),
        higher_is_better=None,
        ci95=_interval(z, label, cluster, gradient, scale),
    )
    if gradient(low) >= 0.0:
        return replace(fit, value=scale / low, unit="infinite")
    if gradient(high) <= 0.0:
        return replace(fit, value=scale / high, unit="zero")
    inverse = _root(gradient, low, high)
    hessian = float(information_of(inverse * z).sum()) / inverse**2
    score = cluster_sums((sigma(inverse * z) - label) * z, cluster, n_clusters)
    # d log(1/T) = -score / hessian / inverse, hence the sign of d log T.
    influence = score / hessian / inverse
    return replace(
        fit,
        value=scale / inverse,
        influence=influence,
        share=shares(cluster, n_clusters),
        unit="reward",
        log_scale=True,
    )


def _root(f: Callable[[float], float], low: float, high: float, xtol: float = 1e-12) -> float:
    """Return the root of a function that changes sign between `low` and `high`."""
    from scipy.optimize import brentq  # a slow import that most commands do without

    return float(brentq(f, low, high, xtol=xtol, rtol=1e-12))


def steady_temperature(margin: Floats, label: Floats, cluster: Ints) -> float | str:
    """Return a temperature for *other* margins: that of least cross-entropy, regularised.

    Few pairs may all be right by chance; the best T is then 0, and one wrong pair among the others costs
    arbitrarily many nats. So the fit has an extra prompt, with as many pairs as the mean prompt, each with
    the median |margin| and a label of 1/2. With C prompts its weight is 1 / (C + 1).

    Returns:
        T in reward units; or the reason why none can be fitted.
    """
    scale = float(np.sqrt(np.mean(np.square(margin)))) if len(margin) else 0.0
    if scale == 0.0:
        return "every margin is 0"
    z = margin / scale
    return scale / _steady_inverse(z, label, len(np.unique(cluster)))


def _steady_inverse(z: Floats, label: Floats, n_clusters: int) -> float:
    typical = float(np.median(np.abs(z[z != 0.0])))
    weight = len(z) / n_clusters

    def gradient(inverse: float) -> float:
        held = float(sigma(np.asarray(inverse * typical))) - 0.5
        return float(((sigma(inverse * z) - label) * z).sum()) + weight * held * typical

    low, high = 1.0 / _LARGEST, _LARGEST
    if gradient(low) >= 0.0:
        return low
    return high if gradient(high) <= 0.0 else _root(gradient, low, high)


def design_effect(z: Floats, label: Floats, cluster: Ints, inverse: float) -> float:
    """Return the clustered variance of the score of 1/T, over its variance under the model's labels.

    It is at least the ratio for independent pairs, which is 1 for labels of 0 or 1.

    Args:
        z: Margins, shape (P,).
        label: Shape (P,).
        cluster: Shape (P,), at least two prompts.
        inverse: 1/T, in units of 1/z.
    """
    residual = (sigma(inverse * z) - label) * z
    expected = float(information_of(inverse * z).sum()) / inverse**2
    if expected == 0.0:
        return 1.0
    c = len(np.unique(cluster))
    clustered = c / (c - 1) * float(np.square(np.bincount(cluster, residual)).sum())
    soft = bool(((label > 0.0) & (label < 1.0)).any())
    least = c / (c - 1) * float(np.square(residual).sum()) / expected if soft else 1.0
    return max(clustered / expected, least)


def _interval(
    z: Floats, label: Floats, cluster: Ints, gradient: Callable[[float], float], scale: float
) -> tuple[float, float] | None:
    """Return the interval of T; (inf, inf) where no positive 1/T is compatible."""
    present = len(np.unique(cluster))
    if present < 2:
        return None

    def loss(inverse: float) -> float:
        return float((np.logaddexp(0.0, -inverse * z) + (1.0 - label) * inverse * z).sum())

    # The best 1/T of either sign: margins may point the wrong way by chance.
    if gradient(-_LARGEST) >= 0.0:
        best = -_LARGEST
    elif gradient(_LARGEST) <= 0.0:
        best = _LARGEST
    else:
        best = _root(gradient, -_LARGEST, _LARGEST)
    effect = design_effect(z, label, cluster, _steady_inverse(z, label, present))
    most = loss(best) + 0.5 * effect * float(stdtrit(freedom_of(cluster), 0.975)) ** 2

    def beyond(inverse: float) -> float:
        return loss(inverse) - most

    def end(bound: float) -> float:
        return bound if beyond(bound) <= 0.0 else _root(beyond, best, bound, 2e-12)

    low, high = end(-_LARGEST) if best > -_LARGEST else best, end(_LARGEST)
    if high <= 0.0:
        return math.inf, math.inf
    return (
        scale / high if high < _LARGEST else 0.0,
        scale / low if low > 0.0 else math.inf,
    )


def named_bound(fit: Statistic) -> str | None:
    """Return an explanation of a fit at its bound, with its interval; None for a regular fit."""
    if fit.influence is not None:
        return None
    said = _BOUNDS[fit.unit]
    if fit.ci95 is None:
        return said
    low, high = fit.ci95
    if math.isinf(low):
        return f"{said}; no positive temperature is within its 95% interval"
    if low > 0.0:
        return f"{said}; it is at least {low:.3g} (95% interval)"
    if math.isfinite(high):
        return f"{said}; it is at most {high:.3g} (95% interval)"
    return f"{said}; its 95% interval holds every temperature"


_BOUNDS = {
    "infinite": "margins carry no information, or point the wrong way: the best temperature is infinite",
    "zero": "margins separate all pairs: the best temperature is 0",
}
