"""Plan-RewardBench: seven splits of trajectory pairs and their mean; rewards closer than 0.0001 tie for half.

Source: Wang et al. 2026, arXiv 2604.08178; `judge_pair` of the reward evaluators in
eval/evaluate_benchmark_final.py of the benchmark's repository, and "Main Results" in its README.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmbench.metrics.official import (
    HEADLINE,
    NO_JUDGES,
    part_means,
    part_name,
    stop_at_invalid,
    stratum_of,
    with_mean_of_parts,
)
from rmbench.metrics.pairs import pairs_of
from rmbench.metrics.panel import Panel
from rmbench.metrics.result import KINDS, Measured

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
    found = part_means(credit, pairs.cluster, panel.n_clusters, split, ("pair", "split", SPLITS))
    return with_mean_of_parts(*found, "seven splits")
