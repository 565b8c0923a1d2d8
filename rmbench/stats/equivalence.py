"""Equivalence: whether two models differ by at most a margin, by two one-sided tests.

Source: Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power approach", J.
Pharmacokinetics and Biopharmaceutics 15(6); Westlake 1981 for the interval that says the same: the test holds
at 5% exactly where the 90% interval lies within the margin. Hall 1992, "On the removal of skewness by
transformation", J. R. Stat. Soc. B 54, for differences of one direction.
"""

import numpy as np
from scipy.special import stdtr

from rmbench.stats.clusters import Floats
from rmbench.stats.intervals import TAIL, is_skewed
from rmbench.stats.statistic import Statistic

_BISECTIONS = 30


def equivalence(paired: Statistic, margin: float) -> float | None:
    """Return the p-value of "the models differ by `margin` or more"; None where no error is known.

    It is the larger one of two one-sided t tests, with the clustered error and its degrees of freedom. Where
    one model is wrong alone on nearly all clusters that tell them apart, a difference that came out small has
    too small an error as well: t is also tested with its skewness taken off, and the larger p counts. Where
    few clusters tell the models apart it is the smallest tail of the exact interval that lies within the
    margin.

    Args:
        paired: The difference of two models.
        margin: Above 0, in the metric's unit.
    """
    if paired.stderr is None or paired.freedom is None:
        return None
    if paired.exact_interval(TAIL) is not None:
        return _by_interval(paired, margin)
    if paired.stderr < 1e-12:
        return None  # nothing varied, and nothing is known of how far the difference could lie off
    plain = float(stdtr(paired.freedom, (abs(paired.value) - margin) / paired.stderr))
    if paired.influence is None or not is_skewed(paired.influence):
        return plain
    return max(plain, _without_skewness(paired, paired.influence, paired.stderr, paired.freedom, margin))


def _without_skewness(
    paired: Statistic, influence: Floats, stderr: float, freedom: float, margin: float
) -> float:
    skewness: float = float((influence**3).sum()) / float(np.square(influence).sum()) ** 1.5

    def symmetric(t: float) -> float:
        return t + skewness * t * t / 3.0 + skewness * skewness * t * t * t / 27.0 + skewness / 6.0

    above = float(stdtr(freedom, symmetric((paired.value - margin) / stderr)))
    below = float(stdtr(freedom, -symmetric((paired.value + margin) / stderr)))
    return float(max(above, below))


def _by_interval(paired: Statistic, margin: float) -> float:
    def within(tail: float) -> bool:
        found = paired.exact_interval(tail)
        return found is not None and -margin < found[0] and found[1] < margin

    low, high = 0.0, 0.5
    if not within(high):
        return 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if within(middle) else (middle, high)
    return high
