"""JudgeBench: right in both orders taken together, by category.

Source: Tan et al. 2024, arXiv 2410.12784; utils/metrics.py of the benchmark's repository.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmbench.metrics.official import (
    HEADLINE,
    part_means,
    part_name,
    stop_at_invalid,
    stratum_of,
    strict_pairs,
)
from rmbench.metrics.panel import Panel
from rmbench.metrics.result import KINDS, Measured
from rmbench.stats import mean

CATEGORIES = ("Knowledge", "Reasoning", "Math", "Coding")


@KINDS.register("judgebench")
def measure_judgebench(panel: Panel, params: Mapping[str, Any]) -> Measured:
    """Measure the share of pairs that are right, over all pairs and in each category.

    Two orders are asked; each verdict adds 1 if it is right and takes 1 away if it is wrong, and the pair is
    right if the sum is positive. Two verdicts that contradict each other are wrong, and so is a tie; one
    order without a verdict leaves the other to decide. For rewards this is `[c > r]`. For a pairwise model
    it is that and no flip: without a flip, the averaged preference and the sum have the same sign. The one
    difference: where a pairwise model has no verdict in one order, the pair has no rewards, and is not right.

    Args:
        panel: Pairs with the stratum `category`.
        params: `invalid`.

    Returns:
        `official`, `official_knowledge`, `_reasoning`, `_math`, `_coding`.
    """
    if params.get("short"):
        return Measured({})
    stop_at_invalid(panel, params)
    pairs, credit = strict_pairs(panel)
    if len(pairs) == 0:
        names = (HEADLINE, *map(part_name, CATEGORIES))
        return Measured({}, {}, dict.fromkeys(names, "no pair whose gold differs"))
    if panel.flips is not None:
        credit = credit * (panel.flips[pairs.item] == 0)
    category = stratum_of(panel, "category")[pairs.item]
    parts = ("pair", "category", CATEGORIES)
    by_category, undefined = part_means(credit, pairs.cluster, panel.n_clusters, category, parts)
    metrics = {HEADLINE: mean(credit, pairs.cluster, panel.n_clusters, bounded=True), **by_category}
    return Measured(metrics, {"split_verdicts": _split(panel)}, undefined)


def _split(panel: Panel) -> int:
    return 0 if panel.flips is None else int(np.count_nonzero(panel.flips))
