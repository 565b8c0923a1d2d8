"""Plan-RewardBench: seven splits of trajectory pairs and their mean; rewards closer than 0.0001 tie for half.

Source: Wang et al. 2026, arXiv 2604.08178; `judge_pair` of the reward evaluators in
eval/evaluate_benchmark_final.py of the benchmark's repository, and "Main Results" in its README.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmbench.metrics.official import HEADLINE, NO_JUDGES, part_name, stop_at_invalid, stratum_of
from rmbench.metrics.pairs import pairs_of
from rmbench.metrics.panel import Panel
from rmbench.metrics.result import KINDS, Measured
from rmbench.stats import Statistic, combine, mean

SPLITS = (
    "planning_multi_easy",
    "planning_multi_hard",
    "planning_single_easy",
    "planning_single_hard",
    "robust_recovery",
    "safety_refusal",
    "tool_irrelevance",
)
TIE_WITHIN = 1e-4
"""In the model's own reward unit, whatever that is: the published default."""


@KINDS.register("plan-rewardbench")
def measure_plan_rewardbench(panel: Panel, params: Mapping[str, Any]) -> Measured:
    """Measure the splits and their unweighted mean.

    A pair is `[c > r]`, and 0.5 where the two are at most 0.0001 apart; with a NaN it is 0.

    Args:
        panel: Pairs with the stratum `split`.
        params: `invalid`.

    Returns:
        `official`, and `official_<split>`.
    """
    if params.get("short"):
        return Measured({})
    stop_at_invalid(panel, params)
    if panel.flips is not None:
        return Measured({}, {}, dict.fromkeys([HEADLINE, *map(part_name, SPLITS)], NO_JUDGES))
    pairs = pairs_of(panel)
    credit = np.where(np.abs(pairs.margin) <= TIE_WITHIN, 0.5, pairs.margin > 0).astype(np.float64)
    split = stratum_of(panel, "split")[pairs.item]
    metrics: dict[str, Statistic] = {}
    undefined: dict[str, str] = {}
    for name in SPLITS:
        here = split == name
        if here.any():
            metrics[part_name(name)] = mean(credit[here], pairs.cluster[here], panel.n_clusters, bounded=True)
        else:
            undefined[part_name(name)] = f"no pair of the split {name}"
    if undefined:
        undefined[HEADLINE] = f"the mean of seven splits: {'; '.join(undefined.values())}"
        return Measured(metrics, {}, undefined)
    return Measured({HEADLINE: combine(list(metrics.values())), **metrics})
