"""Power of paired comparisons: the smallest difference that data can show, and the prompts that one needs.

The power of a two-sided t test against a difference of `delta` standard errors is the probability that a
noncentral t variable with noncentrality `delta` lies beyond the critical value. Solved for `delta`, and
multiplied by the standard error, it gives the smallest difference that the test finds with a given power. If
models differ on few clusters only, the test is exact: it can only find a difference that makes enough
clusters differ, all in one direction.

Source: Johnson, Kotz & Balakrishnan 1995, "Continuous univariate distributions 2", chapter 31 (noncentral t);
Bloom 1995, "Minimum detectable effects", Evaluation Review 19(5); for evaluations, Miller 2024, arXiv
2411.00640, section 5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, sqrt

import numpy as np
from scipy.special import betainc, betaincinv, gammaincinv, ndtr, stdtrit

from rmbench.errors import ConfigError
from rmbench.stats.clusters import Floats
from rmbench.stats.statistic import Statistic

ALPHA = 0.05
"""Two-sided level of tests."""
POWER = 0.8
"""Default probability of finding a true difference."""
_POINTS = 2000
MOST_CLUSTERS = 10**12
"""Largest number of prompts that is reported; beyond it the data have too few, whatever the exact number."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """Resolution of a set of prompts: the smallest difference of two models that it can show."""

    stderr: float
    """Standard error of the paired difference, clustered by prompt."""
    freedom: float
    """Degrees of freedom of the error."""
    n_clusters: int
    """Number of prompts."""
    step: float | None = None
    """For the exact test, used if the models differ on few prompts: effect of one such prompt on the
    difference, times the number of prompts. None for the t test."""
    largest: float | None = None
    """Largest difference that the metric allows; None without a limit."""

    def smallest(self, alpha: float = ALPHA, power: float = POWER) -> float | None:
        """Return the smallest difference that is found with probability `power`.

        Args:
            alpha: Two-sided level of the test; 5% over the number of tests where Holm's correction is used.
            power: Probability of finding it, in (0.5, 1).

        Returns:
            The difference, in the metric's unit; None if even the largest one would not be found.
        """
        found = noncentrality(self.freedom, alpha, power) * self.stderr
        if self.step is not None:
            k = _needed(alpha)
            if self.n_clusters < k:
                return None
            found = max(found, self.step * float(betaincinv(k, self.n_clusters - k + 1, power)))
        if not np.isfinite(found) or (self.largest is not None and found > self.largest):
            return None
        return found

    def clusters_for(self, difference: float, alpha: float = ALPHA, power: float = POWER) -> int | None:
        """Return the number of prompts of this kind that would show a difference with probability `power`.

        The error shrinks with the root of the number of prompts; its degrees of freedom grow with the number.

        Args:
            difference: Above 0, in the metric's unit.
            alpha: Two-sided level of the test.
            power: Probability of finding it.

        Returns:
            The number of prompts; None if it is more than `MOST_CLUSTERS`.

        Raises:
            ConfigError: If the difference is not above 0, or larger than the metric allows.
        """
        if not difference > 0.0 or (self.largest is not None and difference > self.largest):
            most = f" to {self.largest:g}" if self.largest is not None else ""
            raise ConfigError(f"a difference of {difference:g}; expected one above 0{most}")
        k = _needed(alpha)

        def shows(n: int) -> bool:
            scale = n / self.n_clusters
            freedom = max(1.0, (self.freedom + 1.0) * scale - 1.0)
            if noncentrality(freedom, alpha, power) * self.stderr / sqrt(scale) > difference:
                return False
            if self.step is None:
                return True
            return n >= k and float(betainc(k, n - k + 1, min(1.0, difference / self.step))) >= power

        return _first(shows, 2)


@lru_cache(maxsize=4096)
def noncentrality(freedom: float, alpha: float = ALPHA, power: float = POWER) -> float:
    """Return the difference, in standard errors, that a two-sided t test finds with probability `power`.

    Args:
        freedom: Degrees of freedom, above 0.
        alpha: Level of the test.
        power: Above `alpha`, below 1.

    Raises:
        ConfigError: If the power is not between the level and 1.
    """
    if not alpha < power < 1.0:
        raise ConfigError(f"a power of {power:g}; expected one above {alpha:g} and below 1")
    from scipy.optimize import brentq  # a slow import that most commands do without

    critical = -float(stdtrit(freedom, alpha / 2.0))
    scales = _error_scales(freedom)
    high = critical * float(scales[-1]) + 10.0
    found: float = brentq(lambda d: _power(d, critical, scales) - power, 0.0, high, xtol=1e-10)
    return found


def power_of(difference: float, stderr: float, freedom: float, alpha: float = ALPHA) -> float:
    """Return the probability that a two-sided t test finds a difference."""
    critical = -float(stdtrit(freedom, alpha / 2.0))
    return _power(abs(difference) / stderr, critical, _error_scales(freedom))


def resolution_of(paired: Statistic, off: Floats | None) -> Resolution | None:
    """Return the resolution of a paired difference; None where no error is known.

    Args:
        paired: The difference of two models.
        off: Contributions of the clusters on which the models differ, shape (k,); None for the t test.
    """
    if paired.stderr is None or paired.freedom is None:
        return None
    limits = paired.possible
    largest = None if limits is None else max(abs(limits[0]), abs(limits[1]))
    if off is not None and len(off):
        step = float(np.abs(off).mean()) * paired.n_clusters
    elif off is not None and largest is not None:
        step = largest
    elif paired.stderr < 1e-12:
        return None  # how far a prompt could move the difference is not known
    else:
        return Resolution(paired.stderr, paired.freedom, paired.n_clusters, None, largest)
    return Resolution(paired.stderr, paired.freedom, paired.n_clusters, step, largest)


def resolution_of_one(measured: Statistic, correlation: float) -> Resolution | None:
    """Return the resolution of a difference between this model and an equally good one.

    The other model is assumed to have the same error. The difference then has `2 (1 - correlation)` times the
    variance of one model.

    Args:
        measured: One model's statistic.
        correlation: Of the two models' values over prompts, in [0, 1).
    """
    if not 0.0 <= correlation < 1.0:
        raise ConfigError(f"a correlation of {correlation:g}; expected one from 0 to below 1")
    if measured.stderr is None or measured.freedom is None:
        return None
    limits = measured.possible
    largest = None if limits is None else limits[1] - limits[0]
    flat = measured.stderr < 1e-12
    if flat and largest is None:
        return None
    stderr = measured.stderr * sqrt(2.0 * (1.0 - correlation))
    return Resolution(stderr, measured.freedom, measured.n_clusters, largest if flat else None, largest)


def resolution_of_data(sizes: Floats, discordance: float, *, copies: bool) -> Resolution:
    """Return the resolution of the difference of two accuracies, from the sizes of clusters alone.

    With no difference between the models, the difference on one observation is +1 or -1 with probability
    `discordance` / 2 each. Degrees of freedom are Satterthwaite's for a sum of independent variances, less 1.

    Args:
        sizes: Observations of each cluster, shape (C,), at least two of them above 0.
        discordance: Share of observations on which exactly one of two models is right, in (0, 1].
        copies: True: the observations of a cluster are copies of one; False: they are independent.
    """
    if not 0.0 < discordance <= 1.0:
        raise ConfigError(f"a discordance of {discordance:g}; expected a share above 0, at most 1")
    share = sizes[sizes > 0] / sizes.sum()
    variances = discordance * (share**2 if copies else share / sizes.sum())
    total = float(variances.sum())
    freedom = max(1.0, total**2 / float(np.square(variances).sum()) - 1.0)
    return Resolution(sqrt(total), freedom, len(share), None, 1.0)


def _needed(alpha: float) -> int:
    """Return the number of clusters that must differ, all in one direction, for an exact test to find it."""
    k = 1
    while 2.0 ** (1 - k) >= alpha:
        k += 1
    return k


@lru_cache(maxsize=64)
def _error_scales(freedom: float) -> Floats:
    """Return estimated over true standard error at equally likely points of its distribution, increasing."""
    levels = (np.arange(_POINTS) + 0.5) / _POINTS
    # chi-squared quantiles are 2 gammaincinv(freedom / 2, level).
    return np.asarray(np.sqrt(2.0 * gammaincinv(freedom / 2.0, levels) / freedom))


def _power(delta: float, critical: float, scales: Floats) -> float:
    """Return P(|T| > critical) of a noncentral t: the mean, over its error, of that of a normal variable."""
    edges = critical * scales
    return float((ndtr(delta - edges) + ndtr(-delta - edges)).mean())


def _first(shows: Callable[[int], bool], start: int) -> int | None:
    """Return the smallest n from `start` for which `shows` is true, as for all larger n; None: too large."""
    high = start
    while not shows(high):
        if high > MOST_CLUSTERS:
            return None
        high *= 2
    low = max(start - 1, ceil(high / 2) - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high
