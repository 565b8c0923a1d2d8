"""Point estimates, with the influences that intervals and paired comparisons need.

A `Statistic` is a number and the *influence* of each cluster on it, so that

    estimate - truth  ~  sum over clusters c of influence[c]

to first order. That vector, with the share of the data that each cluster holds, gives the cluster-robust
standard error (see `rmbench.stats.clusters`), the paired standard error of a difference between two models
on the same items (subtract the vectors), and the error of a mean of metrics (average them). A mean, a ratio,
an AUROC and a fitted temperature all have one. Source: Hampel 1974, "The influence curve and its role in
robust estimation"; clustered errors as in Miller 2024, "Adding error bars to evals", arXiv 2411.00640.
"""

from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import numpy as np

from rmbench.stats.clusters import Floats, Spread, Stratum, split_by_size, spread_of
from rmbench.stats.intervals import (
    TAIL,
    bootstrap_t_interval,
    constant_interval,
    effective_size,
    few_interval,
    is_skewed,
    rare_interval,
    stratified_interval,
    t_interval,
    usual_value,
    wilson_interval,
    worth_of,
)
from rmbench.types import Estimate

FEWEST = 1.5
"""Least effective number of clusters for an error; below it one cluster holds about 4/5 of the data."""
FEW_DECIDE = 20.0
"""With fewer effective prompts than this, a mean of uneven values gets the remark that few decide it."""
_ROUNDING = 1e-14
"""Errors below this, of a value of 1 or less, are rounding errors of 0."""


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """A point estimate, its influence per cluster, and its unit and direction."""

    value: float
    influence: Floats | None
    """Shape (C,): first-order effect of each cluster on `value`; sums to 0. None: only `ci95` is known."""
    n: int
    """Number of observations."""
    n_clusters: int
    """Number of clusters with at least one observation."""
    n_groups: int | None = None
    """Number of groups that a jackknife left out; a group's influence is on its first cluster. None: no
    groups."""
    share: Floats | None = None
    """Shape (C,): share of the data that each cluster holds; sums to 1. None: equal shares."""
    strata: tuple[Stratum, ...] = ()
    """Terms of a weighted sum over strata; empty: the value is one term."""
    unit: str = "fraction"
    higher_is_better: bool | None = True
    bounded: bool = False
    """True for a mean of values in [0, 1]: the interval then stays inside, and never shrinks to a point
    only because every observation was right."""
    linear: bool = False
    """True for means and ratios of sums: each cluster's contribution to the value is known."""
    limits: tuple[float, float] | None = None
    """Least and greatest value that one cluster can have, if known (`bounded` means (0, 1))."""
    log_scale: bool = False
    """True for a positive scale parameter: `influence` is that of the logarithm."""
    ci95: tuple[float, float] | None = None
    """An interval from elsewhere (bootstrap); it replaces the one from `influence`."""
    paired: bool = False
    """True for the difference of two models: the interval is Student's, as the p-value is."""
    remark: str = ""
    """A caution for the reader of the number; empty without one."""

    @property
    def terms(self) -> tuple[Stratum, ...]:
        """The strata of the value, at least one if there is an influence."""
        if self.strata or self.influence is None:
            return self.strata
        index = np.flatnonzero(self.influence if self.share is None else self.share)
        equal = np.full(len(index), 1.0 / max(1, len(index)))
        share = equal if self.share is None else self.share[index]
        return (Stratum(index, self.influence[index], share, 1.0, self.value),)

    @cached_property
    def spread(self) -> Spread | None:
        """The variance (of the logarithm where `log_scale`) and its freedom; None below two clusters."""
        if self.influence is None or self.n_clusters < 2:
            return None
        if self.share is None and not self.strata:
            c = self.n_groups or self.n_clusters
            return Spread(c / (c - 1) * float(np.square(self.influence).sum()), c - 1.0)
        if self._size() < FEWEST:
            return None
        return spread_of(self.terms, len(self.influence), limits=self.possible if self.linear else None)

    @property
    def possible(self) -> tuple[float, float] | None:
        """Least and greatest value of one cluster, if known."""
        return (0.0, 1.0) if self.bounded else self.limits

    @property
    def stderr(self) -> float | None:
        """Cluster-robust standard error (of the value, also where `log_scale`); None below two clusters."""
        if self.spread is None:
            return None
        error = sqrt(self.spread.variance)
        if error < _ROUNDING * max(1.0, abs(self.value)):
            return 0.0  # nothing varied: the rest is rounding, and other on each machine
        return self.value * error if self.log_scale else error

    @property
    def freedom(self) -> float | None:
        """Degrees of freedom of `stderr`; None without an error."""
        return None if self.spread is None else self.spread.freedom

    def _size(self) -> float:
        """Return the effective number of clusters: as many equal ones would have the same weight."""
        index = np.concatenate([t.index for t in self.terms])
        pulls = np.concatenate([abs(t.weight) * t.share for t in self.terms])
        total = float(pulls.sum())
        return effective_size(np.bincount(index, weights=pulls / total)) if total > 0.0 else 0.0

    def cluster_values(self) -> tuple[Floats, Floats]:
        """Return the value of each cluster of each term, and its share in the whole, both (c,)."""
        pulls = np.concatenate([t.weight * t.share for t in self.terms])
        contributions = np.concatenate([t.contributions() for t in self.terms])
        there = pulls != 0.0
        share = np.abs(pulls[there])
        return contributions[there] / pulls[there], share / share.sum()

    def contributions(self) -> Floats:
        """Return each cluster's contribution to the value, shape (C,); only of a `linear` statistic."""
        total = np.zeros(0 if self.influence is None else len(self.influence))
        for term in self.terms:
            np.add.at(total, term.index, term.contributions())
        return total

    def estimate(self) -> Estimate:
        """Return the number with its 95% interval."""
        return Estimate(
            value=self.value,
            ci95=self.interval(),
            stderr=self.stderr,
            n=self.n,
            n_clusters=self.n_clusters,
            unit=self.unit,
            higher_is_better=self.higher_is_better,
            remark=self.remark or self._why_no_interval(),
        )

    def _why_no_interval(self) -> str:
        if self.influence is None or self.interval() is not None:
            return ""
        if self.n_clusters < 2:
            return "one prompt alone has no interval"
        if self.spread is None:
            return "one prompt holds nearly all of the data: no interval"
        return f"it is the same for all {self.n_clusters:,} prompts: no interval"

    def interval(self, tail: float = TAIL) -> tuple[float, float] | None:
        """Return the interval with `tail` left out at each end (default: 95%); None if it is not known."""
        if self.ci95 is not None:
            return self.ci95 if tail == TAIL else None
        if self.spread is None or self.stderr is None:
            return None
        if self.log_scale:
            if self.value <= 0:
                return None
            low, high = t_interval(0.0, self.stderr / self.value, self.spread.freedom, tail)
            return self.value * float(np.exp(low)), self.value * float(np.exp(high))
        exact = self.exact_interval(tail)
        return exact or self._where_much_varies(self.stderr, self.spread.freedom, tail)

    def exact_interval(self, tail: float) -> tuple[float, float] | None:
        """Return the exact interval where all clusters, or nearly all, have one value."""
        if not self.linear or self.possible is None:
            return None
        values, share = self.cluster_values()
        usual = usual_value(values)
        if np.abs(values - usual).max() <= 1e-12 * max(1.0, abs(usual)):
            return _around(self.value, constant_interval(self.value, self._size(), self.possible, tail))
        if len(self.terms) > 1:
            return self._over_strata(tail)
        if self.bounded and _all_at(values, self.possible):
            return None  # right and wrong only, which Wilson's interval is made for
        rare = rare_interval(values, share, self.possible, tail)
        return None if rare is None else _around(self.value, rare)

    def _over_strata(self, tail: float) -> tuple[float, float] | None:
        """Return the interval from those of the strata; None unless they are independent proportions."""
        terms = self.terms
        index = np.concatenate([t.index for t in terms])
        if not self.bounded or len(np.unique(index)) < len(index):
            return None
        large, small = split_by_size(terms)
        intervals = []
        for t in large:
            alone = Statistic(
                value=t.value, influence=t.influence / t.weight, share=t.share, n=len(t.index),
                n_clusters=len(t.index), bounded=True, linear=True,
            )  # fmt: skip
            intervals.append(alone.interval(tail) or (0.0, 1.0))
        worth = worth_of(np.concatenate([t.values() for t in small])) if small else 1.0
        intervals += [few_interval(t.value, worth * effective_size(t.share), tail) for t in small]
        terms = (*large, *small)
        found = stratified_interval([t.value for t in terms], intervals, [t.weight for t in terms])
        # Distances added as squares are too short upwards where many strata are nearly all right, and the
        # error of the whole is too small where few strata are all right: the interval covers both.
        whole = wilson_interval(self.value, self.stderr or 0.0, self.freedom or 1.0, tail)
        return max(0.0, min(found[0], whole[0])), min(1.0, max(found[1], whole[1]))

    def _where_much_varies(self, stderr: float, freedom: float, tail: float) -> tuple[float, float] | None:
        if self.bounded:
            return wilson_interval(self.value, stderr, freedom, tail)
        if stderr < 1e-12 * max(1.0, abs(self.value)) and (self.linear or self.paired):
            return None  # nothing varied: how far off a value could be is not known
        interval, (first, *others) = None, self.terms
        if self.linear and not (self.paired or others) and is_skewed(first.influence):
            interval = bootstrap_t_interval(first.contributions(), first.share, tail)
            interval = interval or self._as_far_off_as_seen(tail)
        low, high = interval or t_interval(self.value, stderr, freedom, tail)
        if self.limits is not None:
            low, high = max(low, min(self.value, self.limits[0])), min(high, max(self.value, self.limits[1]))
        return _around(self.value, (low, high))

    def _as_far_off_as_seen(self, tail: float) -> tuple[float, float] | None:
        """Return the interval where nearly all clusters are equal; distances are limited to observed ones."""
        values, share = self.cluster_values()
        return rare_interval(values, share, (float(values.min()), float(values.max())), tail)


