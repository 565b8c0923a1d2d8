"""The temperature that makes margins mean what they say: P(chosen) = sigma(margin / T)."""

import numpy as np
from scipy.optimize import brentq

from rmbench.stats import Statistic, cluster_sums
from rmbench.stats.clusters import Floats, Ints

_LARGEST = 1e4
"""Bound of the inverse temperature times the root mean square margin, from above; its inverse from below."""


def sigma(z: Floats) -> Floats:
    """Return the logistic function, shape of `z`, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))


def fit_temperature(margin: Floats, label: Floats, cluster: Ints, n_clusters: int) -> Statistic | str:
    """Return the temperature T of least cross-entropy of sigma(margin / T) against the labels.

    The loss is convex in 1/T. Where margins carry no information or point the wrong way, the best T is
    infinite; where they separate all pairs, it is 0: then T stands at its bound (1e4 times, or 1e-4 times,
    the root mean square margin), is good for scaling, and no estimate: see `named_bound`.

    Args:
        margin: Shape (P,), reward units.
        label: P(first is better), shape (P,), in [0, 1].
        cluster: Shape (P,).
        n_clusters: Clusters in the panel.

    Returns:
        T in reward units, its influence on the log scale; or the reason why none can be fitted.

    Source: Guo et al. 2017, "On calibration of modern neural networks", arXiv 1706.04599; the interval is
    that of an M-estimator (Huber's sandwich), clustered.
    """
    scale = float(np.sqrt(np.mean(np.square(margin)))) if len(margin) else 0.0
    if scale == 0.0:
        return "every margin is 0"
    z = margin / scale

    def gradient(inverse: float) -> float:
        return float(((sigma(inverse * z) - label) * z).sum())

    low, high = 1.0 / _LARGEST, _LARGEST
    present = len(np.unique(cluster))
    if gradient(low) >= 0.0:
        return _at_bound(scale / low, len(margin), present, "infinite")
    if gradient(high) <= 0.0:
        return _at_bound(scale / high, len(margin), present, "zero")
    inverse = float(brentq(gradient, low, high, xtol=1e-12, rtol=1e-12))
    p = sigma(inverse * z)
    hessian = float((p * (1 - p) * z * z).sum())
    score = cluster_sums((p - label) * z, cluster, n_clusters)
    # d log(1/T) = -score / hessian / inverse, hence the sign of d log T.
    return Statistic(
        value=scale / inverse,
        influence=score / hessian / inverse,
        n=len(margin),
        n_clusters=present,
        unit="reward",
        higher_is_better=None,
        log_scale=True,
    )


def named_bound(fit: Statistic) -> str | None:
    """Return in words what a fit at its bound means; None for a proper one."""
    if fit.influence is not None:
        return None
    return _BOUNDS[fit.unit]


_BOUNDS = {
    "infinite": "margins carry no information, or point the wrong way: the best temperature is infinite",
    "zero": "margins separate all pairs: the best temperature is 0",
}


def _at_bound(value: float, n: int, n_clusters: int, which: str) -> Statistic:
    return Statistic(
        value=value, influence=None, n=n, n_clusters=n_clusters, unit=which, higher_is_better=None
    )
