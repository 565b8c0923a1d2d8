"""What the official numbers share: names, parts that are empty, credit of a pair as published.

An official number follows a benchmark's own published definition to the digit, quirks included, whatever the
parameters of the clean one are. It is named `official`, its parts `official_<part>`, whatever the benchmark.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rmbench.metrics.pairs import Pairs, pairs_of
from rmbench.metrics.panel import Panel, settle_invalid
from rmbench.stats import Statistic
from rmbench.stats.estimates import Floats

HEADLINE = "official"

NO_JUDGES = "for rewards only: a pairwise model's verdicts are not kept one by one"
"""Why a number that rests on each verdict of a judge is not given for pairwise models."""


def part_name(part: str) -> str:
    """Return the metric's name of a published part: `official_chat_hard` for `Chat Hard`."""
    return f"{HEADLINE}_{re.sub(r'[^a-z0-9]+', '_', part.lower())}"


def stop_at_invalid(panel: Panel, params: Mapping[str, Any]) -> None:
    """Raise for a reward that is not finite under `invalid=fail`.

    Under the other rules an official number treats it as published, which is neither `wrong` nor `drop`.

    Raises:
        ScoringError: If there is one.
    """
    if str(params.get("invalid", "fail")) == "fail":
        settle_invalid(panel, "fail", ranking=True)


def stratum_of(panel: Panel, key: str) -> "np.ndarray[Any, np.dtype[np.str_]]":
    """Return the stratum of each item under `key`, shape (I,); empty text where it has none."""
    return np.array(panel.strata.get(key, ("",) * panel.n_items), dtype=str)


def strict_pairs(panel: Panel, tie: float = 0.0) -> tuple[Pairs, Floats]:
    """Return the pairs and the credit of each, shape (P,): `[c > r]`, and `tie` where neither is greater.

    A comparison with NaN is false, so an invalid reward is worth `tie` too.
    """
    pairs = pairs_of(panel)
    undecided = ~(pairs.margin > 0) & ~(pairs.margin < 0)
    return pairs, np.where(undecided, tie, pairs.margin > 0).astype(np.float64)


def nothing(panel: Panel) -> Statistic:
    """Return the 0 that a benchmark itself publishes for a part without items; it has no interval."""
    return Statistic(value=0.0, influence=np.zeros(panel.n_clusters), n=0, n_clusters=0, bounded=True)
