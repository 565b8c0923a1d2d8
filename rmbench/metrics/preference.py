"""Preference accuracy: the share of pairs in which the model ranks the response with the higher gold first.

Length-controlled accuracy is the accuracy where neither response is longer.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rmbench.core.options import Option, made_of
from rmbench.errors import ConfigError
from rmbench.metrics.kinds import Measured, Metric, Params, register_kind
from rmbench.metrics.margins import tenths
from rmbench.metrics.panel import Pairs, Panel, left_out_items, pairs_of, reward_tie_sizes, settle_invalid
from rmbench.metrics.votes import measure_votes
from rmbench.stats import Limit, Statistic, combine, limit_at_zero, mean, sum_of_limits
from rmbench.stats.clusters import Floats, Ints

NEAR_EQUAL = 0.1
"""Two responses are nearly equally long if they differ by at most this share of the longer one."""
_FEWEST_PROMPTS = 3
"""Fewest prompts on each side. With one or two the simulated coverage falls below 90%."""
_WINDOW, _PROMPTS_AT_WINDOW = 3.0, 25.0
"""Window for a side of 25 prompts, in medians of the relative difference on the side where it is smaller."""
_PROMPTS_INSIDE = 8
"""The window reaches at least to twice the distance of this prompt, counted from equal length."""


def relative_difference(panel: Panel, pairs: Pairs) -> Floats:
    """Return characters of chosen minus rejected, as a share of the longer one, shape (P,), in [-1, 1]."""
    longer = np.maximum(panel.lengths[pairs.chosen], panel.lengths[pairs.rejected])
    return np.asarray(pairs.length_difference / np.maximum(longer, 1.0), dtype=np.float64)


def near_equal_prompts(pairs: Pairs, relative: Floats) -> dict[str, int]:
    """Count the prompts with a pair of nearly equal length, by whether the chosen response is longer.

    Pairs of exactly equal length count on both sides.
    """
    near = np.abs(relative) <= NEAR_EQUAL
    return {
        "prompts_near_equal_chosen_longer": _n_prompts(pairs.cluster[near & (relative >= 0)]),
        "prompts_near_equal_chosen_shorter": _n_prompts(pairs.cluster[near & (relative <= 0)]),
    }


def length_controlled(pairs: Pairs, relative: Floats, credit: Floats, n_clusters: int) -> Statistic | str:
    """Return the accuracy at equal length: the mean of its limits from both sides.

    f(r) is P(correct) at the relative difference r. The value is (f(0+) + f(0-)) / 2. f(0+) is the limit from
    pairs whose chosen response is longer, f(0-) from pairs whose chosen response is shorter. A scorer of
    pure length has f(0+) = 1 and f(0-) = 0, so 0.5, whatever the data prefers. For a smooth f the value is
    f(0). Each limit is a local line. Pairs of exactly equal length show f(0) directly. They are averaged with
    the two sides, weighted by the effective number of independent observations.

    Args:
        pairs: P pairs, at least one.
        relative: See `relative_difference`, shape (P,).
        credit: Correctness of each pair, shape (P,), in [0, 1].
        n_clusters: Number of clusters in the panel.

    Returns:
        The estimate, from the pairs inside the windows; or the reason why it has no value.

    Source: the aim is that of Dubois et al. 2024, "Length-controlled AlpacaEval", arXiv 2404.04475; the
    estimate is that of a regression discontinuity, Hahn, Todd & van der Klaauw 2001, Econometrica 69(1).
    """
    masks = [relative > 0, relative < 0, relative == 0]
    prompts = [_n_prompts(pairs.cluster[mask]) for mask in masks]
    sided = min(prompts[:2]) >= _FEWEST_PROMPTS
    if not sided and prompts[2] < _FEWEST_PROMPTS:
        return _why_not(masks, prompts)
    parts, weights = list[Limit](), list[float]()
    if sided:
        common = _common_window(relative, masks[:2], min(prompts[:2]))
        for mask in masks[:2]:
            distance, cluster = np.abs(relative[mask]), pairs.cluster[mask]
            window = max(common, 2.0 * _nearest(distance, cluster, n_clusters))
            parts.append(limit_at_zero(credit[mask], distance, window, cluster, n_clusters))
    if prompts[2]:
        equal = masks[2]
        parts.append(
            limit_at_zero(credit[equal], np.zeros(equal.sum()), 1.0, pairs.cluster[equal], n_clusters)
        )
    both = 4.0 / sum(1.0 / p.size for p in parts[:2]) if sided else 0.0
    at_zero = parts[-1].size if prompts[2] else 0.0
    share = at_zero / (both + at_zero)
    weights = ([(1.0 - share) / 2.0] * 2 if sided else []) + ([share] if prompts[2] else [])
    return sum_of_limits(parts, weights)


def _common_window(relative: Floats, sides: list[NDArray[np.bool_]], prompts: int) -> float:
    """Return the window of both sides: a multiple of the smaller median difference, narrower with more data.

    It shrinks with the fifth root of the prompts on the smaller side, the best rate for a local line.
    """
    scale = min(float(np.median(np.abs(relative[side]))) for side in sides)
    return _WINDOW * scale * float((_PROMPTS_AT_WINDOW / prompts) ** 0.2)


def _nearest(distance: Floats, cluster: Ints, n_clusters: int) -> float:
    """Return the distance from 0 of the cluster that is `_PROMPTS_INSIDE`-th nearest (or the last)."""
    nearest = np.full(n_clusters, np.inf)
    np.minimum.at(nearest, cluster, distance)
    nearest = nearest[np.isfinite(nearest)]
    k = min(_PROMPTS_INSIDE, len(nearest)) - 1
    return float(np.partition(nearest, k)[k])


def _n_prompts(cluster: Ints) -> int:
    return int(np.count_nonzero(np.bincount(cluster)))


def _why_not(masks: list[NDArray[np.bool_]], prompts: list[int]) -> str:
    longer, shorter, equal = (int(mask.sum()) for mask in masks)
    for count, other, word in ((shorter, longer, "longer"), (longer, shorter, "shorter")):
        if count == 0 and equal == 0 and other:
            return f"every chosen response is {word}: nothing shows the accuracy at equal length"
    return (
        f"the chosen response is longer in {longer} pairs ({prompts[0]} prompts), shorter in {shorter} "
        f"({prompts[1]}), equal in {equal} ({prompts[2]}); accuracy at equal length needs {_FEWEST_PROMPTS} "
        f"prompts with longer and {_FEWEST_PROMPTS} with shorter, or {_FEWEST_PROMPTS} with equal"
    )


def accuracy_by_length(pairs: Pairs, credit: Floats, n_clusters: int) -> list[dict[str, Any]]:
    """Return the accuracy within each tenth of the length difference, chosen minus rejected, characters.

    If length has no effect, it is the same in all tenths; if the model prefers longer responses, it rises.
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


