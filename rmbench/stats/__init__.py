"""Statistics of evaluation: estimates with clustered errors, bootstrap, paired tests, ranks."""

from rmbench.stats.bootstrap import cluster_bootstrap
from rmbench.stats.compare import Comparison, compare, groups, holm, rank_ranges
from rmbench.stats.estimates import (
    Statistic,
    cluster_sums,
    combine,
    difference,
    grouped_jackknife,
    mean,
    ratio,
    t_interval,
    wilson_interval,
)

__all__ = [
    "Comparison",
    "Statistic",
    "cluster_bootstrap",
    "cluster_sums",
    "combine",
    "compare",
    "difference",
    "grouped_jackknife",
    "groups",
    "holm",
    "mean",
    "rank_ranges",
    "ratio",
    "t_interval",
    "wilson_interval",
]
