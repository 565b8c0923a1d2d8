"""Margins: their distribution (the analysis of arXiv 2404.04932), and their correlation with graded strength.

AUROC of |margin| for correctness and the risk-coverage curve show if large margins are right more often.
"""

from collections.abc import Iterator
from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from rmbench.metrics.panel import Pairs
from rmbench.stats import (
    Statistic,
    cluster_sums,
    jackknife_groups,
    jackknife_influence,
    mean,
    shares,
    t_interval,
    wilson_interval,
)
from rmbench.stats.clusters import Floats, Ints, Stratum
from rmbench.stats.rank_correlation import kendall_tau, spearman_rho
from rmbench.types import Estimate

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)

_FEWEST_FOR_MEDIAN = 6


def too_large(margin: Floats) -> str | None:
    """Return the reason why margins (P,) have no calibration if their squares overflow; else None."""
    with np.errstate(over="ignore"):
        if np.isfinite(np.square(margin).sum()):
            return None
    return f"margins of up to {np.abs(margin).max():.3g} are too large to compute with"


def margin_metrics(pairs: Pairs, n_clusters: int) -> dict[str, Statistic]:
    """Return mean and median of chosen minus rejected (reward units), and the share of negative ones."""
    negative = (pairs.margin < 0).astype(np.float64)
    return {
        "margin_mean": mean(pairs.margin, pairs.cluster, n_clusters, unit="reward", higher_is_better=None),
        "margin_median": _median(pairs, n_clusters),
        "share_negative": mean(negative, pairs.cluster, n_clusters, bounded=True, higher_is_better=False),
    }


def _median(pairs: Pairs, n_clusters: int) -> Statistic:
    """Return the median margin with Woodruff's interval: the inverted interval of P(margin <= median).

    The interval is None below six prompts: then even the range of the margins holds the true median less
    than 95% of the time. If more than half of all margins are equal beyond doubt, it is that one value.

    Source: Woodruff 1952, JASA 47, "Confidence intervals for medians and other position measures".
    """
    value = float(np.median(pairs.margin))
    # Many equal margins are all on one side: the error is that of the share below, or up to, the median.
    below = max(
        (
            mean(side.astype(np.float64), pairs.cluster, n_clusters, bounded=True)
            for side in (pairs.margin < value, pairs.margin <= value)
        ),
        key=lambda share: share.stderr or 0.0,
    )
    interval = None
    if below.stderr is not None and below.freedom is not None and below.n_clusters >= _FEWEST_FOR_MEDIAN:
        low, high = t_interval(0.5, below.stderr, below.freedom)
        quantiles = np.quantile(pairs.margin, np.clip([low, high], 0.0, 1.0), method="inverted_cdf")
        interval = (float(quantiles[0]), float(quantiles[1]))
    return Statistic(
        value=value,
        influence=None,
        n=len(pairs),
        n_clusters=below.n_clusters,
        unit="reward",
        higher_is_better=None,
        ci95=interval,
    )


def strength_metrics(pairs: Pairs, n_clusters: int, seed: int) -> dict[str, Statistic | str]:
    """Return Kendall's tau-b and Spearman's rho between margin and strength, chosen minus rejected.

    Strength is the difference of gold, if gold is more than a label. Intervals are by the delete-a-group
    jackknife over clusters, on Fisher's scale, so inside [-1, 1].
    """
    names = {"kendall_tau": kendall_tau, "spearman": spearman_rho}
    graded = np.isfinite(pairs.strength)
    margin, strength, cluster = pairs.margin[graded], pairs.strength[graded], pairs.cluster[graded]
    if len(strength) == 0:
        return dict.fromkeys(names, "gold is a label without strength")
    if np.ptp(strength) == 0.0:
        return dict.fromkeys(names, "every pair has the same strength")
    if np.ptp(margin) == 0.0:
        return dict.fromkeys(names, "every pair has the same margin")
    if len(np.unique(cluster)) < 3:
        return dict.fromkeys(names, "fewer than three prompts")
    found: dict[str, Statistic | str] = {}
    n_groups = 100 if len(margin) < 10_000 else 30
    group, n_groups = jackknife_groups(cluster, seed=seed, n_groups=n_groups)
    for name, coefficient in names.items():
        value, left_out = coefficient(margin, strength, group, n_groups)
        if not np.isfinite(value) or not np.isfinite(left_out).all():
            found[name] = "constant margin or strength once a few prompts are left out"
            continue
        statistic = Statistic(
            value=value,
            influence=jackknife_influence(left_out, group, cluster, n_clusters),
            n=len(margin),
            n_clusters=len(np.unique(cluster)),
            n_groups=n_groups,
            unit="correlation",
        )
        found[name] = replace(statistic, ci95=_correlation_interval(statistic))
    return found


