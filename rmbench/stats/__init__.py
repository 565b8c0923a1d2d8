"""Statistics of evaluation: estimates with clustered errors, bootstrap, paired tests, ranks."""

from rmbench.stats.bootstrap import cluster_bootstrap
from rmbench.stats.compare import (
    Comparison,
    Tested,
    compare,
    equivalence,
    family,
    groups,
    holm,
    rank_ranges,
)
from rmbench.stats.estimates import (
    cluster_sums,
    combine,
    difference,
    jackknife_groups,
    jackknife_influence,
    mean,
    on_clusters,
    ratio,
    shares,
)
from rmbench.stats.intervals import t_interval, wilson_interval
from rmbench.stats.limit import Limit, jeffreys_interval, limit_at_zero, sum_of_limits
from rmbench.stats.power import (
    Resolution,
    noncentrality,
    power_of,
    resolution_of_data,
    resolution_of_one,
)
from rmbench.stats.statistic import Statistic, few_decide

__all__ = [
    "Comparison",
    "Limit",
    "Resolution",
    "Statistic",
    "Tested",
    "cluster_bootstrap",
    "cluster_sums",
    "combine",
    "compare",
    "difference",
    "equivalence",
    "family",
    "few_decide",
    "groups",
    "holm",
    "jackknife_groups",
    "jackknife_influence",
    "jeffreys_interval",
    "limit_at_zero",
    "mean",
    "noncentrality",
    "on_clusters",
    "power_of",
    "rank_ranges",
    "ratio",
    "resolution_of_data",
    "resolution_of_one",
    "shares",
    "sum_of_limits",
    "t_interval",
    "wilson_interval",
]
