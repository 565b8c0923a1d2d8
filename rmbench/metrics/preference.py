"""Preference accuracy: does the model rank the response higher that gold prefers?"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rmbench.errors import ConfigError
from rmbench.metrics.length import length_controlled, near_equal_prompts, relative_difference
from rmbench.metrics.pairs import Pairs, pairs_of, reward_tie_sizes
from rmbench.metrics.panel import Panel, left_out_items, settle_invalid
from rmbench.metrics.result import KINDS, Measured
from rmbench.metrics.votes import measure_votes
from rmbench.stats import Statistic, combine, mean
from rmbench.stats.clusters import Floats

TIES_OF_CONVENTION = {"clean": "half", "judgebench": "zero", "rm-bench": "zero", "rewardbench": "zero"}
"""Credit for tied rewards that each published benchmark gives (`clean` is ours)."""


def ties_rule(params: Mapping[str, Any]) -> str:
    """Return the tie policy: `ties` if given, else that of the `convention`."""
    convention = str(params.get("convention") or "clean")
    if convention not in TIES_OF_CONVENTION:
        raise ConfigError(f"convention={convention!r} is not one of {', '.join(TIES_OF_CONVENTION)}")
    rule = str(params.get("ties") or TIES_OF_CONVENTION[convention])
    if rule not in ("half", "zero", "fractional"):
        raise ConfigError(f"ties={rule!r} is not one of half, zero, fractional")
    return rule


def correctness(panel: Panel, pairs: Pairs, ties: str) -> Floats:
    """Return the credit of each pair, shape (P,), in [0, 1]: `[m > 0] + tie * [m = 0]`.

    Args:
        panel: Where the rewards are.
        pairs: Pairs of it.
        ties: `half` gives a tied pair 0.5, `zero` gives 0 (RewardBench 1, RM-Bench, TRL), `fractional` gives
            1/k where k responses of the item share the reward (RewardBench 2).
    """
    credit = (pairs.margin > 0).astype(np.float64)
    tied = pairs.margin == 0
    if ties == "half":
        credit[tied] = 0.5
    elif ties == "fractional":
        credit[tied] = 1.0 / reward_tie_sizes(panel)[pairs.chosen[tied]]
    return credit


def accuracy(pairs: Pairs, credit: Floats, n_clusters: int) -> Statistic:
    """Return the mean credit over pairs (micro: every pair weighs the same), clustered by prompt."""
    return mean(credit, pairs.cluster, n_clusters, bounded=True)


def macro_accuracy(panel: Panel, pairs: Pairs, credit: Floats, key: str | None) -> Statistic:
    """Return the unweighted mean over strata of the accuracy in each; without strata, the micro mean."""
    if key is None or key not in panel.strata:
        return accuracy(pairs, credit, panel.n_clusters)
    stratum = np.array(panel.strata[key], dtype=str)[pairs.item]
    parts = []
    for name in np.unique(stratum):
        here = stratum == name
        parts.append(mean(credit[here], pairs.cluster[here], panel.n_clusters, bounded=True))
    return combine(parts)


@KINDS.register("preference")
def measure_preference(panel: Panel, params: Mapping[str, Any]) -> Measured:
    """Measure preference accuracy and its shortcuts.

    Args:
        panel: Items and rewards.
        params: `ties`, `convention`, `invalid`, `seed`, `macro_over` (stratum key of the macro mean).

    Returns:
        `accuracy` (micro), `accuracy_macro`, `accuracy_length_controlled`, `longer_wins` (the accuracy of a
        scorer of pure length, which describes the data) and `longer_wins_length_controlled`; and, where
        items have votes, what those say (see `rmbench.metrics.votes`).
    """
    rule = ties_rule(params)
    invalid = str(params.get("invalid", "fail"))
    left_out = left_out_items(panel, invalid, ranking=True)
    panel, n_invalid = settle_invalid(panel, invalid, ranking=True)
    pairs = pairs_of(panel)
    counts = {
        "pairs": len(pairs),
        "reward_ties": int((pairs.margin == 0).sum()),
        "gold_ties": pairs.n_gold_ties,
        "invalid_items": n_invalid,
    }
    names = (
        "accuracy", "accuracy_macro", "accuracy_length_controlled", "longer_wins_length_controlled",
        "longer_wins",
    )  # fmt: skip
    credit = correctness(panel, pairs, rule)
    voted, unknown = measure_votes(panel, pairs, credit, params)
    if len(pairs) == 0:
        return Measured(
            voted,
            counts,
            {**dict.fromkeys(names, "no pair whose gold differs"), **unknown},
            left_out=left_out,
        )
    longer = (pairs.length_difference > 0) + 0.5 * (pairs.length_difference == 0)
    metrics = {
        "accuracy": accuracy(pairs, credit, panel.n_clusters),
        "accuracy_macro": macro_accuracy(panel, pairs, credit, params.get("macro_over")),
    }
    if not panel.lengths.any():
        # Published results without texts: "never longer" would be a number about nothing.
        lengths = dict.fromkeys(names[2:], "lengths of the responses are not known")
        return Measured({**metrics, **voted}, counts, {**lengths, **unknown}, left_out=left_out)
    relative = relative_difference(panel, pairs)
    counts |= near_equal_prompts(pairs, relative)
    controlled = length_controlled(pairs, relative, credit, panel.n_clusters)
    longer_wins = mean(longer, pairs.cluster, panel.n_clusters, bounded=True)
    longer_controlled = length_controlled(pairs, relative, longer, panel.n_clusters)
    metrics["longer_wins"] = replace(longer_wins, higher_is_better=None)
    if isinstance(controlled, str) or isinstance(longer_controlled, str):
        why = dict.fromkeys(("accuracy_length_controlled", "longer_wins_length_controlled"), str(controlled))
        return Measured({**metrics, **voted}, counts, {**why, **unknown}, left_out=left_out)
    metrics["accuracy_length_controlled"] = controlled
    metrics["longer_wins_length_controlled"] = replace(longer_controlled, higher_is_better=None)
    shown = {name: metrics[name] for name in names}
    return Measured({**shown, **voted}, counts, unknown, left_out=left_out)