def _correlation_interval(statistic: Statistic) -> tuple[float, float]:
    """Return the 95% interval of a correlation: Student's for its inverse hyperbolic tangent, inverted.

    If all pairs agree, or all disagree, no error is known. With G groups in the jackknife, an unobserved
    share of up to `u = 1 - 0.025^(1/G)` may disagree with all: tau is then `1 - 4 u + 2 u^2`.

    Source: Fisher 1921, Metron 1; Bonett & Wright 2000, Psychometrika 65, for rank correlations.
    """
    value, stderr, g = statistic.value, statistic.stderr or 0.0, statistic.n_groups or statistic.n_clusters
    rest = 1.0 - value * value
    if rest < 1e-12:
        unseen = 1.0 - 0.025 ** (1.0 / g)
        furthest = max(-1.0, 1.0 - 4.0 * unseen + 2.0 * unseen**2)
        return (min(furthest, value), 1.0) if value > 0 else (-1.0, max(-furthest, value))
    centre, half = float(np.arctanh(value)), float(stdtrit(g - 1, 0.975)) * stderr / rest
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


def tenths(
    values: Floats, credit: Floats, pairs: Pairs, n_clusters: int
) -> Iterator[tuple[NDArray[np.bool_], Estimate]]:
    """Yield (pairs, accuracy) of each tenth of `values` (P,), lowest first; equal values share a tenth."""
    edges = np.unique(np.quantile(values, np.arange(1, 10) / 10, method="higher"))
    tenth = np.searchsorted(edges, values, side="right")
    for k in np.unique(tenth):
        here = tenth == k
        yield here, mean(credit[here], pairs.cluster[here], n_clusters, bounded=True).estimate()


def deciles(pairs: Pairs, n_clusters: int) -> dict[str, Any]:
    """Return quantiles of the margin, and the accuracy within each tenth of |margin| (smallest first)."""
    size = np.abs(pairs.margin)
    credit = (pairs.margin > 0) + 0.5 * (pairs.margin == 0)
    rows = [
        {
            "margin_from": float(size[here].min()),
            "margin_to": float(size[here].max()),
            "n": int(here.sum()),
            "accuracy": estimate.value,
            "ci95": list(estimate.ci95) if estimate.ci95 else None,
        }
        for here, estimate in tenths(size, credit, pairs, n_clusters)
    ]
    values = np.quantile(pairs.margin, QUANTILES)
    return {
        "margin_deciles": rows,
        "margin_quantiles": {f"{q:g}": float(v) for q, v in zip(QUANTILES, values, strict=True)},
    }


_LEFT_OUT_IN_TURN = 50
_FEW = 30.0
"""With fewer right (or wrong) observations than this, DeLong's variance is too small by chance."""


def _credit(margin: Floats) -> Floats:
    return np.asarray((margin > 0) + 0.5 * (margin == 0))


def area_under_roc(score: Floats, right: Floats, cluster: Ints, n_clusters: int) -> Statistic | None:
    """Return P(a right observation has a higher score than a wrong one), ties half; None without both.

    Args:
        score: Shape (n,).
        right: Part of each observation that is right, in [0, 1], shape (n,); the rest of it is wrong.
        cluster: Shape (n,).
        n_clusters: Clusters in the panel.

    Returns:
        The area with the influence of DeLong's placement values. If fewer than 30 observations are right, or
        wrong, DeLong's variance is too small: a single wrong one has one place, which does not vary. The
        interval then uses the variance of `_size_by_shape`, if that is larger.

    Source: DeLong et al. 1988; clustered as Obuchowski 1997.
    """
    wrong = 1.0 - right
    if right.sum() == 0.0 or wrong.sum() == 0.0:
        return None
    _, level = np.unique(score, return_inverse=True)
    level = level.reshape(-1)
    right_at, wrong_at = np.bincount(level, right), np.bincount(level, wrong)
    wrong_below = np.cumsum(wrong_at) - 0.5 * wrong_at
    right_above = right.sum() - np.cumsum(right_at) + 0.5 * right_at
    value = float((right_at * wrong_below).sum() / right.sum() / wrong.sum())
    of_right = right * (wrong_below[level] / wrong.sum() - value) / right.sum()
    of_wrong = wrong * (right_above[level] / right.sum() - value) / wrong.sum()
    each = of_right + of_wrong
    # Right and wrong observations are two samples: the smaller one decides how well the error is known.
    sides = [
        _side(side, effect, value, cluster, n_clusters)
        for side, effect in ((right, of_right), (wrong, of_wrong))
    ]
    found = Statistic(
        value=value,
        influence=cluster_sums(each, cluster, n_clusters),
        strata=tuple(sides),
        n=len(score),
        n_clusters=len(np.unique(cluster)),
        bounded=True,
    )
    n_right, n_wrong = float(right.sum()), float(wrong.sum())
    if min(n_right, n_wrong) >= _FEW or found.influence is None:
        return found
    alone = float(np.square(each).sum())
    effect = max(1.0, float(np.square(found.influence).sum()) / alone) if alone > 0.0 else 1.0
    return replace(found, ci95=_interval_of_few(found, _size_by_shape(value, n_right, n_wrong) / effect))


