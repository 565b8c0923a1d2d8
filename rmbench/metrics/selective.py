"""Is a large margin a right margin? AUROC of |margin| for correctness, and the risk-coverage curve."""

import numpy as np

from rmbench.stats import Statistic, cluster_sums, grouped_jackknife, shares
from rmbench.stats.clusters import Floats, Ints

_LEFT_OUT_IN_TURN = 50


def _credit(margin: Floats) -> Floats:
    return np.asarray((margin > 0) + 0.5 * (margin == 0))


def area_under_roc(score: Floats, right: Floats, cluster: Ints, n_clusters: int) -> Statistic | None:
    """Return P(a right observation has a higher score than a wrong one), ties half; None without both.

    Args:
        score: Shape (n,).
        right: How far each observation is a right one, in [0, 1], shape (n,); the rest of it is a wrong one.
        cluster: Shape (n,).
        n_clusters: Clusters in the panel.

    Returns:
        The area with the influence of DeLong's placement values.

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
    return Statistic(
        value=value,
        influence=cluster_sums(of_right + of_wrong, cluster, n_clusters),
        share=shares(cluster, n_clusters),
        n=len(score),
        n_clusters=len(np.unique(cluster)),
        bounded=True,
    )


def auroc_of_margin(margin: Floats, cluster: Ints, n_clusters: int) -> Statistic | str:
    """Return P(a right pair has a larger |margin| than a wrong one), ties half; or why it is undefined.

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

    Pairs of equal |margin| share their places. Lower is better; random order gives the error rate. A few
    pairs at the head of the order weigh so much that, up to 50 prompts, the influence is that of leaving
    each prompt out in turn: the derivative is too small there.

    Source: El-Yaniv & Wiener 2010; Geifman & El-Yaniv 2017, arXiv 1705.08500.
    """
    value, influence = _risk_coverage(margin)
    present = len(np.unique(cluster))
    share: Floats | None = shares(cluster, n_clusters)
    summed = cluster_sums(influence, cluster, n_clusters)
    if 2 <= present <= _LEFT_OUT_IN_TURN:
        summed, _ = grouped_jackknife(
            lambda keep: _risk_coverage(margin[keep])[0], cluster, n_clusters, seed=0, n_groups=present
        )
        share = None  # leaving a large prompt out has made up for its leverage
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
