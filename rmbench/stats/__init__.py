"""Statistics of evaluation: estimates with clustered errors, bootstrap, paired tests, ranks."""

from rmbench.stats.bootstrap import cluster_bootstrap
from rmbench.stats.combine import combine, difference, on_clusters
from rmbench.stats.compare import Comparison, compare, groups, holm, rank_ranges
from rmbench.stats.estimates import cluster_sums, grouped_jackknife, mean, ratio, shares
from rmbench.stats.intervals import t_interval, wilson_interval
from rmbench.stats.limit import Limit, jeffreys_interval, limit_at_zero, sum_of_limits
from rmbench.stats.statistic import Statistic, few_decide

__all__ = [
    "Comparison",
    "Limit",
    "Statistic",
    "cluster_bootstrap",
    "cluster_sums",
    "combine",
    "compare",
    "difference",
    "few_decide",
    "grouped_jackknife",
    "groups",
    "holm",
    "jeffreys_interval",
    "limit_at_zero",
    "mean",
    "on_clusters",
    "rank_ranges",
    "ratio",
    "shares",
    "sum_of_limits",
    "t_interval",
    "wilson_interval",
]