def _side(weight: Floats, effect: Floats, value: float, cluster: Ints, n_clusters: int) -> Stratum:
    """Return the right or the wrong observations, weights (n,) and effects on the area (n,), as a stratum."""
    share = cluster_sums(weight, cluster, n_clusters) / float(weight.sum())
    index = np.flatnonzero(share)
    return Stratum(index, cluster_sums(effect, cluster, n_clusters)[index], share[index], 1.0, value)


def _size_by_shape(area: float, n_right: float, n_wrong: float) -> float:
    """Return the number of right-or-wrong observations whose share has the variance of an area.

    The variance is that of exponential scores: it depends on the area and on both numbers only.

    Source: Hanley & McNeil 1982, Radiology 143(1), with both numbers replaced by their mean as in Newcombe
    2006, Stat. Med. 25(4), method 5.
    """
    n = (n_right + n_wrong) / 2.0
    return n_right * n_wrong / (2.0 * n - 1.0 - (3.0 * n - 3.0) / ((2.0 - area) * (1.0 + area)))


def _interval_of_few(area: Statistic, size: float) -> tuple[float, float] | None:
    """Return Wilson's interval at `size` observations, or at as few as the area's own error implies."""
    if area.stderr is None or area.freedom is None:
        return None
    spread = area.value * (1.0 - area.value)
    if spread <= 1e-12:
        return wilson_interval(area.value, 0.0, max(1.0, size - 1.0))
    return wilson_interval(area.value, max(area.stderr, sqrt(spread / size)), area.freedom)


def auroc_of_margin(margin: Floats, cluster: Ints, n_clusters: int) -> Statistic | str:
    """Return P(a right pair has a larger |margin| than a wrong one), ties half; or the reason for no value.

    A tied pair (margin 0) counts as half right and half wrong.

    Args:
        margin: Reward of chosen minus rejected, shape (P,).
        cluster: Shape (P,).
        n_clusters: Clusters in the panel.
    """
    right = _credit(margin)
    found = area_under_roc(np.abs(margin), right, cluster, n_clusters)
    return found or ("all pairs are right" if right.all() else "all pairs are wrong")


def area_under_risk_coverage(margin: Floats, cluster: Ints, n_clusters: int) -> Statistic:
    """Return the mean, over coverages 1/P to 1, of the error rate among the pairs with the largest |margin|.

    Pairs of equal |margin| share their places. Lower is better; random order gives the error rate. The first
    few pairs of the order have large weights, and the derivative is too small there. So, up to 50 prompts,
    the influence comes from leaving each prompt out in turn.

    Source: El-Yaniv & Wiener 2010; Geifman & El-Yaniv 2017, arXiv 1705.08500.
    """
    value, influence = _risk_coverage(margin)
    present = len(np.unique(cluster))
    share: Floats | None = shares(cluster, n_clusters)
    summed = cluster_sums(influence, cluster, n_clusters)
    if 2 <= present <= _LEFT_OUT_IN_TURN:
        group, n = jackknife_groups(cluster, seed=0, n_groups=present)
        without = np.array([_risk_coverage(margin[group != g])[0] for g in range(n)])
        summed = jackknife_influence(without, group, cluster, n_clusters)
        share = None  # leaving a large prompt out already accounts for its leverage
    return Statistic(
        value=value,
        influence=summed,
        share=share,
        n=len(margin),
        n_clusters=present,
        higher_is_better=False,
        bounded=True,
    )


def _risk_coverage(margin: Floats) -> tuple[float, Floats]:
    """Return the area and its derivative by the weight of each pair, shape (P,)."""
    loss = 1.0 - _credit(margin)
    n = len(margin)
    _, level = np.unique(-np.abs(margin), return_inverse=True)
    level = level.reshape(-1)
    at = np.bincount(level)
    last = np.cumsum(at)
    # place[r] = H_n - H_{r-1}: how often the r-th pair is inside the covered part, weighted by 1/size.
    place = np.cumsum((1.0 / np.arange(1, n + 1))[::-1])[::-1]
    cumulative = np.concatenate([[0.0], np.cumsum(place)])
    shared = (cumulative[last] - cumulative[last - at]) / at
    value = min(1.0, float((loss * shared[level]).mean()))  # a sum of shares may round to above 1
    # A pair also thickens the coverage of every pair with a smaller |margin|: the second term.
    loss_at = np.bincount(level, loss)
    coverage = last / n
    behind = loss_at / coverage / n
    thickening = np.cumsum(behind[::-1])[::-1]
    influence = (loss * shared[level] - value - thickening[level] + loss.mean()) / n
    return value, influence - influence.mean()
