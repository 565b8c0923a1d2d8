"""The margin distribution (the analysis of arXiv 2404.04932), and margins against graded strength."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr
from scipy.stats import t as student_t

from rmbench.metrics.pairs import Pairs
from rmbench.stats import Statistic, grouped_jackknife, mean, t_interval
from rmbench.stats.clusters import Floats
from rmbench.types import Estimate

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)

_FEWEST_FOR_MEDIAN = 6


def too_large(margin: Floats) -> str | None:
    """Say why margins (P,) have no calibration if their squares overflow; None where they do not."""
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
    """Return the median margin with Woodruff's interval: that of P(margin <= median), turned back.

    None below six prompts: then even the range of what was seen holds the true median less than 95% of the
    time. Where more than half of all margins are equal beyond doubt, the interval is that one value.

    Source: Woodruff 1952, JASA 47, "Confidence intervals for medians and other position measures".
    """
    value = float(np.median(pairs.margin))
    # Of many equal margins all are on one side: the error is that of the share below, or up to, the median.
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

    Strength is the difference of gold, where gold is more than a label. Intervals by the delete-a-group
    jackknife over clusters, on Fisher's scale, so inside [-1, 1].
    """
    names = {"kendall_tau": _kendall, "spearman": _spearman}
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
    for name, coefficient in names.items():
        value = coefficient(margin, strength)
        influence, n_groups = grouped_jackknife(
            lambda keep, f=coefficient: f(margin[keep], strength[keep]),  # type: ignore[misc]
            cluster,
            n_clusters,
            seed=seed,
            n_groups=100 if len(margin) < 10_000 else 30,
        )
        if not np.isfinite(value) or not np.isfinite(influence).all():
            found[name] = "constant margin or strength once a few prompts are left out"
            continue
        statistic = Statistic(
            value=value, influence=influence, n=len(margin), n_clusters=n_groups, unit="correlation"
        )
        found[name] = replace(statistic, ci95=_correlation_interval(statistic))
    return found


def _correlation_interval(statistic: Statistic) -> tuple[float, float]:
    """Return the 95% interval of a correlation: Student's of its inverse hyperbolic tangent, turned back.

    Where all agree, or all disagree, no error is known. Then up to `u = 1 - 0.025^(1/C)` of the prompts may
    be other than the C that were seen, and in disagreement with all: that tau is `1 - 4 u + 2 u^2`.

    Source: Fisher 1921, Metron 1; Bonett & Wright 2000, Psychometrika 65, for rank correlations.
    """
    value, stderr, c = statistic.value, statistic.stderr or 0.0, statistic.n_clusters
    rest = 1.0 - value * value
    if rest < 1e-12:
        unseen = 1.0 - 0.025 ** (1.0 / c)
        furthest = max(-1.0, 1.0 - 4.0 * unseen + 2.0 * unseen**2)
        return (min(furthest, value), 1.0) if value > 0 else (-1.0, max(-furthest, value))
    centre, half = float(np.arctanh(value)), float(student_t.ppf(0.975, c - 1)) * stderr / rest
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


def _kendall(margin: Floats, strength: Floats) -> float:
    return float(kendalltau(margin, strength).statistic)


def _spearman(margin: Floats, strength: Floats) -> float:
    with warnings.catch_warnings():
        # A constant side has no correlation: the NaN is caught by the caller and named there.
        warnings.simplefilter("ignore")
        return float(spearmanr(margin, strength).statistic)


def tenths(
    values: Floats, credit: Floats, pairs: Pairs, n_clusters: int
) -> Iterator[tuple[NDArray[np.bool_], Estimate]]:
    """Yield (pairs, their accuracy) of each tenth of `values` (P,), from the lowest; equal ones share one."""
    edges = np.unique(np.quantile(values, np.arange(1, 10) / 10, method="higher"))
    tenth = np.searchsorted(edges, values, side="right")
    for k in np.unique(tenth):
        here = tenth == k
        yield here, mean(credit[here], pairs.cluster[here], n_clusters, bounded=True).estimate()


def deciles(pairs: Pairs, n_clusters: int) -> dict[str, Any]:
    """Return quantiles of the margin, and the accuracy within each tenth of |margin| (least sure first)."""
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
