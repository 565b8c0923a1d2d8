"""Helpers of the official numbers: names, missing parts, the credit of a pair as published.

An official number follows a benchmark's own published definition to the digit, quirks included. The
parameters of the clean kinds do not change it. It is named `official`, its parts `official_<part>`.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rmbench.metrics.kinds import Kind, Measured, Metric, Params, register_kind
from rmbench.metrics.panel import Pairs, Panel, pairs_of, settle_invalid
from rmbench.stats import Statistic, combine, mean
from rmbench.stats.clusters import Floats, Ints

Parts = tuple[str, str, Sequence[str]]
"""Names for messages on missing parts: ("pair", "split", names of the splits)."""

HEADLINE = "official"

NO_JUDGES = "for rewards only: a pairwise model's verdicts are not kept one by one"
"""Reason why pairwise models have no number that needs each verdict of a judge."""


def part_name(part: str) -> str:
    """Return the metric's name of a published part: `official_chat_hard` for `Chat Hard`."""
    return f"{HEADLINE}_{re.sub(r'[^a-z0-9]+', '_', part.lower())}"


def official_kind(name: str, *parts: str) -> Callable[[Callable[[Panel, Any], Measured]], Kind]:
    """Register `measure(panel, params)` as an official kind; `official` and each part are its headlines."""
    metrics = [
        Metric(HEADLINE, "as the benchmark publishes it"),
        *(Metric(part_name(part)) for part in parts),
    ]
    return register_kind(name, convention="official", metrics=metrics)


def stop_at_invalid(panel: Panel, params: Params) -> None:
    """Raise for a reward that is not finite under `invalid=fail`.

    Under the other rules an official number treats it as published, which is neither `wrong` nor `drop`.

    Raises:
        ScoringError: If there is such a reward.
    """
    if params.invalid == "fail":
        settle_invalid(panel, "fail", ranking=True)


def stratum_of(panel: Panel, key: str) -> "np.ndarray[Any, np.dtype[np.object_]]":
    """Return the stratum of each item under `key`, shape (I,); an empty text without one."""
    return np.array(panel.strata.get(key, ("",) * panel.n_items), dtype=object)


def has_one_right(panel: Panel) -> bool:
    """Say whether each item has one right response (gold above 0.5) and at least one wrong one."""
    n_right = np.bincount(panel.item_of_row()[panel.gold > 0.5], minlength=panel.n_items)
    return bool(((n_right == 1) & (panel.sizes > 1)).all())


def strict_pairs(panel: Panel, tie: float = 0.0) -> tuple[Pairs, Floats]:
    """Return the pairs and the credit of each, shape (P,): `[c > r]`, and `tie` if neither is greater.

    A comparison with NaN is false, so an invalid reward gets `tie` too.
    """
    pairs = pairs_of(panel)
    undecided = ~(pairs.margin > 0) & ~(pairs.margin < 0)
    return pairs, np.where(undecided, tie, pairs.margin > 0).astype(np.float64)


def part_means(
    credit: Floats,
    cluster: Ints,
    n_clusters: int,
    part: "np.ndarray[Any, np.dtype[np.object_]]",
    parts: Parts,
) -> tuple[dict[str, Statistic], dict[str, str]]:
    """Return the mean of each published part by metric name, and the reasons of parts without observations.

    Args:
        credit: Credit of each observation, shape (P,).
        cluster: Cluster of each observation, shape (P,).
        n_clusters: Clusters of the panel.
        part: Part of each observation, shape (P,).
        parts: The words for an observation and for a part, and the parts' names.
    """
    observation, noun, names = parts
    metrics: dict[str, Statistic] = {}
    undefined: dict[str, str] = {}
    for name in names:
        here = part == name
        if here.any():
            metrics[part_name(name)] = mean(credit[here], cluster[here], n_clusters, bounded=True)
        else:
            undefined[part_name(name)] = f"no {observation} of the {noun} {name}"
    return metrics, undefined


def with_mean_of_parts(metrics: dict[str, Statistic], undefined: dict[str, str], what: str) -> Measured:
    """Return the parts after their unweighted mean; if a part is missing, there is no mean.

    Args:
        metrics: The parts with a value.
        undefined: The parts without a value, with reasons.
        what: A text for the parts, such as `seven splits`.
    """
    if undefined:
        return Measured(
            metrics, {}, undefined | {HEADLINE: f"the mean of {what}: {'; '.join(undefined.values())}"}
        )
    return Measured({HEADLINE: combine(list(metrics.values())), **metrics})


def nothing(panel: Panel) -> Statistic:
    """Return the 0 that a benchmark itself publishes for a part without items; it has no interval."""
    return Statistic(value=0.0, influence=np.zeros(panel.n_clusters), n=0, n_clusters=0, bounded=True)
