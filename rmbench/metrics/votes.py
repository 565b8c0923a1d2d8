"""Annotators' votes: their reliability, the noise ceiling, and a model's accuracy as a share of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmbench.metrics.annotators import measure_annotators
from rmbench.metrics.ceiling import Votes, ceiling_of, share_of_ceiling
from rmbench.metrics.pairs import Pairs
from rmbench.metrics.panel import Panel
from rmbench.stats import Statistic, mean
from rmbench.stats.clusters import Floats

NAMES = ("ceiling", "ceiling_low", "ceiling_high", "accuracy_of_ceiling")

Told = tuple[dict[str, Statistic], dict[str, str]]
"""Metrics, and why others have no value."""


def measure_votes(panel: Panel, pairs: Pairs, credit: Floats, params: Mapping[str, Any]) -> Told:
    """Return the metrics of a panel's votes; none without votes, or where the short list is asked for.

    Args:
        panel: Items and rewards, with votes or without.
        pairs: Pairs of it.
        credit: Of each pair, shape (P,).
        params: `short` leaves all of it out.
    """
    if params.get("short") or panel.votes is None or not panel.votes.any():
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
