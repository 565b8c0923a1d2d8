"""Noise ceiling: the accuracy of the best possible predictor against gold that annotators voted on.

Gold is the majority of a few votes, so it is noisy. A predictor of the preference of *most people* is wrong
where the few annotators happened to vote otherwise. For a pair, `q` is the share of all annotators who
prefer the first response among those who prefer one at all, and `d = |2 q - 1|`: the share (1 + d) / 2 of all
people prefers the better side. Of `k` votes that are no ties, k odd, the majority takes the better side with
probability 1/2 + g_k(d). With even k the votes may be split. A split pair has no order and is not counted,
and the excess over 1/2 is g_(k-1)(d) over the share of pairs that are counted. The ceiling is

    1/2 + sum over pairs of E[g_k(d)] / number of pairs that are counted.

d is not observed. Votes show its second moment without bias: `s = E[d^2] = 2 P(two annotators agree) - 1`.
Two or three votes show nothing else about d. From s follow

- low: g_k(d) >= d^2 / 2, whatever the distribution of d. For more than three votes the agreement of the
  majorities of two halves of a pair's annotators is closer: 4 g_j(d) g_(k-j)(d) <= 2 g_k(d).
- high: g_k is concave in d^2, hence at most g_k(sqrt(s)) on average (Jensen's inequality). If pairs have
  different numbers of votes, s is divided among the numbers so that the bound is largest.
- a value between them: q has a symmetric beta distribution, Beta(a, a) with 1 / (2 a + 1) = s.

With three votes on every pair both bounds are attained: such data cannot decide between them.

Source: noise ceilings with a lower and an upper bound, Nili et al. 2014, PLoS Comput. Biol. 10(4); votes of a
beta-binomial distribution, Skellam 1948, J. R. Stat. Soc. B 10; the interval of a value that is known up to
bounds, Horowitz & Manski 2000, JASA 95. Annotators are assumed exchangeable: a model that learned the taste
of these very annotators may exceed the ceiling.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import exp, log, sqrt

import numpy as np
from scipy.special import betainc, betaln, gammaln

from rmbench.stats import Statistic, cluster_sums, combine, ratio
from rmbench.stats.clusters import Floats, Ints
from rmbench.stats.distributions import hypergeometric

_GRID = np.linspace(1e-6, 1.0 - 1e-12, 2001)
"""Values of d at which slopes are tabulated."""


def majority_excess(d: Floats | float, k: int) -> Floats:
    """Return g_k(d): P(the majority of k votes takes the side of share (1 + d) / 2) - 1/2, for odd k."""
    half = (k + 1) / 2
    return np.asarray(betainc(half, half, (1.0 + np.asarray(d)) / 2.0) - 0.5)


def most_excess(s: float, sizes: Ints, weights: Floats) -> Floats:
    """Return g_k(sqrt(s_k)) for each odd size, where the weighted sum is the largest for a mean of s_k of s.

    The sum is concave in the s_k, so it is largest where all slopes are equal. The function solves for it.

    Args:
        s: In [0, 1].
        sizes: Odd numbers of votes, shape (m,).
        weights: Share of the pairs with each number of votes, shape (m,); sums to 1.
    """
    from scipy.optimize import brentq  # a slow import that most commands do without

    roots = np.full(len(sizes), sqrt(s))
    if len(sizes) > 1 and 1e-9 < s < 1.0 - 1e-9:
        half = ((sizes + 1) / 2.0)[:, None]
        # d g_k / d (d^2), as a logarithm, falls from infinity at d = 0.
        steepness = (
            (half - 1.0) * (np.log1p(-np.square(_GRID)) - log(4.0)) - betaln(half, half) - np.log(_GRID)
        )

        def spread(level: float) -> Floats:
            return np.array([np.interp(-level, -row, _GRID) for row in steepness])

        ends = float(steepness.min()), float(steepness.max())
        roots = spread(brentq(lambda x: float(np.square(spread(x)) @ weights) - s, *ends))
    return np.array([float(majority_excess(d, int(k))) for d, k in zip(roots, sizes, strict=True)])


def beta_majority_excess(s: float, k: int) -> float:
    """Return E[g_k(d)] for odd k, where shares are Beta(a, a) with 1 / (2 a + 1) = s, in [0, 1]."""
    if s <= 1e-9:
        return 0.0
    if s >= 1.0 - 1e-9:
        return 0.5
    a = (1.0 / s - 1.0) / 2.0
    x = np.arange((k + 1) // 2, k + 1)
    ways = gammaln(k + 1) - gammaln(x + 1) - gammaln(k - x + 1)
    likely = np.exp(ways + betaln(x + a, k - x + a) - betaln(a, a))
    # Twice the part where the share is above one half.
    return float(2.0 * (likely * betainc(k - x + a, x + a, 0.5)).sum() - 0.5)


def two_alike(first: Ints, total: Ints) -> Floats:
    """Return P(two of a pair's votes agree) - P(they differ), (V,): d^2 without bias; two votes or more."""
    return np.asarray(((2 * first - total) ** 2 - total) / (total * (total - 1)), dtype=np.float64)


def halves_alike(first: Ints, total: Ints) -> Floats:
    """Return P(majorities of two random halves of the votes agree) - P(they differ), (V,)."""
    found = two_alike(first, total)
    for n, k in np.unique(np.stack([first, total], axis=1)[total > 3], axis=0).tolist():
        j = k // 2
        x = np.arange(j + 1)
        product = np.sign(2 * x - j) * np.sign(2 * (n - x) - (k - j))
        found[(first == n) & (total == k)] = float(hypergeometric(k, n, j) @ product)
    return found


Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Votes:
    """V pairs, each with at least one vote that is not a tie."""

    first: Ints
    """Votes for the first response, shape (V,)."""
    second: Ints
    """Votes for the second, shape (V,)."""
    cluster: Ints
    """Shape (V,)."""
    n_clusters: int

    @property
    def total(self) -> Ints:
        """Number of votes that are not ties, shape (V,)."""
        return self.first + self.second

    @property
    def counted(self) -> Floats:
        """1 if one response has more votes than the other, else 0, shape (V,)."""
        return np.asarray(self.first != self.second, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The accuracy of the best possible predictor, with its bounds."""

    value: Statistic
    """The ceiling if opinions are beta distributed. Its standard error is the sampling error; its interval
    holds the truth for any distribution."""
    low: Statistic
    high: Statistic
    n_single: int
    """Pairs with a single vote; their d is assumed to be distributed like that of the others."""


def ceiling_of(votes: Votes) -> Ceiling | str:
    """Return the ceiling for gold that is the majority of `votes`, or the reason why it is not known."""
    if not votes.counted.any():
        return "no pair has more votes for one response than for the other"
    several = votes.total >= 2
    if not several.any():
        return "no pair has two votes that are no ties"
    low, alike = _low(votes, several)
    high = _high(votes, alike)
    if high.value < low.value:
        high = replace(high, value=low.value)
    value = _if_beta(votes, alike)
    value = low if value.value < low.value else high if value.value > high.value else value
    ends = None if low.ci95 is None or high.ci95 is None else (low.ci95[0], high.ci95[1])
    n_single = int((~several).sum())
    remark = _remark(low.value, high.value, n_single)
    return Ceiling(replace(value, ci95=ends, remark=remark), low, high, n_single)


def share_of_ceiling(accuracy: Statistic, ceiling: Ceiling) -> Statistic:
    """Return accuracy / ceiling, on the same clusters.

    The interval goes from accuracy / high to accuracy / low, each with its error, by variance recovery on the
    log scale with the correlation of the two (Zou 2007, Psychol. Methods 12; Donner & Zou 2012, Stat. Methods
    Med. Res. 21).
    """
    top, bottom = accuracy, ceiling.value
    if top.influence is None or bottom.influence is None:
        raise AssertionError("means over clusters have influences")
    influence = top.influence / bottom.value - top.value * bottom.influence / bottom.value**2
    low, high = _ratio_interval(top, ceiling.high), _ratio_interval(top, ceiling.low)
    return replace(
        top,
        value=top.value / bottom.value,
        influence=influence,
        share=bottom.share,
        n_clusters=bottom.n_clusters,
        bounded=False,
        linear=False,
        ci95=None if low is None or high is None else (low[0], high[1]),
        remark=bottom.remark,
    )


def _low(votes: Votes, several: np.ndarray) -> tuple[Statistic, Statistic]:
    """Return the lower bound of the ceiling, and s with its error."""
    first, total = votes.first[several], votes.total[several]
    halves = halves_alike(first, total)
    alike = _mean(two_alike(first, total), total, votes, several)
    # Pairs with one vote are assumed to be like the others; for one vote, only d^2 is a lower bound.
    weight = float(several.mean())
    basis = combine([_mean(halves, total, votes, several), alike], [weight, 1.0 - weight])
    values = np.full(len(several), alike.value / 2.0)
    values[several] = halves / 2.0
    per_pair = len(several) / float(votes.counted.sum())
    low = _excess(votes, values, alike, 0.5 * float((~several).sum()))
    return _from_basis(low, basis, lambda b: b / 2.0 * per_pair), alike


def _high(votes: Votes, alike: Statistic) -> Statistic:
    """Return the upper bound of the ceiling."""
    sizes, place, n = np.unique(_odd(votes.total), return_inverse=True, return_counts=True)

    def excess(s: float) -> Floats:
        return most_excess(_within(s), sizes, n / n.sum())

    n_counted = float(votes.counted.sum())
    slope = _slope(lambda s: float(excess(s) @ n), _within(alike.value))
    high = _excess(votes, excess(alike.value)[place], alike, slope)
    return _from_basis(high, alike, lambda s: float(excess(s) @ n) / n_counted)


def _if_beta(votes: Votes, alike: Statistic) -> Statistic:
    """Return the ceiling where shares have a symmetric beta distribution."""
    s = _within(alike.value)
    sizes, place, n = np.unique(_odd(votes.total), return_inverse=True, return_counts=True)

    def excess(t: float) -> Floats:
        return np.array([beta_majority_excess(t, int(k)) for k in sizes])

    return _excess(votes, excess(s)[place], alike, _slope(lambda t: float(excess(t) @ n), s))


def _odd(total: Ints) -> Ints:
    """Return the odd number of votes whose majority is equally accurate: the number itself, or one less."""
    return total - (total + 1) % 2


def _within(s: float) -> float:
    return min(1.0, max(0.0, s))


def _mean(values: Floats, total: Ints, votes: Votes, several: np.ndarray) -> Statistic:
    least = -float((1.0 / np.where(total % 2, total, total - 1)).max()) if total.max() <= 3 else -1.0
    cluster = votes.cluster[several]
    return ratio(
        cluster_sums(values, cluster, votes.n_clusters),
        np.bincount(cluster, minlength=votes.n_clusters).astype(np.float64),
        n=len(values),
        higher_is_better=None,
        limits=(least, 1.0),
    )


def _excess(votes: Votes, values: Floats, alike: Statistic, slope: float) -> Statistic:
    """Return 1/2 + sum(values) / number of counted pairs; `slope` is the derivative of the sum by `alike`."""
    counted = cluster_sums(votes.counted, votes.cluster, votes.n_clusters)
    all_pairs = np.bincount(votes.cluster, minlength=votes.n_clusters).astype(np.float64)
    n = float(counted.sum())
    excess = float(values.sum()) / n
    influence = (cluster_sums(values, votes.cluster, votes.n_clusters) - excess * counted) / n
    found = Statistic(
        value=min(1.0, max(0.5, 0.5 + excess)),
        influence=influence,
        share=all_pairs / all_pairs.sum(),
        n=int(n),
        n_clusters=int(np.count_nonzero(all_pairs)),
        higher_is_better=None,
    )
    return replace(found, influence=_plus(found, slope / n, alike))


def _plus(statistic: Statistic, factor: float, other: Statistic) -> Floats:
    if statistic.influence is None or other.influence is None:
        raise AssertionError("means over clusters have influences")
    return statistic.influence + factor * other.influence


def _from_basis(statistic: Statistic, basis: Statistic, excess: Callable[[float], float]) -> Statistic:
    """Return the statistic with the interval of `basis`; it is an increasing function of `basis`.

    The share of counted pairs varies together with the basis. So the distances from the value are scaled by
    the change of the error.
    """
    ends = basis.interval()
    if ends is None or statistic.influence is None or basis.influence is None:
        return statistic
    at = excess(basis.value)
    alone = abs(_slope(excess, basis.value)) * float(np.linalg.norm(basis.influence))
    scale = float(np.linalg.norm(statistic.influence)) / alone if alone > 1e-12 else 1.0
    low, high = (0.5 + at + scale * (excess(end) - at) for end in ends)
    return replace(
        statistic, ci95=(max(0.5, min(low, statistic.value)), min(1.0, max(high, statistic.value)))
    )


def _slope(function: Callable[[float], float], at: float) -> float:
    """Return the derivative on [0, 1], two-sided inside and one-sided at the ends."""
    step = 1e-5
    low, high = max(0.0, at - step), min(1.0, at + step)
    return (function(high) - function(low)) / (high - low) if high > low else 0.0


def _ratio_interval(top: Statistic, bottom: Statistic) -> Interval | None:
    ends, below = top.interval(), bottom.ci95
    if ends is None or below is None or top.influence is None or bottom.influence is None:
        return None
    if top.value <= 0.0:
        return 0.0, ends[1] / below[0]
    norms = float(np.linalg.norm(top.influence)) * float(np.linalg.norm(bottom.influence))
    together = float(top.influence @ bottom.influence) / norms if norms > 1e-15 else 0.0
    down = _distance(_log_ratio(top.value, ends[0]), log(below[1] / bottom.value), together)
    up = _distance(log(ends[1] / top.value), log(bottom.value / below[0]), together)
    value = top.value / bottom.value
    return value * exp(-down), value * exp(up)


def _log_ratio(large: float, small: float) -> float:
    return log(large / small) if small > 0.0 else float("inf")


def _distance(a: float, b: float, correlation: float) -> float:
    return a if a == float("inf") else sqrt(max(0.0, a * a + b * b - 2.0 * correlation * a * b))


def _remark(low: float, high: float, n_single: int) -> str:
    alone = f"; {n_single:,} pairs with a single vote are taken to be like the others" if n_single else ""
    bounds = f"the ceiling is between {low:.3f} and {high:.3f} whatever the distribution of opinions"
    return f"{bounds}; the value assumes a beta{alone}"
