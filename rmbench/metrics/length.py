"""Length-controlled accuracy: the accuracy where neither response is longer."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.margins import tenths
from rmbench.metrics.pairs import Pairs
from rmbench.metrics.panel import Panel
from rmbench.stats import Limit, Statistic, limit_at_zero, sum_of_limits
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
    the two sides, by the number of independent observations that each amounts to.

    Args:
        pairs: P pairs, at least one.
        relative: See `relative_difference`, shape (P,).
        credit: Correctness of each, shape (P,), in [0, 1].
        n_clusters: Number of clusters in the panel.

    Returns:
        The estimate, of the pairs inside the windows; or the reason why there is none.

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
