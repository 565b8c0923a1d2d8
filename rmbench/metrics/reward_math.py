"""RewardMATH: the right solution above all nine wrong ones, and its reciprocal rank.

Source: Kim et al. 2024, arXiv 2410.01729; `RewardMATHEvaluation` in src/evaluation/eval.py of the benchmark's
repository.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmbench.metrics.official import HEADLINE, NO_JUDGES, has_one_right, part_name, stop_at_invalid
from rmbench.metrics.panel import Panel
from rmbench.metrics.result import KINDS, Measured
from rmbench.stats import mean

PARTS = ("with ties", "MRR")


def problem_scores(right: float, wrong: Sequence[float]) -> tuple[float, float, float]:
    """Return `[c > max r]`, `[c >= max r]` and 1 / rank of the right solution, last among what it ties with.

    Python's own `max` and `sorted`, as published: what they do with a NaN depends on where it stands.

    Args:
        right: Reward of the right solution.
        wrong: Rewards of the wrong ones, in the order of the data.
    """
    ranked = sorted([*((reward, True) for reward in wrong), (right, False)], reverse=True)
    rank = next(k for k, (_, is_wrong) in enumerate(ranked, start=1) if not is_wrong)
    highest = max(wrong)
    return float(right > highest), float(right >= highest), 1.0 / rank


@KINDS.register("reward-math")
def measure_reward_math(panel: Panel, params: Mapping[str, Any]) -> Measured:
    """Measure how often the right solution is above every wrong one, and its mean reciprocal rank.

    Args:
        panel: Items of one response with gold 1 and others with gold 0.
        params: `invalid`.

    Returns:
        `official` (strict), `official_with_ties` (a tie with the best wrong one counts), `official_mrr`.
    """
    if params.get("short"):
        return Measured({})
    stop_at_invalid(panel, params)
    names = [HEADLINE, *map(part_name, PARTS)]
    if panel.flips is not None:
        return Measured({}, {}, dict.fromkeys(names, NO_JUDGES))
    if not has_one_right(panel):
        return Measured({}, {}, dict.fromkeys(names, "an item has not one right solution and wrong ones"))
    rows = []
    for item in range(panel.n_items):
        here = slice(int(panel.offsets[item]), int(panel.offsets[item + 1]))
        right, rewards = panel.gold[here] > 0.5, panel.rewards[here]
        rows.append(problem_scores(float(rewards[right][0]), rewards[~right].tolist()))
    if not rows:
        return Measured({}, {}, dict.fromkeys(names, "no item"))
    columns = np.array(rows).T
    return Measured(
        {
            name: mean(column, panel.cluster, panel.n_clusters, bounded=True)
            for name, column in zip(names, columns, strict=True)
        }
    )
