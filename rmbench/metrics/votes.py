"""Annotators' votes: their agreement, Krippendorff's alpha, and a model's accuracy as a share of the ceiling.

An annotator prefers the first response, the second, or neither. Agreement describes the data, not a model.
"""

from dataclasses import replace

import numpy as np

from rmbench.metrics.ceiling import Votes, ceiling_of, share_of_ceiling
from rmbench.metrics.panel import Pairs, Panel
from rmbench.stats import Statistic, cluster_sums, mean
from rmbench.stats.clusters import Floats, Ints

AGREEMENT = ("annotator_agreement", "annotator_alpha")


def measure_annotators(panel: Panel) -> tuple[dict[str, Statistic], dict[str, str]]:
    """Return the agreement of a panel's votes, or the reasons for no value; both are empty without votes."""
    if panel.votes is None or not panel.votes.any():
        return {}, {}
    several = panel.votes.sum(axis=1) >= 2
    if not several.any():
        return {}, dict.fromkeys(AGREEMENT, "no pair has two votes")
    votes, cluster = panel.votes[several], panel.cluster[several]
    agreement = pairwise_agreement(votes, cluster, panel.n_clusters)
    alpha = krippendorff_alpha(votes, cluster, panel.n_clusters, either_order=True)
    if isinstance(alpha, str):
        return {AGREEMENT[0]: agreement}, {AGREEMENT[1]: alpha}
    if alpha.stderr is not None and alpha.stderr < 1e-12 and (ends := agreement.interval()) is not None:
        # All annotators agree: alpha is a scale of the agreement, whose interval is known.
        off = (1.0 - ends[0]) / _expected_disagreement(_in_either_order(votes))
        alpha = replace(alpha, ci95=(alpha.value - off, alpha.value))
    return {AGREEMENT[0]: agreement, AGREEMENT[1]: alpha}, {}


def pairwise_agreement(votes: Ints, cluster: Ints, n_clusters: int) -> Statistic:
    """Return the probability that two random annotators of a pair give the same answer.

    It is the mean over pairs; each pair counts once, for any number of annotators.

    Args:
        votes: Annotators per pair and answer, shape (U, c), two or more in each row.
        cluster: Of each pair, shape (U,).
        n_clusters: Number of clusters.
    """
    total = votes.sum(axis=1)
    same = (votes * (votes - 1)).sum(axis=1) / (total * (total - 1))
    return mean(same, cluster, n_clusters, bounded=True, higher_is_better=None)


def krippendorff_alpha(
    votes: Ints, cluster: Ints, n_clusters: int, *, either_order: bool = False
) -> Statistic | str:
    """Return Krippendorff's alpha for unordered answers: 1 - observed / expected disagreement.

    It is 1 if all agree, and 0 if annotators agree as often as random answers of all pairs would.

    Args:
        votes: Annotators per pair and answer, shape (U, c), two or more in each row.
        cluster: Cluster of each pair, shape (U,).
        n_clusters: Number of clusters.
        either_order: True if the order of the first two answers is arbitrary: both are then expected equally
            often. Otherwise data that shows the better response first would look unreliable.

    Returns:
        Alpha with its influence per cluster (to first order in the number of votes), or the reason for no
        value.

    Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability".
    """
    per_pair = votes.sum(axis=1)
    n = float(per_pair.sum())
    expected_of = _in_either_order(votes) if either_order else votes.astype(np.float64)
    expected = _expected_disagreement(expected_of)
    if expected == 0.0:
        return "all annotators gave one and the same answer to every pair"
    differing = (per_pair**2 - np.square(votes).sum(axis=1)) / (per_pair - 1)
    observed = float(differing.sum()) / n
    size = cluster_sums(per_pair.astype(np.float64), cluster, n_clusters)
    of_observed = (cluster_sums(differing, cluster, n_clusters) - observed * size) / n
    frequency = expected_of.sum(axis=0) / n
    counted = np.stack([cluster_sums(column, cluster, n_clusters) for column in expected_of.T], axis=1)
    of_expected = -2.0 * ((counted - frequency * size[:, None]) @ frequency) / (n - 1.0)
    return Statistic(
        value=1.0 - observed / expected,
        influence=-of_observed / expected + observed / expected**2 * of_expected,
        share=size / n,
        n=len(votes),
        n_clusters=int(np.count_nonzero(size)),
        unit="alpha",
        higher_is_better=None,
        limits=(-1.0, 1.0),
    )


def _in_either_order(votes: Ints) -> Floats:
    half = (votes[:, :1] + votes[:, 1:2]) / 2.0
    return np.concatenate([half, half, votes[:, 2:]], axis=1)


def _expected_disagreement(votes: Floats) -> float:
    """Return the probability that two of all answers, drawn without replacement, differ."""
    n_of = votes.sum(axis=0)
    n = float(n_of.sum())
    return float(n * n - np.square(n_of).sum()) / (n * (n - 1.0))


NAMES = ("ceiling", "ceiling_low", "ceiling_high", "accuracy_of_ceiling")

Told = tuple[dict[str, Statistic], dict[str, str]]
"""Metrics, and the reasons why others have no value."""


def measure_votes(panel: Panel, pairs: Pairs, credit: Floats) -> Told:
    """Return the metrics of a panel's votes; empty without votes.

    Args:
        panel: Items and rewards, with votes or without.
        pairs: Pairs of it.
        credit: Credit of each pair, shape (P,).
    """
    if panel.votes is None or not panel.votes.any():
        return {}, {}
    metrics, undefined = measure_annotators(panel)
    found, reasons = _measure_ceiling(panel, pairs, credit)
    return {**metrics, **found}, {**undefined, **reasons}


def _measure_ceiling(panel: Panel, pairs: Pairs, credit: Floats) -> Told:
    """Return the ceiling and the share of it, on pairs whose gold and votes are known."""
    if panel.votes is None:
        return {}, {}
    voted = np.flatnonzero((panel.sizes == 2) & panel.votes.any(axis=1))
    start = panel.offsets[voted]
    voted, start = (
        a[np.isfinite(panel.gold[start]) & np.isfinite(panel.gold[start + 1])] for a in (voted, start)
    )
    order = np.sign(panel.gold[start] - panel.gold[start + 1])
    first, second = panel.votes[voted, 0], panel.votes[voted, 1]
    if other := int((order != np.sign(first - second)).sum()):
        why = f"gold is not the majority of the votes in {other:,} of {len(voted):,} pairs"
        return {}, dict.fromkeys(NAMES, why)
    decided = first + second > 0
    item = voted[decided]
    votes = Votes(first[decided], second[decided], panel.cluster[item], panel.n_clusters)
    ceiling = ceiling_of(votes)
    if isinstance(ceiling, str):
        return {}, dict.fromkeys(NAMES, ceiling)
    there = np.isin(pairs.item, item)
    accuracy = mean(credit[there], pairs.cluster[there], panel.n_clusters, bounded=True)
    return {
        "ceiling": ceiling.value,
        "ceiling_low": ceiling.low,
        "ceiling_high": ceiling.high,
        "accuracy_of_ceiling": share_of_ceiling(accuracy, ceiling),
    }, {}
