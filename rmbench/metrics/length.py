"""Length-controlled accuracy: what is left of the accuracy when neither response is longer."""

from typing import Any

import numpy as np

from rmbench.metrics.folds import folds_of
from rmbench.metrics.margins import tenths
from rmbench.metrics.pairs import Pairs
from rmbench.stats import Statistic, cluster_sums, mean
from rmbench.stats.clusters import Floats

_RIDGE = 1.0
"""Weight of the penalty 0.5 * slope**2, in observations: keeps the fit finite where length decides all."""


def length_controlled(
    pairs: Pairs, credit: Floats, n_clusters: int, *, seed: int, n_folds: int = 5
) -> Statistic | str:
    """Return the intercept-only prediction of a logistic regression of credit on length difference.

    The model is `P(correct) = sigma(a + b * tanh(d / sd(d)))`, d = characters of chosen minus rejected, with
    soft labels for ties. Fitted on the other folds (folds of clusters) and evaluated at d = 0, averaged with
    the folds' sizes as weights; unlike AlpacaEval's it needs no reference model and is defined on any data.

    Args:
        pairs: P pairs.
        credit: Correctness of each, shape (P,).
        n_clusters: Number of clusters in the panel.
        seed: Deals clusters into folds.
        n_folds: Number of folds, lowered to the number of clusters.

    Returns:
        The estimate, its influence that of the full fit; or the reason why there is none.

    Source: after Dubois et al. 2024, "Length-controlled AlpacaEval", arXiv 2404.04475, equation 2.
    """
    if len(np.unique(pairs.cluster)) < 2:
        return "fewer than two prompts"
    if credit.min() == credit.max():
        # Nothing varies, so nothing depends on length; a fit would need invented observations.
        return mean(credit, pairs.cluster, n_clusters, bounded=True)
    spread = float(pairs.length_difference.std())
    if spread == 0.0:
        return "every pair has the same length difference"
    length = np.tanh(pairs.length_difference / spread)
    fold = folds_of(pairs.cluster, n_folds, seed)
    value = 0.0
    for k in range(int(fold.max()) + 1):
        held_out = fold == k
        intercept, _ = _fit(length[~held_out], credit[~held_out])
        value += held_out.mean() * _sigma(intercept)
    intercept, slope = _fit(length, credit)
    p = _sigma(intercept + slope * length)
    design = np.stack([np.ones_like(length), length], axis=1)
    hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag([0.0, _RIDGE])
    solved = np.linalg.solve(hessian, np.array([1.0, 0.0]))
    at_zero = float(_sigma(intercept))
    effect = at_zero * (1 - at_zero) * (credit - p) * (design @ solved)
    return Statistic(
        value=float(value),
        influence=cluster_sums(effect, pairs.cluster, n_clusters),
        n=len(pairs),
        n_clusters=len(np.unique(pairs.cluster)),
        bounded=True,
    )


def _fit(length: Floats, credit: Floats) -> tuple[float, float]:
    """Return (intercept, slope) of the penalised maximum likelihood, by Newton's method with halving."""
    design = np.stack([np.ones_like(length), length], axis=1)
    # A fold that is all right or all wrong has no finite intercept: half an observation of each keeps it so.
    credit = (credit * len(credit) + 0.5) / (len(credit) + 1.0) if credit.min() == credit.max() else credit
    penalty = np.array([0.0, _RIDGE])

    def loss(w: Floats) -> float:
        z = design @ w
        return float((np.logaddexp(0.0, z) - credit * z).sum() + 0.5 * (penalty * w * w).sum())

    weights = np.zeros(2)
    for _ in range(100):
        p = _sigma(design @ weights)
        gradient = design.T @ (p - credit) + penalty * weights
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty) + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        # Near the optimum the loss is flat to its last bits: halving there would keep whole digits of the
        # weights at the mercy of the processor.
        scale, before = 1.0, loss(weights)
        before += 1e-9 * (1.0 + abs(before))
        while loss(weights - scale * step) > before and scale > 1e-6:
            scale /= 2
        weights = weights - scale * step
        if float(np.abs(scale * step).max()) < 1e-10:
            break
    return float(weights[0]), float(weights[1])


def _sigma(z: Floats | float) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(z))))


def accuracy_by_length(pairs: Pairs, credit: Floats, n_clusters: int) -> list[dict[str, Any]]:
    """Return the accuracy within each tenth of the length difference, chosen minus rejected, characters.

    Where length plays no part it is the same in all; where longer means better to the model, it rises.
    """
    length = pairs.length_difference
    return [
        {
            "length_median": float(np.median(length[here])),
            "n": int(here.sum()),
            "accuracy": estimate.value,
            "ci95": list(estimate.ci95) if estimate.ci95 else None,
        }
        for here, estimate in tenths(length, credit, pairs, n_clusters)
    ]