TIES_OF_CONVENTION = {"clean": "half", "judgebench": "zero", "rm-bench": "zero", "rewardbench": "zero"}
"""Convention -> credit for tied rewards, as each published benchmark gives it (`clean` is rmbench's own)."""


@dataclass(frozen=True, kw_only=True)
class Preference(Params):
    """Parameters of the kind `preference`."""

    convention: Annotated[
        Literal["clean", "judgebench", "rm-bench", "rewardbench"],
        Option("whose published convention to follow"),
    ] = "clean"
    ties: Annotated[
        Literal["half", "zero", "fractional"] | None,
        Option("credit of tied rewards: 0.5, 0, or 1/k; by default what the convention gives"),
    ] = None


def ties_rule(params: Any) -> str:
    """Return the tie policy: `ties` if given, else that of the `convention`.

    Args:
        params: `Preference`, or a task's mapping.
    """
    p = made_of(Preference, params)
    if p.convention not in TIES_OF_CONVENTION:
        raise ConfigError(f"convention={p.convention!r} is not one of {', '.join(TIES_OF_CONVENTION)}")
    rule = p.ties or TIES_OF_CONVENTION[p.convention]
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
    """Return the mean credit over pairs (micro: all pairs have the same weight), clustered by prompt."""
    return mean(credit, pairs.cluster, n_clusters, bounded=True)


def macro_accuracy(panel: Panel, pairs: Pairs, credit: Floats, key: str | None) -> Statistic:
    """Return the unweighted mean over strata of the accuracy in each; without strata, the micro mean."""
    if key is None or key not in panel.strata:
        return accuracy(pairs, credit, panel.n_clusters)
    stratum = np.array(panel.strata[key], dtype=object)[pairs.item]
    parts = []
    for name in np.unique(stratum):
        here = stratum == name
        parts.append(mean(credit[here], pairs.cluster[here], panel.n_clusters, bounded=True))
    return combine(parts)


@register_kind(
    "preference",
    title="Preference",
    params=Preference,
    metrics=[
        Metric("accuracy", "share of pairs ranked as gold does, ties half", in_strata=True),
        Metric("accuracy_macro", "mean over strata of the accuracy in each"),
        Metric("accuracy_length_controlled", "accuracy where neither response is longer", in_strata=True),
        Metric(
            "longer_wins_length_controlled",
            "the same of a scorer of pure length: 0.5 where length is controlled",
            compared=False,
            of_data=True,
        ),
        Metric(
            "longer_wins",
            "how often gold prefers the longer response",
            in_strata=True,
            compared=False,
            of_data=True,
        ),
        Metric("accuracy_of_ceiling", "accuracy over that of the best possible predictor", compared=False),
        Metric(
            "ceiling",
            "accuracy of the best possible predictor of the annotators' majority",
            compared=False,
            of_data=True,
        ),
        Metric("ceiling_low", "the least that the ceiling can be", headline=False),
        Metric("ceiling_high", "the most that the ceiling can be", headline=False),
        Metric("annotator_agreement", "how often two annotators of a pair agree", headline=False),
        Metric("annotator_alpha", "their agreement beyond chance (Krippendorff)", headline=False),
    ],
)
def measure_preference(panel: Panel, params: Preference) -> Measured:
    """Measure preference accuracy and its shortcuts.

    Args:
        panel: Items and rewards.
        params: `macro_over` is the stratum key of the macro mean.

    Returns:
        `accuracy` (micro), `accuracy_macro`, `accuracy_length_controlled`, `longer_wins` (the accuracy of a
        scorer of pure length, which describes the data) and `longer_wins_length_controlled`; and, if items
        have votes, the metrics of `rmbench.metrics.votes`.
    """
    rule = ties_rule(params)
    left_out = left_out_items(panel, params.invalid, ranking=True)
    panel, n_invalid = settle_invalid(panel, params.invalid, ranking=True)
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
    voted, unknown = ({}, {}) if params.short else measure_votes(panel, pairs, credit)
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
        "accuracy_macro": macro_accuracy(panel, pairs, credit, params.macro_over),
    }
    if not panel.lengths.any():
        # Published results have no texts: "never longer" would be meaningless.
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