def _around(value: float, interval: tuple[float, float]) -> tuple[float, float]:
    """Return the interval, widened to hold the value that rounding put outside."""
    return min(interval[0], value), max(interval[1], value)


def _all_at(values: Floats, limits: tuple[float, float]) -> bool:
    return bool((np.minimum(np.abs(values - limits[0]), np.abs(values - limits[1])) < 1e-12).all())


def few_decide(statistic: Statistic) -> str:
    """Return a remark if fewer than about 20 clusters decide a number; else an empty text.

    The number is the size of a normal sample whose variance is known equally well, `2 C / (kurtosis - 1)`, at
    most C. Below 20 the error is itself a guess, and an interval may be too narrow.
    """
    if statistic.influence is None or statistic.n_clusters < 2:
        return ""
    squares = np.square(statistic.influence / max(1e-300, float(np.abs(statistic.influence).max())))
    if squares.sum() < 1e-12 or float(np.abs(statistic.influence).max()) < 1e-12:
        return f"it is the same for all {statistic.n_clusters:,} prompts"
    c = float(statistic.n_groups or statistic.n_clusters)
    kurtosis = c * float(np.square(squares).sum()) / float(squares.sum()) ** 2
    deciding = min(c, 2.0 * c / max(1e-9, kurtosis - 1.0))
    k = max(1, round(deciding))
    if deciding >= FEW_DECIDE:
        return ""
    return "about 1 prompt decides it" if k == 1 else f"about {k} prompts decide it"
