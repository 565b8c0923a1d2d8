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
from rmbench.stats.limit import Limit, jeffreys_interval, limit_at_zero, sum_of_limits

__all__ = [
    "Comparison",
    "Limit",
    "Statistic",
    "cluster_bootstrap",
    "cluster_sums",
    "combine",
    "compare",
    "difference",
    "grouped_jackknife",
    "groups",
    "holm",
    "jeffreys_interval",
    "limit_at_zero",
    "mean",
    "rank_ranges",
    "ratio",
    "sum_of_limits",
    "t_interval",
    "wilson_interval",
]
